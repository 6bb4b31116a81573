// SPDX-License-Identifier: Apache-2.0
//
// What happens beside the calls: directories that no row names go away, unsynced ones get to the disk, and at the start
// both sides are compared. A directory may only be removed if its number is not in use (prepare makes directories
// before rows) and no row has it, asked in this order: list, numbers in use, rows.
#include "base/log.h"
#include "core/snapshotter_internal.h"

#include <string.h>

enum { NUMBERS_AT_A_TIME = 64 };

// ---- numbers

struct reserve {
        struct snapshotter *snapshotter;
        int64_t first;
};

static bool reserve_numbers(struct tx *tx, void *data, GError **error)
{
        struct reserve *reserve = data;
        struct snapshotter *snapshotter = reserve->snapshotter;
        return snapshotter->metadata->snapshots->reserve_numbers(
                tx, snapshotter->name, NUMBERS_AT_A_TIME, &reserve->first, error);
}

bool snapshotter_take_number(struct snapshotter *snapshotter, int64_t *ret_number, GError **error)
{
        int64_t number = 0;
        for (;;) {
                uv_mutex_lock(&snapshotter->mutex);
                if (snapshotter->next_number <= snapshotter->last_number) {
                        number = snapshotter->next_number++;
                        g_hash_table_add(snapshotter->numbers_in_use, g_memdup2(&number, sizeof number));
                }
                uv_mutex_unlock(&snapshotter->mutex);
                if (number != 0) {
                        *ret_number = number;
                        return true;
                }
                // Relaxed: what follows is committed behind it, so a row never outlives its number's reservation.
                struct reserve reserve = {.snapshotter = snapshotter};
                if (!metadata_write(snapshotter->metadata, TX_RELAXED, reserve_numbers, &reserve, error))
                        return false;
                uv_mutex_lock(&snapshotter->mutex);
                // Another thread may have reserved too; what is left of the lower ones is never used.
                if (reserve.first > snapshotter->last_number) {
                        snapshotter->next_number = reserve.first;
                        snapshotter->last_number = reserve.first + NUMBERS_AT_A_TIME - 1;
                }
                uv_mutex_unlock(&snapshotter->mutex);
        }
}

void snapshotter_hold_number(struct snapshotter *snapshotter, int64_t number)
{
        uv_mutex_lock(&snapshotter->mutex);
        g_hash_table_add(snapshotter->numbers_in_use, g_memdup2(&number, sizeof number));
        uv_mutex_unlock(&snapshotter->mutex);
}

void snapshotter_let_go(struct snapshotter *snapshotter, int64_t number)
{
        uv_mutex_lock(&snapshotter->mutex);
        g_hash_table_remove(snapshotter->numbers_in_use, &number);
        uv_mutex_unlock(&snapshotter->mutex);
}

// ---- jobs

static void run_job(void *data)
{
        struct snapshotter_job *job = data;
        struct snapshotter *snapshotter = job->snapshotter;
        uv_mutex_lock(&snapshotter->mutex);
        bool stopping = snapshotter->stopping;
        uv_mutex_unlock(&snapshotter->mutex);
        if (!stopping)
                job->run(job);
        g_free(job->directory);
        g_free(job);
        uv_mutex_lock(&snapshotter->mutex);
        if (--snapshotter->n_jobs == 0)
                uv_cond_broadcast(&snapshotter->idle);
        uv_mutex_unlock(&snapshotter->mutex);
}

void snapshotter_submit(
        struct snapshotter *snapshotter, void (*run)(struct snapshotter_job *job), const char *directory)
{
        struct snapshotter_job *job = g_new(struct snapshotter_job, 1);
        *job = (struct snapshotter_job){snapshotter, run, g_strdup(directory)};
        uv_mutex_lock(&snapshotter->mutex);
        snapshotter->n_jobs++;
        uv_mutex_unlock(&snapshotter->mutex);
        lanes_submit(snapshotter->lanes, LANE_SLOW, run_job, job);
}

static void remove_now(struct snapshotter *snapshotter, const char *directory)
{
        g_autoptr(GError) error = NULL;
        if (!snapshotter->driver->ops->remove(snapshotter->driver, directory, &error))
                log_warn("failed to remove directory", "path", directory, "error", error->message);
}

static void run_removal(struct snapshotter_job *job)
{
        remove_now(job->snapshotter, job->directory);
}

void snapshotter_remove_directory(struct snapshotter *snapshotter, const char *directory)
{
        if (directory[0] == '\0')
                return;
        if (snapshotter->driver->sync_remove)
                remove_now(snapshotter, directory);
        else
                snapshotter_submit(snapshotter, run_removal, directory);
}

// ---- the sweep

struct sweep {
        struct snapshotter *snapshotter;
        GHashTable *directories; // path → int64 number (-1: leftovers)
};

