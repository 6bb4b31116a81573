// SPDX-License-Identifier: Apache-2.0
//
// Rows of sandboxes.
#include "store/internal.h"

#include "core/sandbox.h"

#define COLUMNS "id, labels, sandboxer, runtime_name, runtime_options, spec, extensions, created, updated"

static void read_sandbox(const struct query *query, struct arena *arena, void *ret)
{
        *(struct sandbox *)ret = (struct sandbox){
                .id = column_text(query, 0, arena),
                .labels = column_labels(query, 1, arena),
                .sandboxer = column_text(query, 2, arena),
                .runtime_name = column_text(query, 3, arena),
                .runtime_options = column_any(query, 4, arena),
                .spec = column_any(query, 5, arena),
                .extensions = column_extensions(query, 6, arena),
                .created_ns = column_int(query, 7),
                .updated_ns = column_int(query, 8),
        };
}

static bool not_found(const char *id, GError **error)
{
        return error_fail(error, ERROR_NOT_FOUND, "bucket \"%s\" not found: not found", id);
}

static bool get(
        struct tx *tx, const char *namespace_, const char *id, struct arena *arena, struct sandbox *ret, GError **error)
{
        struct query query;
        bool found;
        return query_start(&query, tx, error, "SELECT " COLUMNS " FROM sandboxes WHERE namespace = ? AND id = ?", "tt",
                       namespace_, id) &&
               query_one(&query, arena, read_sandbox, ret, &found, error) && (found || not_found(id, error));
}

struct walk {
        sandbox_fn fn;
        void *data;
};

static bool read_row(void *data, const struct query *query, struct arena *arena)
{
        const struct walk *walk = data;
        struct sandbox sandbox;
        read_sandbox(query, arena, &sandbox);
        return walk->fn(walk->data, &sandbox);
}

static bool walk(struct tx *tx, const char *namespace_, struct arena *arena, sandbox_fn fn, void *data, GError **error)
{
        struct query query;
        struct walk state = {fn, data};
        return query_start(&query, tx, error, "SELECT " COLUMNS " FROM sandboxes WHERE namespace = ? ORDER BY id", "t",
                       namespace_) &&
               query_walk(&query, arena, read_row, &state, error);
}

static bool insert(struct tx *tx, const char *namespace_, const struct sandbox *sandbox, GError **error)
{
        g_autoptr(GByteArray) labels = pack_labels(&sandbox->labels);
        g_autoptr(GByteArray) options = pack_any(&sandbox->runtime_options);
        g_autoptr(GByteArray) spec = pack_any(&sandbox->spec);
        g_autoptr(GByteArray) extensions = pack_extensions(&sandbox->extensions);
        int changes;
        if (!tx_ensure_namespace(tx, namespace_, error) ||
                !tx_execute(tx, error, &changes,
                        "INSERT INTO sandboxes (namespace, " COLUMNS
                        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        "ttpttpppii", namespace_, sandbox->id, labels, sandbox->sandboxer, sandbox->runtime_name,
                        options, spec, extensions, sandbox->created_ns, sandbox->updated_ns))
                return false;
        return changes > 0 || error_fail(error, ERROR_ALREADY_EXISTS,
                                      "sandbox bucket \"%s\" already exists: already exists", sandbox->id);
}

static bool update(struct tx *tx, const char *namespace_, const struct sandbox *sandbox, GError **error)
{
        g_autoptr(GByteArray) labels = pack_labels(&sandbox->labels);
        g_autoptr(GByteArray) options = pack_any(&sandbox->runtime_options);
        g_autoptr(GByteArray) spec = pack_any(&sandbox->spec);
        g_autoptr(GByteArray) extensions = pack_extensions(&sandbox->extensions);
        int changes;
        if (!tx_execute(tx, error, &changes,
                    "UPDATE sandboxes SET labels = ?, sandboxer = ?, runtime_name = ?, runtime_options = ?, spec = ?, "
                    "extensions = ?, created = ?, updated = ? WHERE namespace = ? AND id = ?",
                    "pttpppiitt", labels, sandbox->sandboxer, sandbox->runtime_name, options, spec, extensions,
                    sandbox->created_ns, sandbox->updated_ns, namespace_, sandbox->id))
                return false;
        return changes > 0 || not_found(sandbox->id, error);
}

static bool remove_sandbox(struct tx *tx, const char *namespace_, const char *id, GError **error)
{
        int changes;
        if (!tx_execute(
                    tx, error, &changes, "DELETE FROM sandboxes WHERE namespace = ? AND id = ?", "tt", namespace_, id))
                return false;
        return changes > 0 || error_fail(error, ERROR_NOT_FOUND, "failed to delete sandbox \"%s\": not found", id);
}

const struct sandbox_ops store_sandboxes = {
        .get = get,
        .walk = walk,
        .insert = insert,
        .update = update,
        .remove = remove_sandbox,
};
