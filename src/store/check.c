// SPDX-License-Identifier: Apache-2.0
//
// The check of the whole database: what SQLite can tell of its pages and indexes, and what no transaction of ours could
// have left behind. On a connection of its own, as it takes long and there are few readers.
#include "store/internal.h"

#include <string.h>

enum { STEPS_BETWEEN_LOOKS = 10000 };

static const char *const queries[] = {
        "PRAGMA integrity_check(20)",
        "SELECT 'snapshot ' || key || ' of ' || namespace || ' stands on ' || parent || ', which has no record' "
        "FROM snapshots AS s WHERE parent != '' AND NOT EXISTS (SELECT 1 FROM snapshots AS p "
        "WHERE p.namespace = s.namespace AND p.snapshotter = s.snapshotter AND p.key = s.parent) LIMIT 20",
        "SELECT DISTINCT 'lease ' || lease || ' of ' || namespace || ' holds things and has no record' "
        "FROM lease_resources AS r WHERE NOT EXISTS (SELECT 1 FROM leases AS l "
        "WHERE l.namespace = r.namespace AND l.id = r.lease) LIMIT 20",
};

static bool find(struct tx *tx, GString *findings, const char *sql, GError **error)
{
        struct query query;
        if (!query_start(&query, tx, error, sql, ""))
                return false;
        while (query_row(&query)) {
                const char *line = (const char *)sqlite3_column_text(query.statement, 0);
                if (line != NULL && strcmp(line, "ok") != 0)
                        g_string_append_printf(findings, "%s%s", findings->len > 0 ? "; " : "", line);
        }
        return query_end(&query, error);
}

static int is_stopped(void *data)
{
        return atomic_load((const atomic_bool *)data);
}

bool store_check(struct metadata *metadata, const atomic_bool *stop, GError **error)
{
        struct store *store = (struct store *)metadata;
        struct connection connection = {0};
        g_autoptr(GString) findings = g_string_new(NULL);
        g_autoptr(GError) failure = NULL;
        if (!connection_open(&connection, store->path, false, error))
                return false;
        sqlite3_progress_handler(connection.db, STEPS_BETWEEN_LOOKS, is_stopped, (void *)stop);
        struct tx tx = {.store = store, .connection = &connection};
        bool ok = true;
        for (size_t i = 0; i < G_N_ELEMENTS(queries) && ok; i++)
                ok = find(&tx, findings, queries[i], &failure);
        connection_close(&connection);
        if (atomic_load(stop))
                return error_fail(error, ERROR_CANCELED, "the check of the metadata was stopped");
        if (!ok) {
                g_propagate_error(error, g_steal_pointer(&failure));
                return false;
        }
        return findings->len == 0 || error_fail(error, ERROR_DATA_LOSS, "metadata is damaged: %s", findings->str);
}
