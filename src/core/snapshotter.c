// SPDX-License-Identifier: Apache-2.0
//
// Reading and labelling snapshots. Every answer comes from the store's rows; the driver is asked for mounts and for
// what an active snapshot takes.
#include "core/snapshotter.h"

#include "base/clock.h"
#include "base/fieldmask.h"
#include "core/snapshotter_internal.h"
#include "sys/boot.h"

#include <string.h>

const char *snapshot_field(void *object, const char *const *path, size_t n, bool *ret_present)
{
        static const char *const kinds[] = {
                [SNAPSHOT_VIEW] = "view", [SNAPSHOT_ACTIVE] = "active", [SNAPSHOT_COMMITTED] = "committed"};
        const struct snapshot *snapshot = object;
        if (strcmp(path[0], "labels") == 0)
                return labels_field(&snapshot->labels, path + 1, n - 1, ret_present);
        *ret_present = true;
        if (strcmp(path[0], "kind") == 0)
                return kinds[snapshot->kind];
        if (strcmp(path[0], "name") == 0)
                return snapshot->key;
        if (strcmp(path[0], "parent") == 0)
                return snapshot->parent;
        *ret_present = false;
        return NULL;
}

bool snapshotter_is_torn(const struct snapshotter *snapshotter, const struct snapshot *row)
{
        return row->kind == SNAPSHOT_COMMITTED && !row->synced && strcmp(row->boot_id, snapshotter->boot_id) != 0;
}

bool snapshotter_is_lost(const struct snapshotter *snapshotter, const struct snapshot *row)
{
        const struct snapshot_driver *driver = snapshotter->driver;
        return row->kind == SNAPSHOT_COMMITTED && row->blob[0] != '\0' &&
               !driver->ops->exists(snapshotter->driver, row->directory);
}

struct snapshotter *snapshotter_new(const struct snapshotter_options *options, GError **error)
{
        struct snapshotter *snapshotter = g_new0(struct snapshotter, 1);
        snapshotter->name = g_strdup(options->name);
        snapshotter->lease_type = g_strconcat("snapshots/", options->name, NULL);
        snapshotter->boot_id = boot_id();
        snapshotter->driver = options->driver;
        snapshotter->metadata = options->metadata;
        snapshotter->exchange = options->exchange;
        snapshotter->lanes = options->lanes;
        snapshotter->lazy_sync = options->lazy_sync;
        snapshotter->numbers_in_use = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
        g_assert(uv_mutex_init(&snapshotter->mutex) == 0);
        g_assert(uv_cond_init(&snapshotter->idle) == 0);
        if (!snapshotter_recover(snapshotter, error)) {
                g_prefix_error(error, "snapshotter %s: ", options->name);
                snapshotter_free(snapshotter);
                return NULL;
        }
        return snapshotter;
}

void snapshotter_free(struct snapshotter *snapshotter)
{
        if (snapshotter == NULL)
                return;
        uv_mutex_lock(&snapshotter->mutex);
        snapshotter->stopping = true;
        while (snapshotter->n_jobs > 0)
                uv_cond_wait(&snapshotter->idle, &snapshotter->mutex);
        uv_mutex_unlock(&snapshotter->mutex);
        uv_cond_destroy(&snapshotter->idle);
        uv_mutex_destroy(&snapshotter->mutex);
        g_hash_table_unref(snapshotter->numbers_in_use);
        g_free(snapshotter->name);
        g_free(snapshotter->lease_type);
        g_free(snapshotter->boot_id);
        g_free(snapshotter);
}

const char *snapshotter_name(const struct snapshotter *snapshotter)
{
        return snapshotter->name;
}

bool snapshotter_get(struct snapshotter *snapshotter, struct tx *tx, const char *namespace_, const char *key,
        struct arena *arena, struct snapshot *ret, GError **error)
{
        return snapshotter->metadata->snapshots->get(tx, namespace_, snapshotter->name, key, arena, ret, error);
}

struct snapshot_place snapshotter_place(const struct snapshot *row)
{
        return (struct snapshot_place){.kind = row->kind, .directory = row->directory, .labels = &row->labels};
}

