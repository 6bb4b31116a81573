// SPDX-License-Identifier: Apache-2.0
//
// A directory is made before the row that names it, outside of any transaction. So the same rules are checked twice: in
// a read, which also tells the driver what to make it on, and again in the write that inserts the row. If they differ
// by then, the directory is removed again.
#include "base/clock.h"
#include "base/log.h"
#include "core/event.h"
#include "core/lease.h"
#include "core/snapshotter_internal.h"

#include "containerd/events.pb-c.h"

#include <string.h>

#define LABEL_TARGET "containerd.io/snapshot.ref"

struct prepare {
        struct snapshotter *snapshotter;
        const struct scope *scope;
        const struct snapshot_request *request;
        struct arena *arena;
        struct snapshot row; // what will be inserted
        struct snapshot_place place;
        int64_t parent_number; // 0: none
        GError *exists;        // the outcome if there is such a snapshot already: not a failure of the transaction
};

static bool hold(struct tx *tx, struct prepare *prepare, const char *key, GError **error)
{
        struct snapshotter *snapshotter = prepare->snapshotter;
        return lease_hold(snapshotter->metadata, tx, prepare->scope, snapshotter->lease_type, key, error);
}

// Whether key is there; a failure to read is an error.
static bool find(struct tx *tx, struct prepare *prepare, const char *key, bool *ret_found, GError **error)
{
        struct snapshot row;
        g_autoptr(GError) failure = NULL;
        *ret_found = snapshotter_get(
                prepare->snapshotter, tx, prepare->scope->namespace_, key, prepare->arena, &row, &failure);
        if (*ret_found || error_is(failure, ERROR_NOT_FOUND))
                return true;
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}

// Sets prepare->exists if the target or the key is there.
static bool check_existing(struct tx *tx, struct prepare *prepare, const char **ret_key, GError **error)
{
        const char *target = labels_get(&prepare->request->labels, LABEL_TARGET);
        bool found = false;
        if (target != NULL && !find(tx, prepare, target, &found, error))
                return false;
        if (found) {
                prepare->exists = g_error_new(
                        SKIFF_ERROR, ERROR_ALREADY_EXISTS, "target snapshot \"%s\": already exists", target);
                *ret_key = target;
                return true;
        }
        if (!find(tx, prepare, prepare->request->key, &found, error))
                return false;
        if (found) {
                prepare->exists = g_error_new(
                        SKIFF_ERROR, ERROR_ALREADY_EXISTS, "snapshot \"%s\": already exists", prepare->request->key);
                *ret_key = prepare->request->key;
        }
        return true;
}

static bool check_parent(
        struct tx *tx, struct prepare *prepare, const char *parent, struct snapshot *ret_row, GError **error)
{
        g_autoptr(GError) failure = NULL;
        if (!snapshotter_get(
                    prepare->snapshotter, tx, prepare->scope->namespace_, parent, prepare->arena, ret_row, &failure)) {
                if (error_is(failure, ERROR_NOT_FOUND))
                        return error_fail(
                                error, ERROR_NOT_FOUND, "parent snapshot %s does not exist: not found", parent);
                g_propagate_error(error, g_steal_pointer(&failure));
                return false;
        }
        return ret_row->kind == SNAPSHOT_COMMITTED ||
               error_fail(error, ERROR_INVALID_ARGUMENT,
                       "failed to create snapshot: parent \"%s\" is not committed snapshot: invalid argument",
                       ret_row->backend);
}

static bool plan(struct tx *tx, void *data, GError **error)
{
        struct prepare *prepare = data;
        const char *parent = prepare->request->parent, *existing;
        if (!check_existing(tx, prepare, &existing, error))
                return false;
        if (prepare->exists != NULL || parent[0] == '\0')
                return true;
        struct snapshot row;
        if (!check_parent(tx, prepare, parent, &row, error))
                return false;
        prepare->parent_number = row.number;
        return snapshotter_chain(
                prepare->snapshotter, tx, prepare->scope->namespace_, parent, prepare->arena, &prepare->place, error);
}

static bool insert(struct tx *tx, void *data, GError **error)
{
        struct prepare *prepare = data;
        struct snapshotter *snapshotter = prepare->snapshotter;
        const struct snapshot_request *request = prepare->request;
        const struct snapshot_ops *snapshots = snapshotter->metadata->snapshots;
        const char *namespace_ = prepare->scope->namespace_, *existing;
        if (!check_existing(tx, prepare, &existing, error))
                return false;
        if (prepare->exists != NULL)
                return hold(tx, prepare, existing, error);
        struct snapshot parent;
        if (request->parent[0] != '\0') {
                if (!check_parent(tx, prepare, request->parent, &parent, error))
                        return false;
                if (parent.number != prepare->parent_number)
                        return error_fail(error, ERROR_ABORTED, "parent snapshot %s was replaced meanwhile: aborted",
                                request->parent);
        }
        int64_t sequence;
        if (!snapshots->next_sequence(tx, namespace_, snapshotter->name, &sequence, error))
                return false;
        prepare->row.backend =
                arena_printf(prepare->arena, "%s/%" G_GINT64_FORMAT "/%s", namespace_, sequence, request->key);
        return snapshots->insert(tx, namespace_, &prepare->row, error) && hold(tx, prepare, request->key, error);
}

