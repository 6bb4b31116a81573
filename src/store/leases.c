// SPDX-License-Identifier: Apache-2.0
//
// Rows of leases, and one row per resource that a lease holds.
#include "store/internal.h"

#include "core/lease.h"

static bool not_found(const char *id, GError **error)
{
        return error_fail(error, ERROR_NOT_FOUND, "lease \"%s\": not found", id);
}

static bool check_exists(struct tx *tx, const char *namespace_, const char *id, GError **error)
{
        bool exists;
        if (!tx_exists(tx, error, &exists, "SELECT 1 FROM leases WHERE namespace = ? AND id = ?", "tt", namespace_, id))
                return false;
        return exists || not_found(id, error);
}

static void read_lease(const struct query *query, struct arena *arena, void *ret)
{
        *(struct lease *)ret =
                (struct lease){column_text(query, 0, arena), column_labels(query, 1, arena), column_int(query, 2)};
}

static bool get(
        struct tx *tx, const char *namespace_, const char *id, struct arena *arena, struct lease *ret, GError **error)
{
        struct query query;
        bool found;
        return query_start(&query, tx, error, "SELECT id, labels, created FROM leases WHERE namespace = ? AND id = ?",
                       "tt", namespace_, id) &&
               query_one(&query, arena, read_lease, ret, &found, error) && (found || not_found(id, error));
}

struct walk {
        lease_fn fn;
        void *data;
};

static bool read_row(void *data, const struct query *query, struct arena *arena)
{
        const struct walk *walk = data;
        struct lease lease;
        read_lease(query, arena, &lease);
        return walk->fn(walk->data, &lease);
}

static bool walk(struct tx *tx, const char *namespace_, struct arena *arena, lease_fn fn, void *data, GError **error)
{
        struct query query;
        struct walk state = {fn, data};
        return query_start(&query, tx, error, "SELECT id, labels, created FROM leases WHERE namespace = ? ORDER BY id",
                       "t", namespace_) &&
               query_walk(&query, arena, read_row, &state, error);
}

static bool insert(struct tx *tx, const char *namespace_, const struct lease *lease, GError **error)
{
        g_autoptr(GByteArray) labels = pack_labels(&lease->labels);
        int changes;
        if (!tx_touch(tx, RESOURCE_LEASE, namespace_, lease->id, error) ||
                !tx_execute(tx, error, &changes,
                        "INSERT INTO leases (namespace, id, labels, created) VALUES (?, ?, ?, ?) "
                        "ON CONFLICT DO NOTHING",
                        "ttpi", namespace_, lease->id, labels, lease->created_ns))
                return false;
        return changes > 0 || error_fail(error, ERROR_ALREADY_EXISTS, "lease \"%s\": already exists", lease->id);
}

static bool remove_lease(struct tx *tx, const char *namespace_, const char *id, GError **error)
{
        int changes;
        if (!tx_execute(tx, error, NULL, "DELETE FROM lease_resources WHERE namespace = ? AND lease = ?", "tt",
                    namespace_, id) ||
                !tx_execute(
                        tx, error, &changes, "DELETE FROM leases WHERE namespace = ? AND id = ?", "tt", namespace_, id))
                return false;
        return changes > 0 || not_found(id, error);
}

static bool add(
        struct tx *tx, const char *namespace_, const char *id, const struct lease_resource *resource, GError **error)
{
        return check_exists(tx, namespace_, id, error) && tx_touch(tx, RESOURCE_LEASE, namespace_, id, error) &&
               tx_execute(tx, error, NULL,
                       "INSERT INTO lease_resources (namespace, lease, type, id) VALUES (?, ?, ?, ?) "
                       "ON CONFLICT DO NOTHING",
                       "tttt", namespace_, id, resource->type, resource->id);
}

static bool drop(
        struct tx *tx, const char *namespace_, const char *id, const struct lease_resource *resource, GError **error)
{
        return check_exists(tx, namespace_, id, error) &&
               tx_execute(tx, error, NULL,
                       "DELETE FROM lease_resources WHERE namespace = ? AND lease = ? AND type = ? AND id = ?", "tttt",
                       namespace_, id, resource->type, resource->id);
}

struct resource_walk {
        lease_resource_fn fn;
        void *data;
};

static bool read_resource(void *data, const struct query *query, struct arena *arena)
{
        const struct resource_walk *walk = data;
        struct lease_resource resource = {column_text(query, 0, arena), column_text(query, 1, arena)};
        return walk->fn(walk->data, &resource);
}

static bool walk_resources(struct tx *tx, const char *namespace_, const char *id, struct arena *arena,
        lease_resource_fn fn, void *data, GError **error)
{
        struct query query;
        struct resource_walk state = {fn, data};
        return check_exists(tx, namespace_, id, error) &&
               query_start(&query, tx, error,
                       "SELECT type, id FROM lease_resources WHERE namespace = ? AND lease = ? ORDER BY type, id", "tt",
                       namespace_, id) &&
               query_walk(&query, arena, read_resource, &state, error);
}

const struct lease_ops store_leases = {
        .get = get,
        .walk = walk,
        .insert = insert,
        .remove = remove_lease,
        .add = add,
        .drop = drop,
        .walk_resources = walk_resources,
};
