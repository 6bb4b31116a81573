// SPDX-License-Identifier: Apache-2.0
//
// Rows of blobs and ingests. A blob's bytes are shared between namespaces, its row is not: the index by digest answers
// whether anybody still needs the bytes.
#include "store/internal.h"

#include "core/blob.h"

// ---- blobs

#define BLOB_COLUMNS "digest, size, labels, created, updated"

static void read_blob(const struct query *query, struct arena *arena, void *ret)
{
        *(struct blob *)ret = (struct blob){
                .digest = column_text(query, 0, arena),
                .size = column_int(query, 1),
                .labels = column_labels(query, 2, arena),
                .created_ns = column_int(query, 3),
                .updated_ns = column_int(query, 4),
        };
}

static bool blob_not_found(const char *digest, GError **error)
{
        return error_fail(error, ERROR_NOT_FOUND, "content digest %s: not found", digest);
}

static bool get_blob(struct tx *tx, const char *namespace_, const char *digest, struct arena *arena, struct blob *ret,
        GError **error)
{
        struct query query;
        bool found;
        return query_start(&query, tx, error, "SELECT " BLOB_COLUMNS " FROM blobs WHERE namespace = ? AND digest = ?",
                       "tt", namespace_, digest) &&
               query_one(&query, arena, read_blob, ret, &found, error) && (found || blob_not_found(digest, error));
}

struct blob_walk {
        blob_fn fn;
        void *data;
};

static bool read_blob_row(void *data, const struct query *query, struct arena *arena)
{
        const struct blob_walk *walk = data;
        struct blob blob;
        read_blob(query, arena, &blob);
        return walk->fn(walk->data, &blob);
}

static bool walk_blobs(
        struct tx *tx, const char *namespace_, struct arena *arena, blob_fn fn, void *data, GError **error)
{
        struct query query;
        struct blob_walk state = {fn, data};
        return query_start(&query, tx, error, "SELECT " BLOB_COLUMNS " FROM blobs WHERE namespace = ? ORDER BY digest",
                       "t", namespace_) &&
               query_walk(&query, arena, read_blob_row, &state, error);
}

