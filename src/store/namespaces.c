// SPDX-License-Identifier: Apache-2.0
//
// A namespace's row comes with the first record in it, so that listing namespaces is one query.
#include "store/internal.h"

#include "core/namespace.h"

bool tx_ensure_namespace(struct tx *tx, const char *namespace_, GError **error)
{
        return tx_execute(
                tx, error, NULL, "INSERT INTO namespaces (name) VALUES (?) ON CONFLICT DO NOTHING", "t", namespace_);
}

static void read_record(const struct query *query, struct arena *arena, void *ret)
{
        *(struct namespace_record *)ret =
                (struct namespace_record){column_text(query, 0, arena), column_labels(query, 1, arena)};
}

static bool get(struct tx *tx, const char *name, struct arena *arena, struct namespace_record *ret, GError **error)
{
        struct query query;
        bool found;
        return query_start(&query, tx, error, "SELECT name, labels FROM namespaces WHERE name = ?", "t", name) &&
               query_one(&query, arena, read_record, ret, &found, error) && found;
}

struct walk {
        namespace_fn fn;
        void *data;
};

static bool read_row(void *data, const struct query *query, struct arena *arena)
{
        const struct walk *walk = data;
        struct namespace_record record;
        read_record(query, arena, &record);
        return walk->fn(walk->data, &record);
}

static bool walk(struct tx *tx, struct arena *arena, namespace_fn fn, void *data, GError **error)
{
        struct query query;
        struct walk state = {fn, data};
        return query_start(&query, tx, error, "SELECT name, labels FROM namespaces ORDER BY name", "") &&
               query_walk(&query, arena, read_row, &state, error);
}

static bool insert(struct tx *tx, const struct namespace_record *record, GError **error)
{
        g_autoptr(GByteArray) labels = pack_labels(&record->labels);
        int changes;
        if (!tx_execute(tx, error, &changes,
                    "INSERT INTO namespaces (name, labels) VALUES (?, ?) ON CONFLICT DO NOTHING", "tp", record->name,
                    labels))
                return false;
        return changes > 0 || error_fail(error, ERROR_ALREADY_EXISTS, "namespace \"%s\": already exists", record->name);
}

static bool set_labels(struct tx *tx, const char *name, const struct labels *labels, GError **error)
{
        g_autoptr(GByteArray) packed = pack_labels(labels);
        return tx_execute(tx, error, NULL,
                "INSERT INTO namespaces (name, labels) VALUES (?, ?) "
                "ON CONFLICT DO UPDATE SET labels = excluded.labels",
                "tp", name, packed);
}

// Appends what the namespace still has, each kind once, as containerd words it.
static bool describe_content(struct tx *tx, const char *name, GString *what, GError **error)
{
        struct query query;
        if (!query_start(&query, tx, error,
                    "SELECT 'images' WHERE EXISTS (SELECT 1 FROM images WHERE namespace = ?1) "
                    "UNION ALL SELECT 'blobs' WHERE EXISTS (SELECT 1 FROM blobs WHERE namespace = ?1) "
                    "UNION ALL SELECT 'containers' WHERE EXISTS (SELECT 1 FROM containers WHERE namespace = ?1) "
                    "UNION ALL SELECT DISTINCT 'snapshots on \"' || snapshotter || '\" snapshotter' FROM snapshots "
                    "WHERE namespace = ?1",
                    "t", name))
                return false;
        while (query_row(&query))
                g_string_append_printf(
                        what, "%s%s", what->len > 0 ? ", " : "", (const char *)sqlite3_column_text(query.statement, 0));
        return query_end(&query, error);
}

static bool remove_rows(struct tx *tx, const char *name, int *ret_changes, GError **error)
{
        return tx_execute(tx, error, NULL, "DELETE FROM leases WHERE namespace = ?", "t", name) &&
               tx_execute(tx, error, NULL, "DELETE FROM lease_resources WHERE namespace = ?", "t", name) &&
               tx_execute(tx, error, NULL, "DELETE FROM ingests WHERE namespace = ?", "t", name) &&
               tx_execute(tx, error, NULL, "DELETE FROM sandboxes WHERE namespace = ?", "t", name) &&
               tx_execute(tx, error, ret_changes, "DELETE FROM namespaces WHERE name = ?", "t", name);
}

static bool remove_namespace(struct tx *tx, const char *name, GError **error)
{
        g_autoptr(GString) what = g_string_new(NULL);
        if (!describe_content(tx, name, what, error))
                return false;
        if (what->len > 0)
                return error_fail(error, ERROR_FAILED_PRECONDITION,
                        "namespace \"%s\" must be empty, but it still has %s: failed precondition", name, what->str);
        int changes;
        if (!remove_rows(tx, name, &changes, error))
                return false;
        return changes > 0 || error_fail(error, ERROR_NOT_FOUND, "namespace \"%s\": not found", name);
}

const struct namespace_ops store_namespaces = {
        .get = get,
        .walk = walk,
        .insert = insert,
        .set_labels = set_labels,
        .remove = remove_namespace,
};
