// SPDX-License-Identifier: Apache-2.0
//
// One snapshot after the other: its directory is made anew under its old number, so that what the kernel left there
// cannot show through, filled by the differ from the blob that the row names, synced, and only then marked. A crash in
// the middle changes nothing: the row still says that the content is not to be trusted. A row whose parent waits to be
// repaired comes after it, as drivers copy from parents and layers take directories from them.
#include "core/snapshot_repair.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "core/content.h"
#include "core/differ.h"
#include "core/snapshotter_internal.h"

#include <string.h>

// The row does not say how the layer was packed; under this type it may be compressed or not.
#define MEDIA_TYPE "application/vnd.docker.image.rootfs.diff.tar"

struct torn {
        const char *namespace_;
        struct snapshot row;
};

struct repair {
        struct snapshot_repair_options options;
        struct arena *arena;
        GPtrArray *waiting; // of struct torn, in arena
        struct torn *current;
        struct snapshot_place place; // of the current one
        char *directory;
        struct differ_apply *apply;
        char *diff_id; // what the differ found,
        GError *error; // or why it failed
        struct strand *strand;
        unsigned n_repaired;
        int64_t start_ns;
};

static void next_snapshot(struct repair *repair);

// ---- one snapshot

static bool mark_whole(struct tx *tx, void *data, GError **error)
{
        struct repair *repair = data;
        struct snapshotter *snapshotter = repair->options.snapshotter;
        const struct torn *torn = repair->current;
        struct snapshot row;
        if (!snapshotter_get(snapshotter, tx, torn->namespace_, torn->row.key, repair->arena, &row, error))
                return false;
        row.directory = repair->directory;
        row.synced = true;
        return snapshotter->metadata->snapshots->update(tx, torn->namespace_, &row, error);
}

static void end_snapshot(struct repair *repair, const GError *error)
{
        struct snapshotter *snapshotter = repair->options.snapshotter;
        const struct torn *torn = repair->current;
        if (error != NULL)
                log_error("snapshot is not whole on disk, and cannot be unpacked again: remove it, and pull its image",
                        "snapshotter", snapshotter->name, "namespace", torn->namespace_, "key", torn->row.key, "blob",
                        torn->row.blob, "error", error->message);
        else
                repair->n_repaired++;
        snapshotter_let_go(snapshotter, torn->row.number);
        g_clear_pointer(&repair->directory, g_free);
        next_snapshot(repair);
}

static void take_result(void *data)
{
        struct repair *repair = data;
        struct snapshotter *snapshotter = repair->options.snapshotter;
        struct snapshot_driver *driver = snapshotter->driver;
        const char *wanted = repair->current->row.diff_id;
        g_autofree char *diff_id = g_steal_pointer(&repair->diff_id);
        g_autoptr(GError) error = g_steal_pointer(&repair->error);
        repair->options.differ->ops->unref(g_steal_pointer(&repair->apply));
        if (error == NULL && strcmp(diff_id, wanted) != 0)
                error_fail(&error, ERROR_DATA_LOSS, "the blob's diff id is %s, not %s", diff_id, wanted);
        else if (error == NULL && driver->ops->commit(driver, &repair->place, false, &error))
                metadata_write(snapshotter->metadata, TX_DURABLE, mark_whole, repair, &error);
        end_snapshot(repair, error);
}

static void on_applied(void *data, const struct unpack_result *result, const GError *error)
{
        struct repair *repair = data;
        repair->diff_id = result != NULL ? g_strdup(result->diff_id) : NULL;
        repair->error = error != NULL ? g_error_copy(error) : NULL;
        strand_submit(repair->strand, take_result, repair);
}

static bool find_chain(struct tx *tx, void *data, GError **error)
{
        struct repair *repair = data;
        const struct torn *torn = repair->current;
        return snapshotter_chain(repair->options.snapshotter, tx, torn->namespace_, torn->row.parent, repair->arena,
                &repair->place, error);
}

// An empty active snapshot where the committed one was.
static bool make_again(struct repair *repair, GError **error)
{
        struct snapshotter *snapshotter = repair->options.snapshotter;
        struct snapshot_driver *driver = snapshotter->driver;
        const struct snapshot *row = &repair->current->row;
        repair->place = snapshotter_place(row);
        repair->place.kind = SNAPSHOT_ACTIVE;
        if (!metadata_read(snapshotter->metadata, find_chain, repair, error) ||
                !driver->ops->remove(driver, row->directory, error))
                return false;
        repair->directory = driver->ops->make(driver, row->number, &repair->place, error);
        repair->place.directory = repair->directory;
        return repair->directory != NULL;
}

