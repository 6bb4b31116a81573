// SPDX-License-Identifier: Apache-2.0
//
// The layers of an overlay are the fs directories of a snapshot and its parents; nothing is copied. A single layer
// needs no overlay: it is a bind mount. The option strings, their order included, are containerd's, as clients take
// them apart.
#include "plugins/snapshot_overlay/overlay.h"

#include "sys/numbered.h"
#include "sys/tree.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LABEL_UPPERDIR "containerd.io/snapshot/overlay.upperdir"
#define LABEL_UID_MAPPING "containerd.io/snapshot/uidmapping"
#define LABEL_GID_MAPPING "containerd.io/snapshot/gidmapping"

struct overlay {
        struct snapshot_driver base;
        char *root, *snapshots; // ROOT, ROOT/snapshots
        GPtrArray *options;     // for all overlays
        bool upperdir_label;
};

// ---- make

static bool make_directory(const char *parent, const char *name, mode_t mode, GError **error)
{
        g_autofree char *path = g_build_filename(parent, name, NULL);
        // The mode does not depend on the daemon's umask.
        return (mkdir(path, mode) == 0 && chmod(path, mode) == 0) ||
               error_fail_errno(error, errno, "failed to create %s", path);
}

// The host's id of the container's 0 in "CONTAINER:HOST:SIZE,…".
static bool map_root(const char *mapping, uint32_t *ret_id, GError **error)
{
        g_auto(GStrv) entries = g_strsplit(mapping != NULL ? mapping : "", ",", -1);
        for (char **entry = entries; *entry != NULL; entry++) {
                uint32_t container, host, size;
                int end = 0;
                if (sscanf(*entry, "%u:%u:%u%n", &container, &host, &size, &end) != 3 || (*entry)[end] != '\0')
                        break;
                if (container == 0 && size > 0) {
                        *ret_id = host;
                        return true;
                }
        }
        return error_fail(error, ERROR_INVALID_ARGUMENT,
                "failed to find root pair: invalid id mapping \"%s\": invalid argument",
                mapping != NULL ? mapping : "");
}

// A mapped root, or else the owner of the topmost parent.
static bool give_owner(const char *directory, const struct snapshot_place *place, GError **error)
{
        const char *uids = labels_get(place->labels, LABEL_UID_MAPPING);
        const char *gids = labels_get(place->labels, LABEL_GID_MAPPING);
        g_autofree char *path = g_build_filename(directory, "fs", NULL);
        uint32_t uid, gid;
        if (uids != NULL || gids != NULL) {
                if (!map_root(uids, &uid, error) || !map_root(gids, &gid, error))
                        return false;
        } else if (place->n_parents > 0) {
                g_autofree char *parent = g_build_filename(place->parents[0], "fs", NULL);
                struct stat status;
                if (stat(parent, &status) != 0)
                        return error_fail_errno(error, errno, "failed to stat parent: stat %s", parent);
                uid = status.st_uid;
                gid = status.st_gid;
        } else {
                return true;
        }
        return lchown(path, uid, gid) == 0 || error_fail_errno(error, errno, "failed to chown: lchown %s", path);
}

static char *overlay_make(
        struct snapshot_driver *driver, int64_t number, const struct snapshot_place *place, GError **error)
{
        const struct overlay *overlay = (const struct overlay *)driver;
        g_autofree char *directory = numbered_begin(overlay->snapshots, error);
        if (directory == NULL)
                return NULL;
        char *path = NULL;
        if (make_directory(directory, "fs", 0755, error) &&
                (place->kind == SNAPSHOT_VIEW || make_directory(directory, "work", 0711, error)) &&
                give_owner(directory, place, error))
                path = numbered_place(overlay->snapshots, directory, number, error);
        if (path == NULL)
                tree_remove(directory, NULL);
        return path;
}

// ---- mounts

