// SPDX-License-Identifier: Apache-2.0
//
// Group commit. A write joins a queue; whoever finds that nobody is writing takes the whole queue, runs its functions
// in one SQLite transaction, each in a savepoint, commits once and wakes the others. Those that came meanwhile are the
// next batch. So there is one writer at a time without a thread of its own, a lone write costs no switch between
// threads, and many share one fsync. `synchronous` can only be set outside of a transaction: a batch is fixed before it
// begins, and takes the strictest class of its members.
//
// Reads take one of the read connections; in WAL mode they see the last commit before their first statement and
// disturb nobody.
//
// The trap: an error such as a full disk makes SQLite roll back the whole transaction, not the savepoint. Then every
// member of the batch fails.
#include "store/internal.h"

#include "base/fd.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

struct write {
        enum tx_class class;
        tx_fn fn;
        void *data;
        GError *error;
        bool ok, done;
        bool changed, removed;
        struct write *next;
};

static struct store *store_of(struct metadata *metadata)
{
        return (struct store *)metadata;
}

// ---- writing

static bool set_synchronous(struct connection *writer, enum tx_class class, GError **error)
{
        int wanted = class == TX_DURABLE ? 2 : 1;
        if (writer->synchronous == wanted)
                return true;
        if (!connection_run(writer, wanted == 2 ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", error))
                return false;
        writer->synchronous = wanted;
        return true;
}

static bool run_statement(struct store *store, const char *sql, GError **error)
{
        struct tx tx = {.store = store, .connection = &store->writer, .writable = true};
        return tx_execute(&tx, error, NULL, sql, "");
}

// Runs one member in its savepoint. False: the transaction as a whole is lost.
static bool run_member(struct store *store, struct write *write, GError **error)
{
        if (!run_statement(store, "SAVEPOINT member", error))
                return false;
        struct tx tx = {.store = store, .connection = &store->writer, .writable = true};
        write->ok = write->fn(&tx, write->data, &write->error);
        g_assert(write->ok == (write->error == NULL));
        if (sqlite3_get_autocommit(store->writer.db)) {
                if (write->ok)
                        return error_fail(error, ERROR_UNKNOWN, "metadata: the transaction was rolled back");
                g_propagate_error(error, g_error_copy(write->error));
                return false;
        }
        write->changed = write->ok && tx.changed;
        write->removed = write->ok && tx.removed;
        return (write->ok || run_statement(store, "ROLLBACK TO member", error)) &&
               run_statement(store, "RELEASE member", error);
}

static bool run_members(struct store *store, struct write *batch, GError **error)
{
        enum tx_class class = TX_RELAXED;
        for (struct write *write = batch; write != NULL; write = write->next)
                class = MAX(class, write->class);
        if (!set_synchronous(&store->writer, class, error) || !run_statement(store, "BEGIN IMMEDIATE", error))
                return false;
        for (struct write *write = batch; write != NULL; write = write->next) {
                if (!run_member(store, write, error))
                        return false;
        }
        return run_statement(store, "COMMIT", error);
}

static void run_batch(struct store *store, struct write *batch)
{
        g_autoptr(GError) error = NULL;
        bool changed = false, removed = false;
        if (run_members(store, batch, &error)) {
                for (struct write *write = batch; write != NULL; write = write->next) {
                        changed = changed || write->changed;
                        removed = removed || write->removed;
                }
        } else {
                if (!sqlite3_get_autocommit(store->writer.db))
                        sqlite3_exec(store->writer.db, "ROLLBACK", NULL, NULL, NULL);
                for (struct write *write = batch; write != NULL; write = write->next) {
                        if (write->error == NULL)
                                write->error = g_error_copy(error);
                        write->ok = false;
                }
        }
        if (changed && store->observer != NULL)
                store->observer(store->observer_data, removed);
}

static void lead(struct store *store)
{
        struct write *batch = store->queue;
        store->queue = NULL;
        store->queue_end = &store->queue;
        store->writing = true;
        uv_mutex_unlock(&store->mutex);
        run_batch(store, batch);
        uv_mutex_lock(&store->mutex);
        store->writing = false;
        for (struct write *write = batch, *next; write != NULL; write = next) {
                next = write->next; // a member that is done is gone with its thread
                write->done = true;
        }
        uv_cond_broadcast(&store->changed);
}

static bool on_write(struct metadata *metadata, enum tx_class class, tx_fn fn, void *data, GError **error)
{
        struct store *store = store_of(metadata);
        struct write write = {.class = class, .fn = fn, .data = data};
        uv_mutex_lock(&store->mutex);
        *store->queue_end = &write;
        store->queue_end = &write.next;
        while (!write.done) {
                if (store->writing)
                        uv_cond_wait(&store->changed, &store->mutex);
                else
                        lead(store);
        }
        uv_mutex_unlock(&store->mutex);
        if (write.error != NULL)
                g_propagate_error(error, write.error);
        return write.ok;
}

// ---- reading

static struct connection *take_reader(struct store *store)
{
        uv_mutex_lock(&store->mutex);
        for (;;) {
                for (size_t i = 0; i < N_READERS; i++) {
                        if (!store->reader_busy[i]) {
                                store->reader_busy[i] = true;
                                uv_mutex_unlock(&store->mutex);
                                return &store->readers[i];
                        }
                }
                uv_cond_wait(&store->changed, &store->mutex);
        }
}

static void give_reader(struct store *store, struct connection *reader)
{
        uv_mutex_lock(&store->mutex);
        store->reader_busy[reader - store->readers] = false;
        uv_cond_broadcast(&store->changed);
        uv_mutex_unlock(&store->mutex);
}

static bool on_read(struct metadata *metadata, tx_fn fn, void *data, GError **error)
{
        struct store *store = store_of(metadata);
        struct connection *reader = take_reader(store);
        struct tx tx = {.store = store, .connection = reader};
        struct query begin;
        bool ok = query_start(&begin, &tx, error, "BEGIN", "");
        if (ok) {
                query_row(&begin);
                ok = query_end(&begin, error);
        }
        if (ok) {
                ok = fn(&tx, data, error);
                struct query end;
                if (query_start(&end, &tx, NULL, "COMMIT", "")) {
                        query_row(&end);
                        query_end(&end, NULL);
                }
                g_assert(sqlite3_get_autocommit(reader->db));
        }
        give_reader(store, reader);
        return ok;
}

// ---- what garbage collection wants to know

struct observer {
        void (*fn)(void *data, bool removed);
        void *data;
};

// As a write, it changes between two batches.
static bool set_observer(struct tx *tx, void *data, GError **error)
{
        const struct observer *observer = data;
        tx->store->observer = observer->fn;
        tx->store->observer_data = observer->data;
        return true;
}

static void on_observe(struct metadata *metadata, void (*fn)(void *data, bool removed), void *data)
{
        struct observer observer = {fn, data};
        on_write(metadata, TX_RELAXED, set_observer, &observer, NULL);
}

static void touch_free(void *data)
{
        struct touch *touch = data;
        g_free(touch->namespace_);
        g_free(touch->key);
        g_free(touch);
}

// The same goes for touched.
static bool begin_touched(struct tx *tx, void *data, GError **error)
{
        g_assert(tx->store->touched == NULL);
        tx->store->touched = g_ptr_array_new_with_free_func(touch_free);
        return true;
}

static bool end_touched(struct tx *tx, void *data, GError **error)
{
        g_clear_pointer(&tx->store->touched, g_ptr_array_unref);
        return true;
}

static void on_touched_begin(struct metadata *metadata)
{
        on_write(metadata, TX_RELAXED, begin_touched, NULL, NULL);
}

static void on_touched_end(struct metadata *metadata)
{
        on_write(metadata, TX_RELAXED, end_touched, NULL, NULL);
}

static void on_touched(struct tx *tx, resource_fn fn, void *data)
{
        g_assert(tx->writable);
        GPtrArray *touched = tx->store->touched;
        for (guint i = 0; touched != NULL && i < touched->len; i++) {
                const struct touch *touch = g_ptr_array_index(touched, i);
                fn(data, touch->type, touch->namespace_, touch->key);
        }
}

static void on_mark_removed(struct tx *tx)
{
        g_assert(tx->writable);
        tx->removed = true;
}

bool tx_touch(struct tx *tx, enum resource_type type, const char *namespace_, const char *key, GError **error)
{
        if (tx->store->touched != NULL) {
                struct touch *touch = g_new(struct touch, 1);
                *touch = (struct touch){type, g_strdup(namespace_), g_strdup(key)};
                g_ptr_array_add(tx->store->touched, touch);
        }
        return tx_ensure_namespace(tx, namespace_, error);
}

static const struct metadata_ops ops = {
        .write = on_write,
        .read = on_read,
        .observe = on_observe,
        .touched_begin = on_touched_begin,
        .touched_end = on_touched_end,
        .touched = on_touched,
        .mark_removed = on_mark_removed,
        .check = store_check,
};

// ---- opening and closing

// The lock is on a file of its own: closing any descriptor of the database would drop SQLite's own locks on it.
static int take_lock(const char *path, GError **error)
{
        g_autofree char *lock_path = g_strconcat(path, ".lock", NULL);
        fd_auto int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) {
                error_fail_errno(error, errno, "open %s", lock_path);
                return -1;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
                error_fail(error, ERROR_FAILED_PRECONDITION, "%s: another skiffd is using it", path);
                return -1;
        }
        return fd_take(&fd);
}

static bool sync_directory_of(const char *path, GError **error)
{
        g_autofree char *directory = g_path_get_dirname(path);
        fd_auto int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) != 0)
                return error_fail_errno(error, errno, "sync %s", directory);
        return true;
}