static bool start_snapshot(struct repair *repair, GError **error)
{
        struct snapshot_driver *driver = repair->options.snapshotter->driver;
        struct content_store *content = repair->options.content;
        const struct torn *torn = repair->current;
        const struct scope scope = {.namespace_ = torn->namespace_};
        int64_t size;
        if (torn->row.blob[0] == '\0') // committed lazily
                return error_fail(error, ERROR_DATA_LOSS, "it was not unpacked from one layer");
        // The blob first: without it the directory is better left for whoever wants to look at it.
        fd_auto int fd = content->ops->open(content, &scope, torn->row.blob, &size, error);
        if (fd < 0 || !make_again(repair, error))
                return false;
        g_autoptr(GPtrArray) mounts = driver->ops->mounts(driver, &repair->place, error);
        if (mounts == NULL)
                return false;
        repair->apply = repair->options.differ->ops->apply(repair->options.differ,
                &(struct differ_apply_request){
                        .media_type = MEDIA_TYPE,
                        .fd = fd,
                        .available_bytes = size,
                        .complete = true,
                        .mounts = mounts,
                        .sync_fs = true,
                },
                on_applied, repair);
        return true;
}

// ---- all of them

static bool waits(const struct repair *repair, const struct torn *torn, const char *key)
{
        for (guint i = 0; i < repair->waiting->len; i++) {
                const struct torn *other = repair->waiting->pdata[i];
                if (strcmp(other->row.key, key) == 0 && strcmp(other->namespace_, torn->namespace_) == 0)
                        return true;
        }
        return false;
}

static struct torn *take_next(struct repair *repair)
{
        for (guint i = 0; i < repair->waiting->len; i++) {
                const struct torn *torn = repair->waiting->pdata[i];
                if (!waits(repair, torn, torn->row.parent))
                        return g_ptr_array_remove_index(repair->waiting, i);
        }
        return NULL;
}

static void repair_free(struct repair *repair)
{
        strand_unref(repair->strand);
        g_ptr_array_unref(repair->waiting);
        arena_free(repair->arena);
        g_free(repair);
}

static void finish(struct repair *repair)
{
        const struct snapshot_repair_options options = repair->options;
        g_autofree char *n = g_strdup_printf("%u", repair->n_repaired);
        g_autofree char *took =
                g_strdup_printf("%.1fs", (double)(clock_monotonic_ns() - repair->start_ns) / NS_PER_SECOND);
        log_warn("unpacked again what was not on disk", "snapshotter", options.snapshotter->name, "snapshots", n,
                "took", took);
        repair_free(repair);
        options.done(options.data);
}

static void next_snapshot(struct repair *repair)
{
        g_autoptr(GError) error = NULL;
        repair->current = take_next(repair);
        if (repair->current == NULL) {
                finish(repair);
                return;
        }
        snapshotter_hold_number(repair->options.snapshotter, repair->current->row.number);
        if (!start_snapshot(repair, &error))
                end_snapshot(repair, error);
}

static bool note_torn(void *data, const char *namespace_, const struct snapshot *row)
{
        struct repair *repair = data;
        const struct snapshotter *snapshotter = repair->options.snapshotter;
        if (!snapshotter_is_torn(snapshotter, row) && !snapshotter_is_lost(snapshotter, row))
                return true;
        struct torn *torn = arena_new0(repair->arena, struct torn);
        *torn = (struct torn){arena_strdup(repair->arena, namespace_), *row};
        g_ptr_array_add(repair->waiting, torn);
        return true;
}

static bool find_torn(struct tx *tx, void *data, GError **error)
{
        struct repair *repair = data;
        struct snapshotter *snapshotter = repair->options.snapshotter;
        return snapshotter->metadata->snapshots->walk(
                tx, NULL, snapshotter->name, repair->arena, note_torn, repair, error);
}

static void begin(void *data)
{
        next_snapshot(data);
}

bool snapshot_repair_start(const struct snapshot_repair_options *options)
{
        struct snapshotter *snapshotter = options->snapshotter;
        if (!snapshotter->needs_repair)
                return false;
        struct repair *repair = g_new0(struct repair, 1);
        g_autoptr(GError) error = NULL;
        repair->options = *options;
        repair->arena = arena_new();
        repair->waiting = g_ptr_array_new();
        repair->strand = strand_new(snapshotter->lanes, LANE_SLOW);
        repair->start_ns = clock_monotonic_ns();
        if (!metadata_read(snapshotter->metadata, find_torn, repair, &error))
                log_error("failed to look for unsynced snapshots", "snapshotter", snapshotter->name, "error",
                        error->message);
        bool needed = repair->waiting->len > 0;
        if (needed)
                strand_submit(repair->strand, begin, repair);
        else
                repair_free(repair);
        return needed;
}