static void add_option(GPtrArray *options, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void add_option(GPtrArray *options, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        g_ptr_array_add(options, g_strdup_vprintf(format, args));
        va_end(args);
}

static struct mount *bind(const char *directory, const char *access)
{
        g_autofree char *source = g_build_filename(directory, "fs", NULL);
        return mount_new("bind", source, NULL, (const char *const[]){access, "rbind", NULL});
}

static struct mount *stack(const struct overlay *overlay, const struct snapshot_place *place)
{
        g_autoptr(GPtrArray) options = g_ptr_array_new_with_free_func(g_free);
        if (place->kind == SNAPSHOT_ACTIVE) {
                add_option(options, "workdir=%s/work", place->directory);
                add_option(options, "upperdir=%s/fs", place->directory);
        }
        GString *lower = g_string_new("lowerdir=");
        for (size_t i = 0; i < place->n_parents; i++)
                g_string_append_printf(lower, "%s%s/fs", i > 0 ? ":" : "", place->parents[i]);
        g_ptr_array_add(options, g_string_free(lower, false));
        for (guint i = 0; i < overlay->options->len; i++)
                add_option(options, "%s", (const char *)overlay->options->pdata[i]);
        g_ptr_array_add(options, NULL);
        return mount_new("overlay", "overlay", NULL, (const char *const *)options->pdata);
}

static GPtrArray *overlay_mounts(struct snapshot_driver *driver, const struct snapshot_place *place, GError **error)
{
        const struct overlay *overlay = (const struct overlay *)driver;
        bool view = place->kind == SNAPSHOT_VIEW;
        GPtrArray *mounts = mounts_new();
        if (place->n_parents == 0)
                g_ptr_array_add(mounts, bind(place->directory, view ? "ro" : "rw"));
        else if (view && place->n_parents == 1)
                g_ptr_array_add(mounts, bind(place->parents[0], "ro"));
        else
                g_ptr_array_add(mounts, stack(overlay, place));
        return mounts;
}

// ---- the rest

static bool overlay_measure(struct snapshot_driver *driver, const struct snapshot_place *place,
        struct snapshot_usage *ret_usage, GError **error)
{
        g_autofree char *path = g_build_filename(place->directory, "fs", NULL);
        struct tree_usage usage;
        if (!tree_usage(path, &usage, error))
                return false;
        *ret_usage = (struct snapshot_usage){.size_bytes = usage.n_bytes, .inodes = usage.n_inodes};
        return true;
}

// What is below fs is a layer already, whatever it lies on: whiteouts name only what is to be hidden. The root gets the
// owner that it would have been made with, unless the layer has given it one.
static bool overlay_commit(
        struct snapshot_driver *driver, const struct snapshot_place *place, bool rebased, GError **error)
{
        struct stat status;
        g_autofree char *path = g_build_filename(place->directory, "fs", NULL);
        if (!rebased)
                return true;
        if (stat(path, &status) != 0)
                return error_fail_errno(error, errno, "stat %s", path);
        return status.st_uid != 0 || status.st_gid != 0 || give_owner(place->directory, place, error);
}

static bool overlay_sync(struct snapshot_driver *driver, const char *directory, GError **error)
{
        return tree_sync(directory, error);
}

static bool overlay_remove(struct snapshot_driver *driver, const char *directory, GError **error)
{
        return tree_remove(directory, error);
}

static bool overlay_exists(struct snapshot_driver *driver, const char *directory)
{
        g_autofree char *path = g_build_filename(directory, "fs", NULL);
        return g_file_test(path, G_FILE_TEST_IS_DIR);
}

static bool overlay_list(struct snapshot_driver *driver, snapshot_directory_fn fn, void *data, GError **error)
{
        return numbered_list(((const struct overlay *)driver)->snapshots, fn, data, error);
}

static void overlay_describe(
        struct snapshot_driver *driver, const struct snapshot *snapshot, struct labels *labels, struct arena *arena)
{
        if (((const struct overlay *)driver)->upperdir_label)
                labels_set(labels, arena, LABEL_UPPERDIR, arena_printf(arena, "%s/fs", snapshot->directory));
}

static const struct snapshot_driver_ops ops = {
        .make = overlay_make,
        .mounts = overlay_mounts,
        .measure = overlay_measure,
        .commit = overlay_commit,
        .sync = overlay_sync,
        .remove = overlay_remove,
        .exists = overlay_exists,
        .list = overlay_list,
        .describe = overlay_describe,
};

struct snapshot_driver *overlay_new(const struct overlay_options *options, GError **error)
{
        struct overlay *overlay = g_new0(struct overlay, 1);
        overlay->root = g_strdup(options->root);
        overlay->snapshots = g_build_filename(options->root, "snapshots", NULL);
        overlay->base = (struct snapshot_driver){&ops, overlay->root, options->sync_remove, true};
        overlay->upperdir_label = options->upperdir_label;
        overlay->options = g_ptr_array_new_with_free_func(g_free);
        for (const char *const *option = options->mount_options; option != NULL && *option != NULL; option++)
                g_ptr_array_add(overlay->options, g_strdup(*option));
        if (!numbered_open(overlay->snapshots, error) || !overlay_probe(overlay->root, overlay->options, error)) {
                overlay_free(&overlay->base);
                return NULL;
        }
        return &overlay->base;
}

void overlay_free(struct snapshot_driver *driver)
{
        struct overlay *overlay = (struct overlay *)driver;
        if (overlay == NULL)
                return;
        g_ptr_array_free(overlay->options, true);
        g_free(overlay->root);
        g_free(overlay->snapshots);
        g_free(overlay);
}
