// SPDX-License-Identifier: Apache-2.0
//
// Rows of snapshots, and the sequences of their backend names and directory numbers.
#include "store/internal.h"

#include "core/snapshot.h"

#define COLUMNS                                                                                                        \
        "snapshotter, key, backend, parent, kind, labels, created, updated, number, directory, inodes, size, blob, "   \
        "diff_id, boot_id, synced"

static void read_snapshot(const struct query *query, struct arena *arena, void *ret)
{
        *(struct snapshot *)ret = (struct snapshot){
                .snapshotter = column_text(query, 0, arena),
                .key = column_text(query, 1, arena),
                .backend = column_text(query, 2, arena),
                .parent = column_text(query, 3, arena),
                .kind = (enum snapshot_kind)column_int(query, 4),
                .labels = column_labels(query, 5, arena),
                .created_ns = column_int(query, 6),
                .updated_ns = column_int(query, 7),
                .number = column_int(query, 8),
                .directory = column_text(query, 9, arena),
                .inodes = column_int(query, 10),
                .size_bytes = column_int(query, 11),
                .blob = column_text(query, 12, arena),
                .diff_id = column_text(query, 13, arena),
                .boot_id = column_text(query, 14, arena),
                .synced = column_int(query, 15) != 0,
        };
}

static bool not_found(const char *key, GError **error)
{
        return error_fail(error, ERROR_NOT_FOUND, "snapshot %s does not exist: not found", key);
}

static bool get(struct tx *tx, const char *namespace_, const char *snapshotter, const char *key, struct arena *arena,
        struct snapshot *ret, GError **error)
{
        struct query query;
        bool found;
        return query_start(&query, tx, error,
                       "SELECT " COLUMNS " FROM snapshots WHERE namespace = ? AND snapshotter = ? AND key = ?", "ttt",
                       namespace_, snapshotter, key) &&
               query_one(&query, arena, read_snapshot, ret, &found, error) && (found || not_found(key, error));
}

struct walk {
        snapshot_fn fn;
        void *data;
};

static bool read_row(void *data, const struct query *query, struct arena *arena)
{
        const struct walk *walk = data;
        struct snapshot snapshot;
        read_snapshot(query, arena, &snapshot);
        const char *namespace_ = column_text(query, 16, arena);
        return walk->fn(walk->data, namespace_, &snapshot);
}

static bool walk(struct tx *tx, const char *namespace_, const char *snapshotter, struct arena *arena, snapshot_fn fn,
        void *data, GError **error)
{
        struct query query;
        struct walk state = {fn, data};
        bool started =
                namespace_ != NULL && snapshotter != NULL
                        ? query_start(&query, tx, error,
                                  "SELECT " COLUMNS ", namespace FROM snapshots WHERE namespace = ? AND "
                                  "snapshotter = ? ORDER BY key",
                                  "tt", namespace_, snapshotter)
                        : query_start(&query, tx, error,
                                  "SELECT " COLUMNS ", namespace FROM snapshots WHERE (?1 IS NULL OR namespace = ?1) "
                                  "AND (?2 IS NULL OR snapshotter = ?2) ORDER BY namespace, snapshotter, key",
                                  "tt", namespace_, snapshotter);
        return started && query_walk(&query, arena, read_row, &state, error);
}

static bool touch(struct tx *tx, const char *namespace_, const struct snapshot *snapshot, GError **error)
{
        g_autofree char *key = g_strconcat(snapshot->snapshotter, "/", snapshot->key, NULL);
        return tx_touch(tx, RESOURCE_SNAPSHOT, namespace_, key, error);
}

static bool insert(struct tx *tx, const char *namespace_, const struct snapshot *s, GError **error)
{
        g_autoptr(GByteArray) labels = pack_labels(&s->labels);
        int changes;
        if (!touch(tx, namespace_, s, error) ||
                !tx_execute(tx, error, &changes,
                        "INSERT INTO snapshots (namespace, " COLUMNS
                        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        "tttttipiiitiittti", namespace_, s->snapshotter, s->key, s->backend, s->parent,
                        (int64_t)s->kind, labels, s->created_ns, s->updated_ns, s->number, s->directory, s->inodes,
                        s->size_bytes, s->blob, s->diff_id, s->boot_id, (int64_t)s->synced))
                return false;
        return changes > 0 || error_fail(error, ERROR_ALREADY_EXISTS, "snapshot \"%s\": already exists", s->key);
}

static bool update(struct tx *tx, const char *namespace_, const struct snapshot *s, GError **error)
{
        g_autoptr(GByteArray) labels = pack_labels(&s->labels);
        int changes;
        if (!touch(tx, namespace_, s, error) ||
                !tx_execute(tx, error, &changes,
                        "UPDATE snapshots SET backend = ?, parent = ?, kind = ?, labels = ?, created = ?, updated = ?, "
                        "number = ?, directory = ?, inodes = ?, size = ?, blob = ?, diff_id = ?, boot_id = ?, "
                        "synced = ? WHERE namespace = ? AND snapshotter = ? AND key = ?",
                        "ttipiiitiitttittt", s->backend, s->parent, (int64_t)s->kind, labels, s->created_ns,
                        s->updated_ns, s->number, s->directory, s->inodes, s->size_bytes, s->blob, s->diff_id,
                        s->boot_id, (int64_t)s->synced, namespace_, s->snapshotter, s->key))
                return false;
        return changes > 0 || not_found(s->key, error);
}

static bool remove_snapshot(
        struct tx *tx, const char *namespace_, const char *snapshotter, const char *key, GError **error)
{
        int changes;
        if (!tx_execute(tx, error, &changes,
                    "DELETE FROM snapshots WHERE namespace = ? AND snapshotter = ? AND key = ?", "ttt", namespace_,
                    snapshotter, key))
                return false;
        return changes > 0 || not_found(key, error);
}

static bool has_child(
        struct tx *tx, const char *namespace_, const char *snapshotter, const char *key, bool *ret_has, GError **error)
{
        return tx_exists(tx, error, ret_has,
                "SELECT 1 FROM snapshots WHERE namespace = ? AND snapshotter = ? AND parent = ? LIMIT 1", "ttt",
                namespace_, snapshotter, key);
}

static bool next_sequence(
        struct tx *tx, const char *namespace_, const char *snapshotter, int64_t *ret_sequence, GError **error)
{
        g_autofree char *name = g_strdup_printf("snapshot/%s/%s", namespace_, snapshotter);
        return sequence_advance(tx, name, 1, ret_sequence, error);
}

static bool reserve_numbers(struct tx *tx, const char *snapshotter, int64_t n, int64_t *ret_first, GError **error)
{
        g_autofree char *name = g_strdup_printf("directory/%s", snapshotter);
        int64_t last;
        if (!sequence_advance(tx, name, n, &last, error))
                return false;
        *ret_first = last - n + 1;
        return true;
}

const struct snapshot_ops store_snapshots = {
        .get = get,
        .walk = walk,
        .insert = insert,
        .update = update,
        .remove = remove_snapshot,
        .has_child = has_child,
        .next_sequence = next_sequence,
        .reserve_numbers = reserve_numbers,
};