bool snapshotter_chain(struct snapshotter *snapshotter, struct tx *tx, const char *namespace_, const char *parent,
        struct arena *arena, struct snapshot_place *place, GError **error)
{
        g_autoptr(GPtrArray) directories = g_ptr_array_new();
        while (parent[0] != '\0') {
                struct snapshot row;
                g_autoptr(GError) failure = NULL;
                if (!snapshotter_get(snapshotter, tx, namespace_, parent, arena, &row, &failure)) {
                        if (error_is(failure, ERROR_NOT_FOUND))
                                return error_fail(
                                        error, ERROR_NOT_FOUND, "parent snapshot %s does not exist: not found", parent);
                        g_propagate_error(error, g_steal_pointer(&failure));
                        return false;
                }
                if (snapshotter_is_torn(snapshotter, &row))
                        return error_fail(error, ERROR_DATA_LOSS,
                                "snapshot %s was lost when the machine went down, and could not be unpacked again: "
                                "remove it and pull its image",
                                parent);
                g_ptr_array_add(directories, (char *)row.directory);
                parent = row.parent;
        }
        const char **parents = arena_array(arena, const char *, directories->len + 1);
        for (guint i = 0; i < directories->len; i++)
                parents[i] = directories->pdata[i];
        place->parents = parents;
        place->n_parents = directories->len;
        return true;
}

// ---- stat, usage, mounts

struct lookup {
        struct snapshotter *snapshotter;
        const struct scope *scope;
        const char *key;
        struct arena *arena;
        struct snapshot *row;
        struct snapshot_place *place; // NULL: the chain is not wanted
        const char *parent;           // instead of the row's; NULL: the row's
};

static bool look_up(struct tx *tx, void *data, GError **error)
{
        struct lookup *lookup = data;
        struct snapshotter *snapshotter = lookup->snapshotter;
        const char *namespace_ = lookup->scope->namespace_;
        if (!snapshotter_get(snapshotter, tx, namespace_, lookup->key, lookup->arena, lookup->row, error))
                return false;
        if (lookup->place == NULL)
                return true;
        *lookup->place = snapshotter_place(lookup->row);
        const char *parent = lookup->parent != NULL ? lookup->parent : lookup->row->parent;
        return snapshotter_chain(snapshotter, tx, namespace_, parent, lookup->arena, lookup->place, error);
}

static void describe(struct snapshotter *snapshotter, struct snapshot *row, struct arena *arena)
{
        const struct snapshot_driver_ops *ops = snapshotter->driver->ops;
        if (ops->describe != NULL)
                ops->describe(snapshotter->driver, row, &row->labels, arena);
}

bool snapshotter_stat(struct snapshotter *snapshotter, const struct scope *scope, const char *key, struct arena *arena,
        struct snapshot *ret, GError **error)
{
        struct lookup lookup = {.snapshotter = snapshotter, .scope = scope, .key = key, .arena = arena, .row = ret};
        if (!metadata_read(snapshotter->metadata, look_up, &lookup, error))
                return false;
        describe(snapshotter, ret, arena);
        return true;
}

bool snapshotter_usage(struct snapshotter *snapshotter, const struct scope *scope, const char *key,
        struct snapshot_usage *ret_usage, GError **error)
{
        AUTO(arena) arena = arena_new();
        struct snapshot row;
        struct snapshot_place place;
        struct lookup lookup = {snapshotter, scope, key, arena, &row, &place, NULL};
        if (!metadata_read(snapshotter->metadata, look_up, &lookup, error))
                return false;
        if (row.kind == SNAPSHOT_ACTIVE)
                return snapshotter->driver->ops->measure(snapshotter->driver, &place, ret_usage, error);
        *ret_usage = (struct snapshot_usage){.size_bytes = row.size_bytes, .inodes = row.inodes};
        return true;
}

// parent NULL: the snapshot's own.
static GPtrArray *find_mounts(
        struct snapshotter *snapshotter, const struct scope *scope, const char *key, const char *parent, GError **error)
{
        AUTO(arena) arena = arena_new();
        struct snapshot row;
        struct snapshot_place place;
        struct lookup lookup = {snapshotter, scope, key, arena, &row, &place, parent};
        if (!metadata_read(snapshotter->metadata, look_up, &lookup, error))
                return NULL;
        if (row.kind != SNAPSHOT_ACTIVE && row.kind != SNAPSHOT_VIEW) {
                error_fail(error, ERROR_FAILED_PRECONDITION,
                        "failed to get active mount: requested snapshot %s not active or view: failed precondition",
                        row.backend);
                return NULL;
        }
        return snapshotter->driver->ops->mounts(snapshotter->driver, &place, error);
}

GPtrArray *snapshotter_mounts(
        struct snapshotter *snapshotter, const struct scope *scope, const char *key, GError **error)
{
        return find_mounts(snapshotter, scope, key, NULL, error);
}

bool snapshotter_can_rebase(const struct snapshotter *snapshotter)
{
        return snapshotter->driver->can_rebase;
}

GPtrArray *snapshotter_mounts_on(
        struct snapshotter *snapshotter, const struct scope *scope, const char *key, const char *parent, GError **error)
{
        return find_mounts(snapshotter, scope, key, parent, error);
}