static void note_directory(void *data, int64_t number, const char *directory)
{
        struct sweep *sweep = data;
        g_hash_table_insert(sweep->directories, g_strdup(directory), g_memdup2(&number, sizeof number));
}

static gboolean has_number(gpointer key, gpointer value, gpointer data)
{
        return *(const int64_t *)value == *(const int64_t *)data;
}

// By path, and by number in case the root was moved: then no path is what the rows say, and nothing may go.
static bool keep_row(void *data, const char *namespace_, const struct snapshot *row)
{
        struct sweep *sweep = data;
        if (!g_hash_table_remove(sweep->directories, row->directory))
                g_hash_table_foreach_remove(sweep->directories, has_number, (gpointer)&row->number);
        return true;
}

static bool keep_rows(struct tx *tx, void *data, GError **error)
{
        struct sweep *sweep = data;
        struct snapshotter *snapshotter = sweep->snapshotter;
        return snapshotter->metadata->snapshots->walk(tx, NULL, snapshotter->name, NULL, keep_row, sweep, error);
}

// What can be removed, with the snapshotter's own names for it. Interrupted makes (-1) are left alone while any is
// under way.
static GHashTable *find_unused(struct snapshotter *snapshotter, GError **error)
{
        struct sweep sweep = {.snapshotter = snapshotter,
                .directories = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free)};
        bool ok = snapshotter->driver->ops->list(snapshotter->driver, note_directory, &sweep, error);
        uv_mutex_lock(&snapshotter->mutex);
        GHashTableIter iter;
        gpointer number;
        g_hash_table_iter_init(&iter, sweep.directories);
        while (g_hash_table_iter_next(&iter, NULL, &number)) {
                bool leftover = *(int64_t *)number < 0;
                if (leftover ? g_hash_table_size(snapshotter->numbers_in_use) > 0
                             : g_hash_table_contains(snapshotter->numbers_in_use, number))
                        g_hash_table_iter_remove(&iter);
        }
        uv_mutex_unlock(&snapshotter->mutex);
        ok = ok && metadata_read(snapshotter->metadata, keep_rows, &sweep, error);
        if (!ok)
                g_clear_pointer(&sweep.directories, g_hash_table_unref);
        return sweep.directories;
}

static void remove_all(struct snapshotter *snapshotter, GHashTable *directories)
{
        GHashTableIter iter;
        gpointer directory;
        g_hash_table_iter_init(&iter, directories);
        while (g_hash_table_iter_next(&iter, &directory, NULL))
                remove_now(snapshotter, directory);
}

bool snapshotter_cleanup(struct snapshotter *snapshotter, GError **error)
{
        g_autoptr(GHashTable) unused = find_unused(snapshotter, error);
        if (unused == NULL)
                return false;
        remove_all(snapshotter, unused);
        return true;
}

// What an earlier daemon left.
static void run_first_cleanup(struct snapshotter_job *job)
{
        struct snapshotter *snapshotter = job->snapshotter;
        g_autoptr(GError) error = NULL;
        g_autoptr(GHashTable) unused = find_unused(snapshotter, &error);
        if (unused == NULL) {
                log_warn("failed to clean up snapshots", "snapshotter", snapshotter->name, "error", error->message);
                return;
        }
        remove_all(snapshotter, unused);
        if (g_hash_table_size(unused) > 0) {
                g_autofree char *n = g_strdup_printf("%u", g_hash_table_size(unused));
                log_info("removed directories that no snapshot names", "snapshotter", snapshotter->name, "directories",
                        n);
        }
}

// ---- syncing later

struct unsynced {
        struct snapshotter *snapshotter;
        struct arena *arena;
        GPtrArray *namespaces;
        GArray *rows; // of struct snapshot
};

static bool note_unsynced(void *data, const char *namespace_, const struct snapshot *row)
{
        struct unsynced *unsynced = data;
        if (row->kind != SNAPSHOT_COMMITTED || row->synced || snapshotter_is_torn(unsynced->snapshotter, row))
                return true;
        g_ptr_array_add(unsynced->namespaces, arena_strdup(unsynced->arena, namespace_));
        g_array_append_val(unsynced->rows, *row);
        return true;
}

static bool find_unsynced(struct tx *tx, void *data, GError **error)
{
        struct unsynced *unsynced = data;
        struct snapshotter *snapshotter = unsynced->snapshotter;
        return snapshotter->metadata->snapshots->walk(
                tx, NULL, snapshotter->name, unsynced->arena, note_unsynced, unsynced, error);
}