static bool make(struct prepare *prepare, GError **error)
{
        struct snapshotter *snapshotter = prepare->snapshotter;
        const struct snapshot_request *request = prepare->request;
        prepare->place.kind = request->view ? SNAPSHOT_VIEW : SNAPSHOT_ACTIVE;
        prepare->place.labels = &prepare->row.labels;
        g_autofree char *directory =
                snapshotter->driver->ops->make(snapshotter->driver, prepare->row.number, &prepare->place, error);
        if (directory == NULL)
                return false;
        prepare->place.directory = arena_strdup(prepare->arena, directory);
        int64_t now_ns = clock_now_ns();
        struct snapshot *row = &prepare->row;
        row->snapshotter = snapshotter->name;
        row->key = request->key;
        row->parent = request->parent;
        row->kind = prepare->place.kind;
        row->created_ns = row->updated_ns = now_ns;
        row->directory = prepare->place.directory;
        row->blob = row->diff_id = row->boot_id = "";
        row->synced = true;
        return true;
}

static GPtrArray *make_and_insert(struct prepare *prepare, GError **error)
{
        struct snapshotter *snapshotter = prepare->snapshotter;
        if (!make(prepare, error))
                return NULL;
        bool ok = metadata_write(snapshotter->metadata, TX_DURABLE, insert, prepare, error);
        if (ok && prepare->exists == NULL)
                return snapshotter->driver->ops->mounts(snapshotter->driver, &prepare->place, error);
        g_autoptr(GError) failure = NULL;
        if (prepare->place.directory[0] != '\0' &&
                !snapshotter->driver->ops->remove(snapshotter->driver, prepare->place.directory, &failure))
                log_warn("failed to remove the directory of a snapshot", "path", prepare->place.directory, "error",
                        failure->message);
        return NULL;
}

static void publish(const struct prepare *prepare)
{
        const struct snapshotter *snapshotter = prepare->snapshotter;
        if (snapshotter->exchange == NULL || prepare->request->view)
                return;
        Events__SnapshotPrepare message = EVENTS__SNAPSHOT_PREPARE__INIT;
        message.key = (char *)prepare->request->key;
        message.parent = (char *)prepare->request->parent;
        message.snapshotter = snapshotter->name;
        event_publish(snapshotter->exchange, prepare->scope->namespace_, "/snapshot/prepare", &message.base);
}

static bool hold_existing(struct tx *tx, void *data, GError **error)
{
        struct prepare *prepare = data;
        const char *existing;
        if (!check_existing(tx, prepare, &existing, error))
                return false;
        if (prepare->exists == NULL)
                return error_fail(
                        error, ERROR_ABORTED, "snapshot \"%s\" was removed meanwhile: aborted", prepare->request->key);
        return hold(tx, prepare, existing, error);
}

static GPtrArray *prepare_new(struct prepare *prepare, GError **error)
{
        struct snapshotter *snapshotter = prepare->snapshotter;
        if (!metadata_read(snapshotter->metadata, plan, prepare, error))
                return NULL;
        if (prepare->exists != NULL) {
                if (prepare->scope->lease != NULL) {
                        g_clear_error(&prepare->exists);
                        metadata_write(snapshotter->metadata, TX_RELAXED, hold_existing, prepare, error);
                }
                return NULL;
        }
        if (!snapshotter_take_number(snapshotter, &prepare->row.number, error))
                return NULL;
        GPtrArray *mounts = make_and_insert(prepare, error);
        snapshotter_let_go(snapshotter, prepare->row.number);
        return mounts;
}

GPtrArray *snapshotter_prepare(struct snapshotter *snapshotter, const struct scope *scope,
        const struct snapshot_request *request, GError **error)
{
        if (request->key[0] == '\0') {
                error_fail(error, ERROR_INVALID_ARGUMENT, "snapshot key must not be empty: invalid argument");
                return NULL;
        }
        if (!labels_validate(&request->labels, "info.Labels", error))
                return NULL;
        AUTO(arena) arena = arena_new();
        struct prepare prepare = {.snapshotter = snapshotter, .scope = scope, .request = request, .arena = arena};
        prepare.row.labels = labels_copy_filled(&request->labels, arena);
        g_autoptr(GError) failure = NULL;
        GPtrArray *mounts = prepare_new(&prepare, &failure);
        if (failure == NULL && prepare.exists != NULL)
                failure = g_steal_pointer(&prepare.exists);
        g_clear_error(&prepare.exists);
        if (mounts != NULL)
                publish(&prepare);
        else
                g_propagate_error(error, g_steal_pointer(&failure));
        return mounts;
}
