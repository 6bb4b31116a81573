// SPDX-License-Identifier: Apache-2.0
//
// An active snapshot begins as a copy of its parent, so it needs no parent any more; a view of a parent is the parent's
// directory, mounted read-only, and has none of its own.
#include "plugins/snapshot_native/native.h"

#include "sys/numbered.h"
#include "sys/tree.h"

#include <sys/stat.h>

struct native {
        struct snapshot_driver base;
        char *root, *snapshots;
};

static char *native_make(
        struct snapshot_driver *driver, int64_t number, const struct snapshot_place *place, GError **error)
{
        const struct native *native = (const struct native *)driver;
        if (place->kind == SNAPSHOT_VIEW && place->n_parents > 0)
                return g_strdup("");
        g_autofree char *directory = numbered_begin(native->snapshots, error);
        if (directory == NULL)
                return NULL;
        bool ok = chmod(directory, 0755) == 0 || error_fail_errno(error, errno, "chmod %s", directory);
        if (ok && place->n_parents > 0 && !(ok = tree_copy(place->parents[0], directory, error)))
                g_prefix_error(error, "copying of parent failed: ");
        char *path = ok ? numbered_place(native->snapshots, directory, number, error) : NULL;
        if (path == NULL)
                tree_remove(directory, NULL);
        return path;
}

static GPtrArray *native_mounts(struct snapshot_driver *driver, const struct snapshot_place *place, GError **error)
{
        bool view = place->kind == SNAPSHOT_VIEW;
        const char *source = view && place->n_parents > 0 ? place->parents[0] : place->directory;
        GPtrArray *mounts = mounts_new();
        g_ptr_array_add(
                mounts, mount_new("bind", source, NULL, (const char *const[]){"rbind", view ? "ro" : "rw", NULL}));
        return mounts;
}

static bool native_measure(struct snapshot_driver *driver, const struct snapshot_place *place,
        struct snapshot_usage *ret_usage, GError **error)
{
        struct tree_usage usage;
        if (!tree_usage(place->directory, &usage, error))
                return false;
        *ret_usage = (struct snapshot_usage){.size_bytes = usage.n_bytes, .inodes = usage.n_inodes};
        return true;
}

static bool native_commit(
        struct snapshot_driver *driver, const struct snapshot_place *place, bool rebased, GError **error)
{
        // The parent's content would have to be merged into the copy.
        return !rebased || error_fail(error, ERROR_UNIMPLEMENTED,
                                   "the native snapshotter cannot change the parent of a snapshot: not implemented");
}

static bool native_sync(struct snapshot_driver *driver, const char *directory, GError **error)
{
        return tree_sync(directory, error);
}

static bool native_remove(struct snapshot_driver *driver, const char *directory, GError **error)
{
        return tree_remove(directory, error);
}

static bool native_exists(struct snapshot_driver *driver, const char *directory)
{
        return g_file_test(directory, G_FILE_TEST_IS_DIR);
}

static bool native_list(struct snapshot_driver *driver, snapshot_directory_fn fn, void *data, GError **error)
{
        return numbered_list(((const struct native *)driver)->snapshots, fn, data, error);
}

static const struct snapshot_driver_ops ops = {
        .make = native_make,
        .mounts = native_mounts,
        .measure = native_measure,
        .commit = native_commit,
        .sync = native_sync,
        .remove = native_remove,
        .exists = native_exists,
        .list = native_list,
};

struct snapshot_driver *native_new(const char *root, GError **error)
{
        struct native *native = g_new0(struct native, 1);
        native->root = g_strdup(root);
        native->snapshots = g_build_filename(root, "snapshots", NULL);
        native->base = (struct snapshot_driver){.ops = &ops, .root = native->root};
        if (!numbered_open(native->snapshots, error)) {
                native_free(&native->base);
                return NULL;
        }
        return &native->base;
}

void native_free(struct snapshot_driver *driver)
{
        struct native *native = (struct native *)driver;
        if (native == NULL)
                return;
        g_free(native->root);
        g_free(native->snapshots);
        g_free(native);
}