// ---- update

struct update {
        struct snapshotter *snapshotter;
        const struct scope *scope;
        struct snapshot *snapshot; // in and out
        char *const *paths;
        size_t n_paths;
        struct arena *arena;
};

static bool apply(struct snapshot *row, const struct update *update, GError **error)
{
        const struct labels *labels = &update->snapshot->labels;
        if (update->n_paths == 0)
                row->labels = *labels;
        for (size_t i = 0; i < update->n_paths; i++) {
                if (!fieldmask_is_of(update->paths[i], "labels"))
                        return error_fail(error, ERROR_INVALID_ARGUMENT,
                                "cannot update \"%s\" field on snapshot \"%s\": invalid argument", update->paths[i],
                                update->snapshot->key);
        }
        labels_apply(&row->labels, labels, "labels", update->paths, update->n_paths, update->arena);
        return true;
}

static bool update_row(struct tx *tx, void *data, GError **error)
{
        struct update *update = data;
        struct snapshotter *snapshotter = update->snapshotter;
        const char *namespace_ = update->scope->namespace_;
        struct snapshot row;
        if (!snapshotter_get(snapshotter, tx, namespace_, update->snapshot->key, update->arena, &row, error) ||
                !apply(&row, update, error) || !labels_validate(&row.labels, "info.Labels", error))
                return false;
        row.labels = labels_copy_filled(&row.labels, update->arena);
        row.updated_ns = clock_now_ns();
        if (!snapshotter->metadata->snapshots->update(tx, namespace_, &row, error))
                return false;
        *update->snapshot = row;
        return true;
}

bool snapshotter_update(struct snapshotter *snapshotter, const struct scope *scope, struct snapshot *snapshot,
        char *const *paths, size_t n_paths, struct arena *arena, GError **error)
{
        if (snapshot->key[0] == '\0')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid argument");
        struct update update = {snapshotter, scope, snapshot, paths, n_paths, arena};
        if (!metadata_write(snapshotter->metadata, TX_DURABLE, update_row, &update, error))
                return false;
        describe(snapshotter, snapshot, arena);
        return true;
}

// ---- walk

struct walk {
        struct snapshotter *snapshotter;
        const struct scope *scope;
        const struct filter *filter;
        struct arena *arena;
        snapshotter_walk_fn fn;
        void *data;
};

static bool visit(void *data, const char *namespace_, const struct snapshot *row)
{
        struct walk *walk = data;
        struct snapshot snapshot = *row;
        describe(walk->snapshotter, &snapshot, walk->arena);
        return (walk->filter != NULL && !filter_match(walk->filter, snapshot_field, &snapshot)) ||
               walk->fn(walk->data, &snapshot);
}

static bool walk_rows(struct tx *tx, void *data, GError **error)
{
        struct walk *walk = data;
        struct snapshotter *snapshotter = walk->snapshotter;
        return snapshotter->metadata->snapshots->walk(
                tx, walk->scope->namespace_, snapshotter->name, walk->arena, visit, walk, error);
}

bool snapshotter_walk(struct snapshotter *snapshotter, const struct scope *scope, const struct filter *filter,
        struct arena *arena, snapshotter_walk_fn fn, void *data, GError **error)
{
        struct walk walk = {snapshotter, scope, filter, arena, fn, data};
        return metadata_read(snapshotter->metadata, walk_rows, &walk, error);
}

// ---- the registry

struct snapshotters {
        GHashTable *by_name;
};

struct snapshotters *snapshotters_new(void)
{
        struct snapshotters *snapshotters = g_new(struct snapshotters, 1);
        snapshotters->by_name = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)snapshotter_free);
        return snapshotters;
}

void snapshotters_free(struct snapshotters *snapshotters)
{
        if (snapshotters == NULL)
                return;
        g_hash_table_unref(snapshotters->by_name);
        g_free(snapshotters);
}

void snapshotters_add(struct snapshotters *snapshotters, struct snapshotter *snapshotter)
{
        g_hash_table_insert(snapshotters->by_name, snapshotter->name, snapshotter);
}

struct snapshotter *snapshotters_get(struct snapshotters *snapshotters, const char *name, GError **error)
{
        if (name[0] == '\0') {
                error_fail(error, ERROR_INVALID_ARGUMENT, "snapshotter argument missing: invalid argument");
                return NULL;
        }
        struct snapshotter *snapshotter = g_hash_table_lookup(snapshotters->by_name, name);
        if (snapshotter == NULL)
                error_fail(error, ERROR_INVALID_ARGUMENT, "snapshotter not loaded: %s: invalid argument", name);
        return snapshotter;
}
