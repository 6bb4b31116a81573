// SPDX-License-Identifier: Apache-2.0
//
// Each entry in turn: its place is found (links within the rootfs are followed, missing directories are made),
// whiteouts are taken care of, what is there already gives way unless both are directories, and the new thing is made
// by the functions of node.c. Directories get their times at the end, as every entry below changes them.
#include "unpack/layer.h"

#include "unpack/node.h"
#include "unpack/rootfs.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"

enum { INPUT_BYTES = 1024 * 1024, MAX_NAME_BYTES = 64 * 1024 };

struct directory_times {
        char *path;
        struct timespec times[2];
};

struct layer {
        const struct layer_options *options;
        struct report *report;
        struct rootfs *rootfs;
        struct archive *archive;
        uint8_t *input;
        GHashTable *unpacked; // set of paths, for opaque markers; only where they remove
        GArray *directories;  // of struct directory_times
        struct layer_result result;
};

static void free_times(void *data)
{
        g_free(((struct directory_times *)data)->path);
}

static void on_invented(void *data, const char *path)
{
        struct layer *layer = data;
        report_invented(layer->report, path);
}

static la_ssize_t on_read(struct archive *archive, void *data, const void **ret_bytes)
{
        struct layer *layer = data;
        ssize_t n = layer->options->read(layer->options->data, layer->input, INPUT_BYTES);
        if (n < 0)
                archive_set_error(archive, errno, "read: %s", errno_text(errno));
        *ret_bytes = layer->input;
        return n;
}

static bool archive_failed(struct layer *layer, const char *what, GError **error)
{
        const char *text = archive_error_string(layer->archive);
        return error_fail(error, ERROR_INVALID_ARGUMENT, "%s: %s", what, text != NULL ? text : "damaged archive");
}

// ---- whiteouts

static bool remove_place(struct layer *layer, const struct rootfs_place *place, GError **error)
{
        g_autofree char *path = rootfs_place_path(place);
        report_removed(layer->report, path);
        return rootfs_remove(layer->rootfs, place, error);
}

static bool was_unpacked(void *data, const char *path)
{
        struct layer *layer = data;
        if (g_hash_table_contains(layer->unpacked, path))
                return true;
        report_removed(layer->report, path);
        return false;
}

static bool apply_opaque(struct layer *layer, const struct rootfs_place *place, GError **error)
{
        if (!layer->options->overlay)
                return rootfs_remove_others(layer->rootfs, place, was_unpacked, layer, error);
        report_opaque(layer->report, place->directory);
        return true;
}

static bool apply_whiteout(
        struct layer *layer, const struct rootfs_place *place, const struct node *node, GError **error)
{
        struct rootfs_place hidden = *place;
        hidden.name += strlen(WHITEOUT);
        if (*hidden.name == '\0' || strcmp(hidden.name, ".") == 0 || strcmp(hidden.name, "..") == 0)
                return error_fail(
                        error, ERROR_INVALID_ARGUMENT, "invalid whiteout name: %s: invalid archive", place->name);
        if (!layer->options->overlay)
                return remove_place(layer, &hidden, error);
        return node_make_whiteout(node, &hidden, layer->report, error);
}

// ---- entries

static struct timespec bounded_time(time_t seconds, long nanoseconds)
{
        // Go's time stamps end in 2262; what lies outside becomes 1970.
        if (seconds < 0 || seconds >= INT64_MAX / 1000000000)
                return (struct timespec){0};
        return (struct timespec){seconds, nanoseconds};
}

static bool is_later(const struct timespec *a, const struct timespec *b)
{
        return a->tv_sec > b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec > b->tv_nsec);
}

static struct node describe(struct layer *layer, struct archive_entry *entry)
{
        struct node node = {.archive = layer->archive, .entry = entry};
        node.hardlink = archive_entry_hardlink(entry);
        node.type = archive_entry_filetype(entry);
        node.mode = archive_entry_perm(entry) & 07777;
        node.uid = (uid_t)archive_entry_uid(entry);
        node.gid = (gid_t)archive_entry_gid(entry);
        node.times[1] = bounded_time(archive_entry_mtime(entry), archive_entry_mtime_nsec(entry));
        node.times[0] = node.times[1];
        if (archive_entry_atime_is_set(entry)) {
                struct timespec read = bounded_time(archive_entry_atime(entry), archive_entry_atime_nsec(entry));
                if (is_later(&read, &node.times[0]))
                        node.times[0] = read;
        }
        return node;
}

