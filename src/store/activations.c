// SPDX-License-Identifier: Apache-2.0
//
// Rows of activated mounts.
#include "store/internal.h"

#include "core/activation.h"

#include <string.h>

#define COLUMNS "name, labels, lease, number, complete, info, created, updated"

static void read_activation(const struct query *query, struct arena *arena, void *ret)
{
        struct activation activation = {
                .name = column_text(query, 0, arena),
                .labels = column_labels(query, 1, arena),
                .lease = column_text(query, 2, arena),
                .number = column_int(query, 3),
                .complete = column_int(query, 4) != 0,
                .n_info = (size_t)sqlite3_column_bytes(query->statement, 5),
                .created_ns = column_int(query, 6),
                .updated_ns = column_int(query, 7),
        };
        char *info = arena_alloc(arena, activation.n_info);
        if (activation.n_info > 0)
                memcpy(info, sqlite3_column_blob(query->statement, 5), activation.n_info);
        activation.info = info;
        *(struct activation *)ret = activation;
}

static bool not_found(const char *name, GError **error)
{
        return error_fail(error, ERROR_NOT_FOUND, "mount \"%s\": not found", name);
}

static bool get(struct tx *tx, const char *namespace_, const char *name, struct arena *arena, struct activation *ret,
        GError **error)
{
        struct query query;
        bool found;
        return query_start(&query, tx, error, "SELECT " COLUMNS " FROM activations WHERE namespace = ? AND name = ?",
                       "tt", namespace_, name) &&
               query_one(&query, arena, read_activation, ret, &found, error) && (found || not_found(name, error));
}

struct walk {
        activation_fn fn;
        void *data;
};

static bool read_row(void *data, const struct query *query, struct arena *arena)
{
        const struct walk *walk = data;
        struct activation activation;
        read_activation(query, arena, &activation);
        return walk->fn(walk->data, column_text(query, 8, arena), &activation);
}

static bool walk(
        struct tx *tx, const char *namespace_, struct arena *arena, activation_fn fn, void *data, GError **error)
{
        struct query query;
        struct walk state = {fn, data};
        return query_start(&query, tx, error,
                       "SELECT " COLUMNS ", namespace FROM activations WHERE (?1 IS NULL OR namespace = ?1) "
                       "ORDER BY namespace, name",
                       "t", namespace_) &&
               query_walk(&query, arena, read_row, &state, error);
}

static bool put(struct tx *tx, const char *namespace_, const struct activation *a, GError **error)
{
        g_autoptr(GByteArray) labels = pack_labels(&a->labels);
        return tx_touch(tx, RESOURCE_MOUNT, namespace_, a->name, error) &&
               tx_execute(tx, error, NULL,
                       "INSERT OR REPLACE INTO activations (namespace, " COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                       "ttptiibii", namespace_, a->name, labels, a->lease, a->number, (int64_t)a->complete, a->info,
                       a->n_info, a->created_ns, a->updated_ns);
}

static bool remove_activation(struct tx *tx, const char *namespace_, const char *name, GError **error)
{
        int changes;
        if (!tx_execute(tx, error, &changes, "DELETE FROM activations WHERE namespace = ? AND name = ?", "tt",
                    namespace_, name))
                return false;
        return changes > 0 || not_found(name, error);
}

static bool next_number(struct tx *tx, int64_t *ret_number, GError **error)
{
        return sequence_advance(tx, "activation", 1, ret_number, error);
}

const struct activation_ops store_activations = {
        .get = get,
        .walk = walk,
        .put = put,
        .remove = remove_activation,
        .next_number = next_number,
};