static bool mark_row(struct snapshotter *snapshotter, struct tx *tx, const char *namespace_, const char *key,
        int64_t number, GError **error)
{
        AUTO(arena) arena = arena_new();
        struct snapshot row;
        g_autoptr(GError) failure = NULL;
        if (!snapshotter_get(snapshotter, tx, namespace_, key, arena, &row, &failure)) {
                if (error_is(failure, ERROR_NOT_FOUND))
                        return true;
                g_propagate_error(error, g_steal_pointer(&failure));
                return false;
        }
        if (row.number != number || row.synced)
                return true;
        row.synced = true;
        return snapshotter->metadata->snapshots->update(tx, namespace_, &row, error);
}

static bool mark_rows(struct tx *tx, void *data, GError **error)
{
        struct unsynced *unsynced = data;
        for (guint i = 0; i < unsynced->rows->len; i++) {
                const struct snapshot *row = &g_array_index(unsynced->rows, struct snapshot, i);
                if (!mark_row(unsynced->snapshotter, tx, unsynced->namespaces->pdata[i], row->key, row->number, error))
                        return false;
        }
        return true;
}

// One sync of the file system covers all directories that were committed before it began.
static bool sync_all(struct unsynced *unsynced, GError **error)
{
        struct snapshotter *snapshotter = unsynced->snapshotter;
        if (!metadata_read(snapshotter->metadata, find_unsynced, unsynced, error))
                return false;
        for (guint i = 0; i < unsynced->rows->len; i++) {
                const struct snapshot *row = &g_array_index(unsynced->rows, struct snapshot, i);
                g_autoptr(GError) failure = NULL;
                if (snapshotter->driver->ops->sync(snapshotter->driver, row->directory, &failure))
                        return metadata_write(snapshotter->metadata, TX_RELAXED, mark_rows, unsynced, error);
                // A snapshot that was removed meanwhile; the next one will do.
        }
        return true;
}

static void run_sync(struct snapshotter_job *job)
{
        struct snapshotter *snapshotter = job->snapshotter;
        bool again;
        do {
                uv_mutex_lock(&snapshotter->mutex);
                snapshotter->sync_again = false;
                uv_mutex_unlock(&snapshotter->mutex);
                AUTO(arena) arena = arena_new();
                g_autoptr(GPtrArray) namespaces = g_ptr_array_new();
                g_autoptr(GArray) rows = g_array_new(false, false, sizeof(struct snapshot));
                struct unsynced unsynced = {
                        .snapshotter = snapshotter, .arena = arena, .namespaces = namespaces, .rows = rows};
                g_autoptr(GError) error = NULL;
                if (!sync_all(&unsynced, &error))
                        log_warn("failed to sync snapshots", "snapshotter", snapshotter->name, "error", error->message);
                uv_mutex_lock(&snapshotter->mutex);
                again = snapshotter->sync_again && !snapshotter->stopping;
                snapshotter->syncing = again;
                uv_mutex_unlock(&snapshotter->mutex);
        } while (again);
}

void snapshotter_sync_later(struct snapshotter *snapshotter)
{
        uv_mutex_lock(&snapshotter->mutex);
        bool start = !snapshotter->syncing;
        snapshotter->syncing = true;
        snapshotter->sync_again = true;
        uv_mutex_unlock(&snapshotter->mutex);
        if (start)
                snapshotter_submit(snapshotter, run_sync, NULL);
}

// ---- at the start

struct recover {
        struct snapshotter *snapshotter;
        bool unsynced;
};

static bool check_row(void *data, const char *namespace_, const struct snapshot *row)
{
        struct recover *recover = data;
        struct snapshotter *snapshotter = recover->snapshotter;
        struct snapshot_driver *driver = snapshotter->driver;
        if (!row->synced)
                recover->unsynced = true;
        if (snapshotter_is_torn(snapshotter, row) || snapshotter_is_lost(snapshotter, row))
                snapshotter->needs_repair = true;
        else if (row->directory[0] != '\0' && !driver->ops->exists(driver, row->directory))
                log_error("snapshot has a record and no directory: what it held is lost; remove it, and pull its image "
                          "or create its container again",
                        "snapshotter", snapshotter->name, "namespace", namespace_, "key", row->key, "path",
                        row->directory);
        return true;
}

static bool check_rows(struct tx *tx, void *data, GError **error)
{
        struct recover *recover = data;
        struct snapshotter *snapshotter = recover->snapshotter;
        return snapshotter->metadata->snapshots->walk(tx, NULL, snapshotter->name, NULL, check_row, recover, error);
}

bool snapshotter_recover(struct snapshotter *snapshotter, GError **error)
{
        struct recover recover = {.snapshotter = snapshotter};
        if (!metadata_read(snapshotter->metadata, check_rows, &recover, error))
                return false;
        if (recover.unsynced)
                snapshotter_sync_later(snapshotter);
        snapshotter_submit(snapshotter, run_first_cleanup, NULL);
        return true;
}
