// SPDX-License-Identifier: Apache-2.0
#include "sys/numbered.h"

#include "base/error.h"
#include "base/fd.h"
#include "sys/tree.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

struct fixture {
        char *base, *root;
};

static void set_up(struct fixture *f, gconstpointer data)
{
        f->base = g_dir_make_tmp("numbered-test-XXXXXX", NULL);
        f->root = g_build_filename(f->base, "a", "numbered", NULL);
        g_autoptr(GError) error = NULL;
        g_assert_true(numbered_open(f->root, &error));
        g_assert_no_error(error);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
        g_assert_true(tree_remove(f->base, NULL));
        g_free(f->base);
        g_free(f->root);
}

static void open_makes_the_root_and_takes_what_is_there(struct fixture *f, gconstpointer data)
{
        struct stat status;
        g_assert_cmpint(stat(f->root, &status), ==, 0);
        g_assert_cmpint(status.st_mode & 07777, ==, 0700);
        g_assert_true(numbered_open(f->root, NULL));
}

static void entries_are_spread_on_ext4(struct fixture *f, gconstpointer data)
{
        struct statfs kind;
        int flags = 0;
        fd_auto int fd = open(f->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(fstatfs(fd, &kind), ==, 0);
        if (kind.f_type != EXT4_SUPER_MAGIC) {
                g_test_skip("no ext4");
                return;
        }
        g_assert_cmpint(ioctl(fd, FS_IOC_GETFLAGS, &flags), ==, 0);
        g_assert_true((flags & FS_TOPDIR_FL) != 0);
}

static void note(void *data, int64_t number, const char *path)
{
        g_autofree char *name = g_path_get_basename(path);
        g_string_append_printf(data, "%" G_GINT64_FORMAT "=%s;", number, name);
}

static void only_numbers_as_we_write_them_are_listed_as_such(struct fixture *f, gconstpointer data)
{
        static const char *const others[] = {"0", "01", "-1", "+1", "1x", "9223372036854775808"};
        for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
                g_autofree char *path = g_build_filename(f->root, others[i], NULL);
                g_autofree char *wanted = g_strdup_printf("-1=%s;", others[i]);
                g_autoptr(GString) found = g_string_new(NULL);
                g_assert_cmpint(mkdir(path, 0700), ==, 0);
                g_assert_true(numbered_list(f->root, note, found, NULL));
                g_assert_cmpstr(found->str, ==, wanted);
                g_assert_true(tree_remove(path, NULL));
        }
        g_autofree char *directory = numbered_begin(f->root, NULL);
        g_autofree char *path = numbered_place(f->root, directory, INT64_MAX, NULL);
        g_assert_nonnull(path);
        g_autoptr(GString) found = g_string_new(NULL);
        g_assert_true(numbered_list(f->root, note, found, NULL));
        g_assert_cmpstr(found->str, ==, "9223372036854775807=9223372036854775807;");
}

static void a_number_that_is_taken_stays_as_it_is(struct fixture *f, gconstpointer data)
{
        g_autofree char *first = numbered_begin(f->root, NULL);
        g_autofree char *placed = numbered_place(f->root, first, 5, NULL);
        g_autofree char *second = numbered_begin(f->root, NULL);
        g_autoptr(GError) error = NULL;
        g_assert_nonnull(placed);
        g_assert_null(numbered_place(f->root, second, 5, &error));
        g_assert_nonnull(strstr(error->message, "file exists"));
        g_assert_true(g_file_test(second, G_FILE_TEST_IS_DIR));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(function) g_test_add("/numbered/" #function, struct fixture, NULL, set_up, function, tear_down)
        ADD(open_makes_the_root_and_takes_what_is_there);
        ADD(entries_are_spread_on_ext4);
        ADD(only_numbers_as_we_write_them_are_listed_as_such);
        ADD(a_number_that_is_taken_stays_as_it_is);
        return g_test_run();
}
