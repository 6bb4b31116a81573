// SPDX-License-Identifier: Apache-2.0
//
// Rows of events. AUTOINCREMENT, so that a cursor is never given twice, even after the newest rows were trimmed.
#include "store/internal.h"

#include "core/event_log.h"

static bool append(struct tx *tx, const struct event *event, int64_t *ret_cursor, GError **error)
{
        if (!tx_execute(tx, error, NULL,
                    "INSERT INTO events (namespace, topic, timestamp, type_url, value) VALUES (?, ?, ?, ?, ?)", "ttitb",
                    event->namespace_, event->topic, event->timestamp_ns, event->type_url, event->value,
                    event->n_value))
                return false;
        *ret_cursor = sqlite3_last_insert_rowid(tx->connection->db);
        return true;
}

struct walk {
        event_log_fn fn;
        void *data;
};

static bool read_row(void *data, const struct query *query, struct arena *arena)
{
        const struct walk *walk = data;
        AUTO(event)
        event = event_new(column_text(query, 1, arena), column_text(query, 2, arena), column_int(query, 3),
                column_text(query, 4, arena), sqlite3_column_blob(query->statement, 5),
                (size_t)sqlite3_column_bytes(query->statement, 5));
        return walk->fn(walk->data, column_int(query, 0), event);
}

static bool walk_after(struct tx *tx, int64_t cursor, event_log_fn fn, void *data, GError **error)
{
        struct query query;
        struct walk state = {fn, data};
        return query_start(&query, tx, error,
                       "SELECT cursor, namespace, topic, timestamp, type_url, value FROM events WHERE cursor > ? "
                       "ORDER BY cursor",
                       "i", cursor) &&
               query_walk(&query, NULL, read_row, &state, error);
}

static bool trim(struct tx *tx, int64_t cursor, int64_t before_ns, GError **error)
{
        return tx_execute(
                tx, error, NULL, "DELETE FROM events WHERE cursor <= ? OR timestamp < ?", "ii", cursor, before_ns);
}

const struct event_log_ops store_events = {
        .append = append,
        .walk_after = walk_after,
        .trim = trim,
};
