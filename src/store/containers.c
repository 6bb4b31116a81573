// SPDX-License-Identifier: Apache-2.0
//
// Rows of containers. Specs are tens of kilobytes: that is why this table has rowids and keeps its key apart.
#include "store/internal.h"

#include "core/container.h"

#define COLUMNS                                                                                                        \
        "id, labels, image, runtime_name, runtime_options, spec, snapshotter, snapshot_key, extensions, sandbox, "     \
        "created, updated"

static void read_container(const struct query *query, struct arena *arena, void *ret)
{
        *(struct container *)ret = (struct container){
                .id = column_text(query, 0, arena),
                .labels = column_labels(query, 1, arena),
                .image = column_text(query, 2, arena),
                .runtime_name = column_text(query, 3, arena),
                .runtime_options = column_any(query, 4, arena),
                .spec = column_any(query, 5, arena),
                .snapshotter = column_text(query, 6, arena),
                .snapshot_key = column_text(query, 7, arena),
                .extensions = column_extensions(query, 8, arena),
                .sandbox = column_text(query, 9, arena),
                .created_ns = column_int(query, 10),
                .updated_ns = column_int(query, 11),
        };
}

static bool get(struct tx *tx, const char *namespace_, const char *id, struct arena *arena, struct container *ret,
        GError **error)
{
        struct query query;
        bool found;
        return query_start(&query, tx, error, "SELECT " COLUMNS " FROM containers WHERE namespace = ? AND id = ?", "tt",
                       namespace_, id) &&
               query_one(&query, arena, read_container, ret, &found, error) &&
               (found || error_fail(error, ERROR_NOT_FOUND, "container \"%s\" in namespace \"%s\": not found", id,
                                 namespace_));
}

struct walk {
        container_fn fn;
        void *data;
};

static bool read_row(void *data, const struct query *query, struct arena *arena)
{
        const struct walk *walk = data;
        struct container container;
        read_container(query, arena, &container);
        return walk->fn(walk->data, &container);
}

static bool walk(
        struct tx *tx, const char *namespace_, struct arena *arena, container_fn fn, void *data, GError **error)
{
        struct query query;
        struct walk state = {fn, data};
        return query_start(&query, tx, error, "SELECT " COLUMNS " FROM containers WHERE namespace = ? ORDER BY id", "t",
                       namespace_) &&
               query_walk(&query, arena, read_row, &state, error);
}

static bool insert(struct tx *tx, const char *namespace_, const struct container *container, GError **error)
{
        g_autoptr(GByteArray) labels = pack_labels(&container->labels);
        g_autoptr(GByteArray) options = pack_any(&container->runtime_options);
        g_autoptr(GByteArray) spec = pack_any(&container->spec);
        g_autoptr(GByteArray) extensions = pack_extensions(&container->extensions);
        int changes;
        if (!tx_touch(tx, RESOURCE_CONTAINER, namespace_, container->id, error) ||
                !tx_execute(tx, error, &changes,
                        "INSERT INTO containers (namespace, " COLUMNS
                        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        "ttpttppttptii", namespace_, container->id, labels, container->image, container->runtime_name,
                        options, spec, container->snapshotter, container->snapshot_key, extensions, container->sandbox,
                        container->created_ns, container->updated_ns))
                return false;
        return changes > 0 ||
               error_fail(error, ERROR_ALREADY_EXISTS, "container \"%s\": already exists", container->id);
}

static bool update(struct tx *tx, const char *namespace_, const struct container *container, GError **error)
{
        g_autoptr(GByteArray) labels = pack_labels(&container->labels);
        g_autoptr(GByteArray) options = pack_any(&container->runtime_options);
        g_autoptr(GByteArray) spec = pack_any(&container->spec);
        g_autoptr(GByteArray) extensions = pack_extensions(&container->extensions);
        int changes;
        if (!tx_touch(tx, RESOURCE_CONTAINER, namespace_, container->id, error) ||
                !tx_execute(tx, error, &changes,
                        "UPDATE containers SET labels = ?, image = ?, runtime_name = ?, runtime_options = ?, spec = ?, "
                        "snapshotter = ?, snapshot_key = ?, extensions = ?, sandbox = ?, created = ?, updated = ? "
                        "WHERE namespace = ? AND id = ?",
                        "pttppttptiitt", labels, container->image, container->runtime_name, options, spec,
                        container->snapshotter, container->snapshot_key, extensions, container->sandbox,
                        container->created_ns, container->updated_ns, namespace_, container->id))
                return false;
        return changes > 0 || error_fail(error, ERROR_NOT_FOUND, "container \"%s\": not found", container->id);
}

static bool remove_container(struct tx *tx, const char *namespace_, const char *id, GError **error)
{
        int changes;
        if (!tx_execute(
                    tx, error, &changes, "DELETE FROM containers WHERE namespace = ? AND id = ?", "tt", namespace_, id))
                return false;
        return changes > 0 || error_fail(error, ERROR_NOT_FOUND, "container %s: not found", id);
}

const struct container_ops store_containers = {
        .get = get,
        .walk = walk,
        .insert = insert,
        .update = update,
        .remove = remove_container,
};
