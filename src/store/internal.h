// SPDX-License-Identifier: Apache-2.0
//
// What the files of the store share: connections with their prepared statements, transactions, queries.
#pragma once

#include "core/any.h"
#include "core/labels.h"
#include "core/metadata.h"
#include "store/store.h"

#include <sqlite3.h>
#include <stdint.h>
#include <uv.h>

enum { N_READERS = 2 };

// ---- connections: used by one thread at a time

struct connection {
        sqlite3 *db;
        GHashTable *statements; // the address of the SQL text → sqlite3_stmt
        int synchronous;        // 1: NORMAL, 2: FULL
};

bool connection_open(struct connection *connection, const char *path, bool writable, GError **error);
void connection_close(struct connection *connection);
// Runs SQL that gives no rows, not prepared for later.
bool connection_run(struct connection *connection, const char *sql, GError **error);
// Sets the error for a result code of this connection's last call.
bool connection_fail(struct connection *connection, int code, GError **error);

bool schema_migrate(struct connection *connection, const char *path, GError **error);

// ---- transactions

struct tx {
        struct store *store;
        struct connection *connection;
        bool writable;
        bool changed, removed;
};

struct touch {
        enum resource_type type;
        char *namespace_, *key;
};

struct write;

struct store {
        struct metadata metadata; // first: what the others see
        char *path;
        int lock_fd;

        uv_mutex_t mutex; // over what follows up to the readers
        uv_cond_t changed;
        struct write *queue, **queue_end;
        bool writing;
        bool reader_busy[N_READERS];

        struct connection readers[N_READERS];
        struct connection writer; // of the thread that set writing
        GPtrArray *touched;       // of struct touch, of the same thread; NULL: nobody wants to know
        void (*observer)(void *data, bool removed);
        void *observer_data;
};

// Notes that a record was inserted or changed, and that the namespace exists.
bool tx_touch(struct tx *tx, enum resource_type type, const char *namespace_, const char *key, GError **error);
bool tx_ensure_namespace(struct tx *tx, const char *namespace_, GError **error);

// ---- queries
//
// types has a letter for each parameter: t text (const char *, NULL is NULL), i int64_t, b bytes (const void *,
// size_t), p packed (GByteArray *, NULL or empty is NULL). The SQL text must be a literal: its address is its name.
// What is bound must stay until query_end.

struct query {
        struct tx *tx;
        sqlite3_stmt *statement;
        bool owned; // not from the cache: the cached one is in use further up
        int code;
};

bool query_start(struct query *query, struct tx *tx, GError **error, const char *sql, const char *types, ...);
// True: there is a row to read.
bool query_row(struct query *query);
// Always called after query_start succeeded; false if a row could not be read.
bool query_end(struct query *query, GError **error);

// One statement without rows. ret_changes may be NULL.
bool tx_execute(struct tx *tx, GError **error, int *ret_changes, const char *sql, const char *types, ...);
// One statement whose rows do not matter, only whether there are any.
bool tx_exists(struct tx *tx, GError **error, bool *ret_exists, const char *sql, const char *types, ...);

// The last of n numbers in a row that nobody had before under that name, the first being 1.
bool sequence_advance(struct tx *tx, const char *name, int64_t n, int64_t *ret_last, GError **error);

// A column as a text in the arena; NULL in the database is "".
const char *column_text(const struct query *query, int column, struct arena *arena);
int64_t column_int(const struct query *query, int column);
struct labels column_labels(const struct query *query, int column, struct arena *arena);
struct any column_any(const struct query *query, int column, struct arena *arena);
struct extensions column_extensions(const struct query *query, int column, struct arena *arena);

// The inverse; NULL for nothing.
GByteArray *pack_labels(const struct labels *labels);
GByteArray *pack_any(const struct any *any);
GByteArray *pack_extensions(const struct extensions *extensions);

// Reads the one row of a query that was started, if there is one, into *ret, and ends the query.
typedef void (*record_fn)(const struct query *query, struct arena *arena, void *ret);
bool query_one(struct query *query, struct arena *arena, record_fn read, void *ret, bool *ret_found, GError **error);

// Calls read_row for each row with the arena, or with one of its own per row; read_row returns false to stop. Ends the
// query.
typedef bool (*row_fn)(void *data, const struct query *query, struct arena *arena);
bool query_walk(struct query *query, struct arena *arena, row_fn read_row, void *data, GError **error);

// ---- room for writes on a full disk
//
// Before the database is opened (closing any descriptor of it would drop SQLite's locks): makes it if it is not there.
bool reserve_database(const char *path, GError **error);
// Once SQLite has made the log.
bool reserve_log(const char *path, GError **error);

bool store_check(struct metadata *metadata, const atomic_bool *stop, GError **error);

// ---- the tables of functions

extern const struct namespace_ops store_namespaces;
extern const struct container_ops store_containers;
extern const struct image_ops store_images;
extern const struct blob_ops store_blobs;
extern const struct ingest_ops store_ingests;
extern const struct lease_ops store_leases;
extern const struct snapshot_ops store_snapshots;
extern const struct sandbox_ops store_sandboxes;
extern const struct event_log_ops store_events;
extern const struct activation_ops store_activations;