static bool open_all(struct store *store, GError **error)
{
        const char *path = store->path;
        if (!reserve_database(path, error) || !connection_open(&store->writer, path, true, error) ||
                !schema_migrate(&store->writer, path, error) || !reserve_log(path, error) ||
                !sync_directory_of(path, error))
                return false;
        for (size_t i = 0; i < N_READERS; i++) {
                if (!connection_open(&store->readers[i], path, false, error))
                        return false;
        }
        return true;
}

struct metadata *store_open(const char *path, GError **error)
{
        // One allocation counter less to lock; has no effect (and need not) once SQLite is in use.
        sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
        struct store *store = g_new0(struct store, 1);
        store->metadata = (struct metadata){
                .ops = &ops,
                .namespaces = &store_namespaces,
                .containers = &store_containers,
                .images = &store_images,
                .blobs = &store_blobs,
                .ingests = &store_ingests,
                .leases = &store_leases,
                .snapshots = &store_snapshots,
                .sandboxes = &store_sandboxes,
                .events = &store_events,
                .activations = &store_activations,
        };
        store->path = g_strdup(path);
        store->queue_end = &store->queue;
        g_assert(uv_mutex_init(&store->mutex) == 0);
        g_assert(uv_cond_init(&store->changed) == 0);
        store->lock_fd = take_lock(path, error);
        if (store->lock_fd < 0 || !open_all(store, error)) {
                store_close(&store->metadata);
                return NULL;
        }
        return &store->metadata;
}

void store_close(struct metadata *metadata)
{
        if (metadata == NULL)
                return;
        struct store *store = store_of(metadata);
        for (size_t i = 0; i < N_READERS; i++)
                connection_close(&store->readers[i]);
        connection_close(&store->writer);
        fd_close(&store->lock_fd);
        uv_cond_destroy(&store->changed);
        uv_mutex_destroy(&store->mutex);
        g_free(store->path);
        g_free(store);
}