static bool make(struct layer *layer, const struct node *node, const struct rootfs_place *place, GError **error)
{
        struct node_context context = {.rootfs = layer->rootfs, .report = layer->report, .bytes = &layer->result.bytes};
        enum node_outcome outcome = node_make(&context, node, place, error);
        if (outcome == NODE_EXISTS) {
                if (!remove_place(layer, place, error))
                        return false;
                outcome = node_make(&context, node, place, error);
                if (outcome == NODE_EXISTS)
                        return error_fail(error, ERROR_UNKNOWN, "file exists");
        }
        return outcome == NODE_DONE;
}

static bool apply_place(struct layer *layer, const struct node *node, const struct rootfs_place *place, GError **error)
{
        if (strcmp(place->name, OPAQUE) == 0)
                return apply_opaque(layer, place, error);
        if (g_str_has_prefix(place->name, WHITEOUT))
                return apply_whiteout(layer, place, node, error);
        g_autofree char *path = rootfs_place_path(place);
        report_made(layer->report, path);
        if (!make(layer, node, place, error))
                return false;
        if (node->hardlink == NULL && node->type == AE_IFDIR) {
                struct directory_times times = {g_strdup(path), {node->times[0], node->times[1]}};
                g_array_append_val(layer->directories, times);
        }
        if (!layer->options->overlay)
                g_hash_table_add(layer->unpacked, g_steal_pointer(&path));
        return true;
}

static bool apply_entry(struct layer *layer, struct archive_entry *entry, GError **error)
{
        const char *name = archive_entry_pathname(entry);
        if (name == NULL || strlen(name) > MAX_NAME_BYTES)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "entry without a usable name");
        if (layer->options->max_entries > 0 && layer->result.entries >= layer->options->max_entries)
                return error_fail(error, ERROR_RESOURCE_EXHAUSTED, "more than %" G_GUINT64_FORMAT " entries",
                        layer->options->max_entries);
        layer->result.entries++;
        g_autofree char *path = rootfs_clean(name);
        if (*path == '\0') // the root itself keeps what it has
                return true;
        struct node node = describe(layer, entry);
        struct rootfs_place place;
        if (rootfs_find(layer->rootfs, path, true, &place, error) && apply_place(layer, &node, &place, error))
                return true;
        g_prefix_error(error, "%s: ", name);
        return false;
}

static bool apply_entries(struct layer *layer, GError **error)
{
        for (;;) {
                struct archive_entry *entry;
                int status = archive_read_next_header(layer->archive, &entry);
                if (status == ARCHIVE_EOF)
                        return true;
                if (status == ARCHIVE_RETRY)
                        continue;
                if (status < ARCHIVE_WARN) // warnings are about names that are not UTF-8, and taken as they are
                        return archive_failed(layer, "read archive", error);
                if (!apply_entry(layer, entry, error))
                        return false;
        }
}

static bool drain(struct layer *layer, GError **error)
{
        ssize_t n;
        while ((n = layer->options->read(layer->options->data, layer->input, INPUT_BYTES)) > 0)
                continue;
        return n == 0 || error_fail_errno(error, errno, "read archive");
}

// A directory that is gone again, or is something else now, has no times to get.
static void set_directory_times(struct layer *layer)
{
        for (guint i = layer->directories->len; i > 0; i--) {
                const struct directory_times *times = &g_array_index(layer->directories, struct directory_times, i - 1);
                int fd = rootfs_open(layer->rootfs, times->path, O_RDONLY | O_DIRECTORY);
                if (fd < 0)
                        continue;
                futimens(fd, times->times);
                close(fd);
        }
}

bool layer_apply(
        const struct layer_options *options, struct report *report, struct layer_result *ret_result, GError **error)
{
        g_autofree uint8_t *input = g_malloc(INPUT_BYTES);
        struct layer layer = {.options = options, .report = report, .input = input};
        layer.rootfs = rootfs_new(options->root_fd, on_invented, &layer);
        layer.unpacked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        layer.directories = g_array_new(FALSE, FALSE, sizeof(struct directory_times));
        g_array_set_clear_func(layer.directories, free_times);
        layer.archive = archive_read_new();
        archive_read_support_format_tar(layer.archive);
        archive_read_support_format_empty(layer.archive);
        bool good = archive_read_open(layer.archive, &layer, NULL, on_read, NULL) == ARCHIVE_OK ||
                    archive_failed(&layer, "open archive", error);
        good = good && apply_entries(&layer, error) && drain(&layer, error);
        if (good) {
                set_directory_times(&layer);
                *ret_result = layer.result;
        }
        archive_read_free(layer.archive);
        g_array_unref(layer.directories);
        g_hash_table_unref(layer.unpacked);
        rootfs_free(layer.rootfs);
        return good;
}
