// SPDX-License-Identifier: Apache-2.0
//
// Commit gives an active snapshot's directory a new row; Remove takes a row away. Measuring and syncing take their time
// and come before the transaction, which then makes sure that the row is still the one that was measured.
#include "base/clock.h"
#include "core/event.h"
#include "core/lease.h"
#include "core/snapshotter_internal.h"

#include "containerd/events.pb-c.h"

#include <string.h>

struct commit {
        struct snapshotter *snapshotter;
        const struct scope *scope;
        const struct snapshot_commit *request;
        struct arena *arena;
        struct snapshot row; // the active snapshot
        struct snapshot_place place;
        struct snapshot_usage usage;
        bool rebase;
        bool known_blob; // it can be unpacked again
        bool sync_later;
        GError *exists; // not a failure of the transaction: the lease is held all the same
};

static bool check_name(struct tx *tx, struct commit *commit, GError **error)
{
        struct snapshot row;
        g_autoptr(GError) failure = NULL;
        if (snapshotter_get(commit->snapshotter, tx, commit->scope->namespace_, commit->request->name, commit->arena,
                    &row, &failure)) {
                commit->exists = g_error_new(
                        SKIFF_ERROR, ERROR_ALREADY_EXISTS, "snapshot \"%s\": already exists", commit->request->name);
                return true;
        }
        if (error_is(failure, ERROR_NOT_FOUND))
                return true;
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}

// The active snapshot's row with the parent that it will have.
static bool check_key(struct tx *tx, struct commit *commit, struct snapshot *ret_row, GError **error)
{
        struct snapshotter *snapshotter = commit->snapshotter;
        const struct snapshot_commit *request = commit->request;
        const char *namespace_ = commit->scope->namespace_;
        struct snapshot row, parent;
        struct labels *labels = arena_new0(commit->arena, struct labels);
        if (!snapshotter_get(snapshotter, tx, namespace_, request->key, commit->arena, &row, error))
                return false;
        if (row.kind != SNAPSHOT_ACTIVE)
                return error_fail(error, ERROR_FAILED_PRECONDITION,
                        "failed to commit snapshot %s: snapshot \"%s\" is not active: failed precondition", row.backend,
                        row.backend);
        commit->rebase = row.parent[0] == '\0' && request->parent != NULL && request->parent[0] != '\0';
        if (commit->rebase)
                row.parent = request->parent;
        commit->place = snapshotter_place(&row);
        *labels = row.labels;
        commit->place.labels = labels; // the place outlives the row here
        if (!snapshotter_chain(snapshotter, tx, namespace_, row.parent, commit->arena, &commit->place, error))
                return false;
        if (row.parent[0] != '\0' &&
                !snapshotter_get(snapshotter, tx, namespace_, row.parent, commit->arena, &parent, error))
                return false;
        if (row.parent[0] != '\0' && parent.kind != SNAPSHOT_COMMITTED)
                return error_fail(error, ERROR_FAILED_PRECONDITION,
                        "failed to commit snapshot %s: parent \"%s\" is not committed: failed precondition",
                        row.backend, parent.backend);
        *ret_row = row;
        return true;
}

static bool plan(struct tx *tx, void *data, GError **error)
{
        struct commit *commit = data;
        return check_name(tx, commit, error) && (commit->exists != NULL || check_key(tx, commit, &commit->row, error));
}

static bool hold(struct tx *tx, const struct commit *commit, GError **error)
{
        struct snapshotter *snapshotter = commit->snapshotter;
        return lease_hold(
                snapshotter->metadata, tx, commit->scope, snapshotter->lease_type, commit->request->name, error);
}

static bool hold_existing(struct tx *tx, void *data, GError **error)
{
        return hold(tx, data, error);
}

static bool replace_row(struct tx *tx, void *data, GError **error)
{
        struct commit *commit = data;
        struct snapshotter *snapshotter = commit->snapshotter;
        const struct snapshot_commit *request = commit->request;
        const struct snapshot_ops *snapshots = snapshotter->metadata->snapshots;
        const char *namespace_ = commit->scope->namespace_;
        struct snapshot row;
        if (!hold(tx, commit, error) || !check_name(tx, commit, error))
                return false;
        if (commit->exists != NULL)
                return true;
        if (!check_key(tx, commit, &row, error))
                return false;
        if (row.number != commit->row.number)
                return error_fail(error, ERROR_ABORTED, "snapshot %s was replaced meanwhile: aborted", request->key);
        int64_t sequence;
        if (!snapshots->next_sequence(tx, namespace_, snapshotter->name, &sequence, error))
                return false;
        row.key = request->name;
        row.backend = arena_printf(commit->arena, "%s/%" G_GINT64_FORMAT "/%s", namespace_, sequence, request->name);
        row.kind = SNAPSHOT_COMMITTED;
        row.labels = labels_copy_filled(&request->labels, commit->arena);
        row.created_ns = row.updated_ns = clock_now_ns();
        row.inodes = commit->usage.inodes;
        row.size_bytes = commit->usage.size_bytes;
        row.blob = commit->known_blob ? request->blob : "";
        row.diff_id = commit->known_blob ? request->diff_id : "";
        row.boot_id = commit->sync_later ? snapshotter->boot_id : "";
        row.synced = !commit->sync_later;
        return snapshots->remove(tx, namespace_, snapshotter->name, request->key, error) &&
               snapshots->insert(tx, namespace_, &row, error) &&
               lease_release(snapshotter->metadata, tx, commit->scope, snapshotter->lease_type, request->key, error);
}

