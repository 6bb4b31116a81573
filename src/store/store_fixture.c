// SPDX-License-Identifier: Apache-2.0
//
// See store_fixture.h.
#include "store/store_fixture.h"

#include <glib/gstdio.h>
#include <unistd.h>

void store_set_up(struct store_fixture *fixture, const void *data)
{
        fixture->directory = g_dir_make_tmp("store-test-XXXXXX", NULL);
        fixture->path = g_build_filename(fixture->directory, "metadata.sqlite", NULL);
        g_autoptr(GError) error = NULL;
        fixture->metadata = store_open(fixture->path, &error);
        g_assert_no_error(error);
        fixture->arena = arena_new();
}

void store_tear_down(struct store_fixture *fixture, const void *data)
{
        store_close(fixture->metadata);
        arena_free(fixture->arena);
        static const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
        for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
                g_autofree char *path = g_strconcat(fixture->path, suffixes[i], NULL);
                unlink(path);
        }
        g_assert_cmpint(rmdir(fixture->directory), ==, 0);
        g_free(fixture->directory);
        g_free(fixture->path);
}

struct image store_image(const char *name)
{
        static struct label items[] = {{"a", "1"}, {"b.c", "2"}};
        return (struct image){
                .name = name,
                .labels = {items, 2},
                .target = {.media_type = "application/x",
                        .digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                        .size = 5,
                        .annotations = {items, 1}},
                .created_ns = 10,
                .updated_ns = 11,
        };
}