static bool insert_blob(struct tx *tx, const char *namespace_, const struct blob *blob, GError **error)
{
        g_autoptr(GByteArray) labels = pack_labels(&blob->labels);
        int changes;
        if (!tx_touch(tx, RESOURCE_CONTENT, namespace_, blob->digest, error) ||
                !tx_execute(tx, error, &changes,
                        "INSERT INTO blobs (namespace, " BLOB_COLUMNS
                        ") VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        "ttipii", namespace_, blob->digest, blob->size, labels, blob->created_ns, blob->updated_ns))
                return false;
        return changes > 0 || error_fail(error, ERROR_ALREADY_EXISTS, "content %s: already exists", blob->digest);
}

static bool update_blob(struct tx *tx, const char *namespace_, const struct blob *blob, GError **error)
{
        g_autoptr(GByteArray) labels = pack_labels(&blob->labels);
        int changes;
        if (!tx_touch(tx, RESOURCE_CONTENT, namespace_, blob->digest, error) ||
                !tx_execute(tx, error, &changes,
                        "UPDATE blobs SET labels = ?, updated = ? WHERE namespace = ? AND digest = ?", "pitt", labels,
                        blob->updated_ns, namespace_, blob->digest))
                return false;
        return changes > 0 || blob_not_found(blob->digest, error);
}

static bool remove_blob(struct tx *tx, const char *namespace_, const char *digest, GError **error)
{
        int changes;
        if (!tx_execute(tx, error, &changes, "DELETE FROM blobs WHERE namespace = ? AND digest = ?", "tt", namespace_,
                    digest))
                return false;
        return changes > 0 || blob_not_found(digest, error);
}

static bool is_used(struct tx *tx, const char *digest, bool *ret_used, GError **error)
{
        return tx_exists(tx, error, ret_used,
                "SELECT 1 FROM blobs WHERE digest = ?1 UNION ALL "
                "SELECT 1 FROM ingests WHERE expected = ?1 AND expected != '' LIMIT 1",
                "t", digest);
}

static bool is_shareable(struct tx *tx, const char *digest, bool *ret_shareable, GError **error)
{
        struct query query;
        AUTO(arena) arena = arena_new();
        if (!query_start(&query, tx, error,
                    "SELECT labels FROM namespaces WHERE labels IS NOT NULL AND "
                    "EXISTS (SELECT 1 FROM blobs WHERE namespace = name AND digest = ?)",
                    "t", digest))
                return false;
        bool shareable = false;
        while (!shareable && query_row(&query)) {
                struct labels labels = column_labels(&query, 0, arena);
                shareable = g_strcmp0(labels_get(&labels, "containerd.io/namespace.shareable"), "true") == 0;
        }
        if (!query_end(&query, error))
                return false;
        *ret_shareable = shareable;
        return true;
}

struct digest_walk {
        digest_fn fn;
        void *data;
};

static bool read_digest(void *data, const struct query *query, struct arena *arena)
{
        const struct digest_walk *walk = data;
        return walk->fn(walk->data, (const char *)sqlite3_column_text(query->statement, 0));
}

static bool walk_used(struct tx *tx, digest_fn fn, void *data, GError **error)
{
        struct query query;
        struct digest_walk state = {fn, data};
        return query_start(&query, tx, error,
                       "SELECT digest FROM blobs UNION ALL SELECT expected FROM ingests WHERE expected != ''", "") &&
               query_walk(&query, NULL, read_digest, &state, error);
}

const struct blob_ops store_blobs = {
        .get = get_blob,
        .walk = walk_blobs,
        .insert = insert_blob,
        .update = update_blob,
        .remove = remove_blob,
        .is_used = is_used,
        .is_shareable = is_shareable,
        .walk_used = walk_used,
};

// ---- ingests

#define INGEST_COLUMNS "ref, backend, expected, expires"

static void read_ingest(const struct query *query, struct arena *arena, void *ret)
{
        *(struct ingest *)ret = (struct ingest){
                .ref = column_text(query, 0, arena),
                .backend = column_text(query, 1, arena),
                .expected = column_text(query, 2, arena),
                .expires_ns = column_int(query, 3),
        };
}

static bool get_ingest(
        struct tx *tx, const char *namespace_, const char *ref, struct arena *arena, struct ingest *ret, GError **error)
{
        struct query query;
        bool found;
        return query_start(&query, tx, error, "SELECT " INGEST_COLUMNS " FROM ingests WHERE namespace = ? AND ref = ?",
                       "tt", namespace_, ref) &&
               query_one(&query, arena, read_ingest, ret, &found, error) &&
               (found || error_fail(error, ERROR_NOT_FOUND, "reference %s: not found", ref));
}

struct ingest_walk {
        ingest_fn fn;
        void *data;
};

static bool read_ingest_row(void *data, const struct query *query, struct arena *arena)
{
        const struct ingest_walk *walk = data;
        struct ingest ingest;
        read_ingest(query, arena, &ingest);
        return walk->fn(walk->data, &ingest);
}

static bool walk_ingests(
        struct tx *tx, const char *namespace_, struct arena *arena, ingest_fn fn, void *data, GError **error)
{
        struct query query;
        struct ingest_walk state = {fn, data};
        return query_start(&query, tx, error, "SELECT " INGEST_COLUMNS " FROM ingests WHERE namespace = ? ORDER BY ref",
                       "t", namespace_) &&
               query_walk(&query, arena, read_ingest_row, &state, error);
}

static bool put_ingest(struct tx *tx, const char *namespace_, const struct ingest *ingest, GError **error)
{
        return tx_touch(tx, RESOURCE_INGEST, namespace_, ingest->ref, error) &&
               tx_execute(tx, error, NULL,
                       "INSERT OR REPLACE INTO ingests (namespace, " INGEST_COLUMNS ") VALUES (?, ?, ?, ?, ?)", "tttti",
                       namespace_, ingest->ref, ingest->backend, ingest->expected, ingest->expires_ns);
}

static bool remove_ingest(struct tx *tx, const char *namespace_, const char *ref, GError **error)
{
        return tx_execute(
                tx, error, NULL, "DELETE FROM ingests WHERE namespace = ? AND ref = ?", "tt", namespace_, ref);
}

static bool backend_is_used(struct tx *tx, const char *backend, bool *ret_used, GError **error)
{
        return tx_exists(tx, error, ret_used, "SELECT 1 FROM ingests WHERE backend = ? LIMIT 1", "t", backend);
}

const struct ingest_ops store_ingests = {
        .get = get_ingest,
        .walk = walk_ingests,
        .put = put_ingest,
        .remove = remove_ingest,
        .backend_is_used = backend_is_used,
};