static bool settle_directory(struct commit *commit, GError **error)
{
        struct snapshotter *snapshotter = commit->snapshotter;
        const struct snapshot_driver_ops *ops = snapshotter->driver->ops;
        const struct snapshot_commit *request = commit->request;
        if (!ops->commit(snapshotter->driver, &commit->place, commit->rebase, error))
                return false;
        if (request->usage != NULL)
                commit->usage = *request->usage;
        else if (!ops->measure(snapshotter->driver, &commit->place, &commit->usage, error))
                return false;
        return commit->sync_later || ops->sync(snapshotter->driver, commit->place.directory, error);
}

static bool commit_new(struct commit *commit, GError **error)
{
        struct snapshotter *snapshotter = commit->snapshotter;
        if (!metadata_read(snapshotter->metadata, plan, commit, error))
                return false;
        if (commit->exists != NULL)
                return commit->scope->lease == NULL ||
                       metadata_write(snapshotter->metadata, TX_RELAXED, hold_existing, commit, error);
        return settle_directory(commit, error) &&
               metadata_write(snapshotter->metadata, TX_DURABLE, replace_row, commit, error);
}

bool snapshotter_commit(struct snapshotter *snapshotter, const struct scope *scope,
        const struct snapshot_commit *request, GError **error)
{
        if (request->name[0] == '\0')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "snapshot name must not be empty: invalid argument");
        if (!labels_validate(&request->labels, "info.Labels", error))
                return false;
        AUTO(arena) arena = arena_new();
        struct commit commit = {
                .snapshotter = snapshotter,
                .scope = scope,
                .request = request,
                .arena = arena,
                .known_blob = request->blob != NULL && request->diff_id != NULL,
        };
        commit.sync_later = commit.known_blob || snapshotter->lazy_sync;
        bool ok = commit_new(&commit, error);
        if (ok && commit.exists != NULL) {
                g_propagate_error(error, g_steal_pointer(&commit.exists));
                return false;
        }
        g_clear_error(&commit.exists);
        if (!ok)
                return false;
        if (commit.sync_later)
                snapshotter_sync_later(snapshotter);
        if (snapshotter->exchange != NULL) {
                Events__SnapshotCommit message = EVENTS__SNAPSHOT_COMMIT__INIT;
                message.key = (char *)request->key;
                message.name = (char *)request->name;
                message.snapshotter = snapshotter->name;
                event_publish(snapshotter->exchange, scope->namespace_, "/snapshot/commit", &message.base);
        }
        return true;
}

// ---- remove

struct removal {
        struct snapshotter *snapshotter;
        const struct scope *scope;
        const char *key;
        struct arena *arena;
        const char *directory;
};

static bool remove_row(struct tx *tx, void *data, GError **error)
{
        struct removal *removal = data;
        struct snapshotter *snapshotter = removal->snapshotter;
        const struct snapshot_ops *snapshots = snapshotter->metadata->snapshots;
        const char *namespace_ = removal->scope->namespace_;
        struct snapshot row;
        bool has_child;
        if (!snapshotter_get(snapshotter, tx, namespace_, removal->key, removal->arena, &row, error) ||
                !snapshots->has_child(tx, namespace_, snapshotter->name, removal->key, &has_child, error))
                return false;
        if (has_child)
                return error_fail(
                        error, ERROR_FAILED_PRECONDITION, "cannot remove snapshot with child: failed precondition");
        removal->directory = row.directory;
        snapshotter->metadata->ops->mark_removed(tx);
        return snapshots->remove(tx, namespace_, snapshotter->name, removal->key, error) &&
               lease_release(snapshotter->metadata, tx, removal->scope, snapshotter->lease_type, removal->key, error);
}

bool snapshotter_remove(struct snapshotter *snapshotter, const struct scope *scope, const char *key, GError **error)
{
        AUTO(arena) arena = arena_new();
        struct removal removal = {.snapshotter = snapshotter, .scope = scope, .key = key, .arena = arena};
        if (!metadata_write(snapshotter->metadata, TX_DURABLE, remove_row, &removal, error))
                return false;
        snapshotter_remove_directory(snapshotter, removal.directory);
        if (snapshotter->exchange != NULL) {
                Events__SnapshotRemove message = EVENTS__SNAPSHOT_REMOVE__INIT;
                message.key = (char *)key;
                message.snapshotter = snapshotter->name;
                event_publish(snapshotter->exchange, scope->namespace_, "/snapshot/remove", &message.base);
        }
        return true;
}
