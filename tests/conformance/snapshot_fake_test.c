// SPDX-License-Identifier: Apache-2.0
//
// The smallest snapshot driver: directories are hash tables. It proves that the suite and the snapshotter ask for
// nothing that only a file system has.
#include "snapshot_suite.h"

#include <string.h>
#include <uv.h>

struct fake {
        struct snapshot_driver base;
        uv_mutex_t mutex;
        GHashTable *directories; // path → GHashTable of name → text; under mutex
};

// The mounts hold the path of the driver's only instance.
static struct fake *the_fake;

static char *fake_make(
        struct snapshot_driver *driver, int64_t number, const struct snapshot_place *place, GError **error)
{
        char *path = g_strdup_printf("%s/%" G_GINT64_FORMAT, driver->root, number);
        uv_mutex_lock(&the_fake->mutex);
        g_assert_false(g_hash_table_contains(the_fake->directories, path));
        g_hash_table_insert(
                the_fake->directories, g_strdup(path), g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free));
        uv_mutex_unlock(&the_fake->mutex);
        return path;
}

static GPtrArray *fake_mounts(struct snapshot_driver *driver, const struct snapshot_place *place, GError **error)
{
        GPtrArray *mounts = mounts_new();
        g_autofree char *parents =
                g_strjoinv(":", (char **)(place->n_parents > 0 ? place->parents : (const char *const[]){NULL}));
        g_ptr_array_add(mounts, mount_new("fake", place->directory, parents,
                                        (const char *const[]){place->kind == SNAPSHOT_VIEW ? "ro" : "rw", NULL}));
        return mounts;
}

static bool fake_write(const GPtrArray *mounts, const char *name, const char *text)
{
        const struct mount *mount = mounts->pdata[0];
        if (g_str_equal(mount->options[0], "ro"))
                return false;
        uv_mutex_lock(&the_fake->mutex);
        GHashTable *directory = g_hash_table_lookup(the_fake->directories, mount->source);
        g_hash_table_insert(directory, g_strdup(name), g_strdup(text != NULL ? text : ""));
        uv_mutex_unlock(&the_fake->mutex);
        return true;
}

static char *fake_read(const GPtrArray *mounts, const char *name)
{
        const struct mount *mount = mounts->pdata[0];
        g_autofree char *all = g_strconcat(mount->source, ":", mount->target, NULL);
        g_auto(GStrv) layers = g_strsplit(all, ":", -1);
        const char *text = NULL;
        uv_mutex_lock(&the_fake->mutex);
        for (char **layer = layers; *layer != NULL && text == NULL; layer++) {
                GHashTable *directory = g_hash_table_lookup(the_fake->directories, *layer);
                text = directory != NULL ? g_hash_table_lookup(directory, name) : NULL;
        }
        char *copy = text != NULL && text[0] != '\0' ? g_strdup(text) : NULL;
        uv_mutex_unlock(&the_fake->mutex);
        return copy;
}

static bool fake_measure(struct snapshot_driver *driver, const struct snapshot_place *place,
        struct snapshot_usage *ret_usage, GError **error)
{
        uv_mutex_lock(&the_fake->mutex);
        GHashTable *directory = g_hash_table_lookup(the_fake->directories, place->directory);
        *ret_usage = (struct snapshot_usage){.inodes = 1 + g_hash_table_size(directory)};
        GHashTableIter iter;
        gpointer text;
        g_hash_table_iter_init(&iter, directory);
        while (g_hash_table_iter_next(&iter, NULL, &text))
                ret_usage->size_bytes += (int64_t)strlen(text);
        uv_mutex_unlock(&the_fake->mutex);
        return true;
}

static bool fake_commit(
        struct snapshot_driver *driver, const struct snapshot_place *place, bool rebased, GError **error)
{
        return true;
}

static bool fake_sync(struct snapshot_driver *driver, const char *directory, GError **error)
{
        return true;
}

static bool fake_remove(struct snapshot_driver *driver, const char *directory, GError **error)
{
        uv_mutex_lock(&the_fake->mutex);
        g_hash_table_remove(the_fake->directories, directory);
        uv_mutex_unlock(&the_fake->mutex);
        return true;
}

static bool fake_exists(struct snapshot_driver *driver, const char *directory)
{
        uv_mutex_lock(&the_fake->mutex);
        bool exists = g_hash_table_contains(the_fake->directories, directory);
        uv_mutex_unlock(&the_fake->mutex);
        return exists;
}

static bool fake_list(struct snapshot_driver *driver, snapshot_directory_fn fn, void *data, GError **error)
{
        uv_mutex_lock(&the_fake->mutex);
        GHashTableIter iter;
        gpointer path;
        g_hash_table_iter_init(&iter, the_fake->directories);
        while (g_hash_table_iter_next(&iter, &path, NULL))
                fn(data, g_ascii_strtoll(strrchr(path, '/') + 1, NULL, 10), path);
        uv_mutex_unlock(&the_fake->mutex);
        return true;
}

static struct snapshot_driver *fake_open(const char *root, GError **error)
{
        static const struct snapshot_driver_ops ops = {
                .make = fake_make,
                .mounts = fake_mounts,
                .measure = fake_measure,
                .commit = fake_commit,
                .sync = fake_sync,
                .remove = fake_remove,
                .exists = fake_exists,
                .list = fake_list,
        };
        the_fake = g_new0(struct fake, 1);
        the_fake->base = (struct snapshot_driver){.ops = &ops, .root = g_strdup(root), .can_rebase = true};
        uv_mutex_init(&the_fake->mutex);
        the_fake->directories =
                g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_hash_table_unref);
        return &the_fake->base;
}

static void fake_close(struct snapshot_driver *driver)
{
        g_hash_table_unref(the_fake->directories);
        uv_mutex_destroy(&the_fake->mutex);
        g_free((char *)driver->root);
        g_free(the_fake);
}

int main(int argc, char **argv)
{
        static const struct snapshot_implementer implementer = {
                .name = "fake",
                .open = fake_open,
                .close = fake_close,
                .write = fake_write,
                .read = fake_read,
        };
        return snapshot_suite_main(argc, argv, &implementer);
}
