// SPDX-License-Identifier: Apache-2.0
//
// Runs a fuzz target over files, as a unit test: usage: NAME_fuzz DIRECTORY-OR-FILE... Besides each file as it is, its
// first half is tried, since input that ends early is the commonest cause of reading too far. Bytes are copied to
// memory of exactly their size, so that AddressSanitizer sees the first byte behind.
#include "fuzz.h"

#include <glib.h>
#include <string.h>

static void run(const char *bytes, size_t size)
{
        g_autofree uint8_t *exact = g_malloc(size > 0 ? size : 1);
        if (size > 0)
                memcpy(exact, bytes, size);
        g_assert_cmpint(LLVMFuzzerTestOneInput(exact, size), ==, 0);
}

static void replay_file(const void *data)
{
        g_autofree char *bytes = NULL;
        gsize size;
        g_autoptr(GError) error = NULL;
        g_file_get_contents(data, &bytes, &size, &error);
        g_assert_no_error(error);
        run(bytes, size);
        run(bytes, size / 2);
}

static void add_file(const char *path)
{
        g_autofree char *base = g_path_get_basename(path), *name = g_strconcat("/corpus/", base, NULL);
        g_test_add_data_func_full(name, g_strdup(path), replay_file, g_free);
}

static void add_directory(const char *path)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GDir) directory = g_dir_open(path, 0, &error);
        g_assert_no_error(error);
        unsigned count = 0;
        for (const char *name; (name = g_dir_read_name(directory)) != NULL; count++) {
                g_autofree char *file = g_build_filename(path, name, NULL);
                add_file(file);
        }
        g_assert_cmpuint(count, >, 0);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        for (int i = 1; i < argc; i++) {
                if (g_file_test(argv[i], G_FILE_TEST_IS_DIR))
                        add_directory(argv[i]);
                else
                        add_file(argv[i]);
        }
        return g_test_run();
}
