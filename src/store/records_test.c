// SPDX-License-Identifier: Apache-2.0
//
// What each kind of record keeps, and refuses.
#include "core/blob.h"
#include "core/container.h"
#include "core/event_log.h"
#include "core/lease.h"
#include "core/namespace.h"
#include "core/sandbox.h"
#include "core/snapshot.h"
#include "store/store_fixture.h"

#include <string.h>

static bool use_namespaces(struct tx *tx, void *data, GError **error)
{
        struct store_step *step = data;
        const struct namespace_ops *namespaces = step->metadata->namespaces;
        struct label items[] = {{"k", "v"}};
        struct namespace_record record = {"one", {items, 1}}, got;
        g_autoptr(GError) failure = NULL;
        g_assert_false(namespaces->get(tx, "one", step->arena, &got, &failure));
        g_assert_no_error(failure);
        g_assert_true(namespaces->insert(tx, &record, error));
        g_assert_false(namespaces->insert(tx, &record, &failure));
        g_assert_error(failure, SKIFF_ERROR, ERROR_ALREADY_EXISTS);
        g_clear_error(&failure);
        g_assert_true(namespaces->get(tx, "one", step->arena, &got, error));
        g_assert_cmpstr(labels_get(&got.labels, "k"), ==, "v");

        // The first record makes its namespace, and the namespace cannot go before the record.
        struct image image = store_image("i");
        g_assert_true(step->metadata->images->insert(tx, "two", &image, error));
        g_assert_true(namespaces->get(tx, "two", step->arena, &got, error));
        g_assert_false(namespaces->remove(tx, "two", &failure));
        g_assert_error(failure, SKIFF_ERROR, ERROR_FAILED_PRECONDITION);
        g_assert_cmpstr(
                failure->message, ==, "namespace \"two\" must be empty, but it still has images: failed precondition");
        g_clear_error(&failure);
        g_assert_true(step->metadata->images->remove(tx, "two", "i", error));
        g_assert_true(namespaces->remove(tx, "two", error));
        g_assert_false(namespaces->remove(tx, "two", &failure));
        g_assert_error(failure, SKIFF_ERROR, ERROR_NOT_FOUND);
        return true;
}

static bool use_containers(struct tx *tx, void *data, GError **error)
{
        struct store_step *step = data;
        const struct container_ops *containers = step->metadata->containers;
        struct extension extensions[] = {{"x", {"type/x", "\0y", 2}}, {"z", {"", NULL, 0}}};
        struct container container = {
                .id = "c",
                .image = "i",
                .runtime_name = "io.containerd.runc.v2",
                .runtime_options = {"options", "o", 1},
                .spec = {"spec", "{}", 2},
                .snapshotter = "overlayfs",
                .snapshot_key = "k",
                .extensions = {extensions, 2},
                .sandbox = "",
                .created_ns = 1,
                .updated_ns = 2,
        };
        struct container got;
        g_autoptr(GError) failure = NULL;
        g_assert_true(containers->insert(tx, "default", &container, error));
        g_assert_false(containers->insert(tx, "default", &container, &failure));
        g_assert_error(failure, SKIFF_ERROR, ERROR_ALREADY_EXISTS);
        g_clear_error(&failure);
        container.image = "other";
        container.runtime_options = (struct any){0};
        g_assert_true(containers->update(tx, "default", &container, error));
        g_assert_true(containers->get(tx, "default", "c", step->arena, &got, error));
        g_assert_cmpstr(got.image, ==, "other");
        g_assert_null(got.runtime_options.type_url);
        g_assert_cmpmem(got.spec.value, got.spec.n_value, "{}", 2);
        g_assert_cmpuint(got.extensions.n, ==, 2);
        g_assert_cmpstr(got.extensions.items[0].name, ==, "x");
        g_assert_cmpmem(got.extensions.items[0].value.value, got.extensions.items[0].value.n_value, "\0y", 2);
        g_assert_true(containers->remove(tx, "default", "c", error));
        g_assert_false(containers->get(tx, "default", "c", step->arena, &got, &failure));
        g_assert_error(failure, SKIFF_ERROR, ERROR_NOT_FOUND);
        g_assert_cmpstr(failure->message, ==, "container \"c\" in namespace \"default\": not found");
        return true;
}

static bool collect_resource(void *data, const struct lease_resource *resource)
{
        g_string_append_printf(data, "%s:%s ", resource->type, resource->id);
        return true;
}

static bool use_leases(struct tx *tx, void *data, GError **error)
{
        struct store_step *step = data;
        struct metadata *metadata = step->metadata;
        struct lease lease = {.id = "l/with/slashes", .created_ns = 5};
        struct scope scope = {"default", lease.id}, unknown = {"default", "nothing"};
        g_autoptr(GError) failure = NULL;
        g_assert_true(metadata->leases->insert(tx, "default", &lease, error));
        g_assert_true(lease_hold(metadata, tx, &scope, "snapshots/overlayfs", "k", error));
        g_assert_true(lease_hold(metadata, tx, &scope, "content", "d", error));
        g_assert_true(lease_hold(metadata, tx, &scope, "content", "d", error));
        g_assert_false(lease_hold(metadata, tx, &unknown, "content", "d", &failure));
        g_assert_cmpstr(failure->message, ==, "lease does not exist: not found");
        g_clear_error(&failure);
        g_autoptr(GString) held = g_string_new(NULL);
        g_assert_true(
                metadata->leases->walk_resources(tx, "default", lease.id, step->arena, collect_resource, held, error));
        g_assert_cmpstr(held->str, ==, "content:d snapshots/overlayfs:k ");
        g_assert_true(lease_release(metadata, tx, &scope, "content", "d", error));
        g_assert_true(lease_release(metadata, tx, &unknown, "content", "d", error));
        g_assert_true(metadata->leases->remove(tx, "default", lease.id, error));
        g_assert_false(metadata->leases->walk_resources(
                tx, "default", lease.id, step->arena, collect_resource, held, &failure));
        g_assert_error(failure, SKIFF_ERROR, ERROR_NOT_FOUND);
        return true;
}

static bool use_blobs(struct tx *tx, void *data, GError **error)
{
        struct store_step *step = data;
        struct metadata *metadata = step->metadata;
        struct blob blob = {.digest = "sha256:aa", .size = 7, .created_ns = 1, .updated_ns = 1}, got;
        bool used, shareable;
        g_assert_true(metadata->blobs->is_used(tx, "sha256:aa", &used, error));
        g_assert_false(used);
        g_assert_true(metadata->blobs->insert(tx, "one", &blob, error));
        g_assert_true(metadata->blobs->is_used(tx, "sha256:aa", &used, error));
        g_assert_true(used);
        g_assert_true(metadata->blobs->is_shareable(tx, "sha256:aa", &shareable, error));
        g_assert_false(shareable);
        struct label items[] = {{"containerd.io/namespace.shareable", "true"}};
        struct labels labels = {items, 1};
        g_assert_true(metadata->namespaces->set_labels(tx, "one", &labels, error));
        g_assert_true(metadata->blobs->is_shareable(tx, "sha256:aa", &shareable, error));
        g_assert_true(shareable);
        g_assert_true(metadata->blobs->remove(tx, "one", "sha256:aa", error));

        struct ingest ingest = {.ref = "r", .backend = "one/1/r", .expected = "sha256:aa"}, got_ingest;
        g_assert_true(metadata->ingests->put(tx, "one", &ingest, error));
        g_assert_true(metadata->blobs->is_used(tx, "sha256:aa", &used, error));
        g_assert_true(used);
        g_assert_true(metadata->ingests->get(tx, "one", "r", step->arena, &got_ingest, error));
        g_assert_cmpstr(got_ingest.backend, ==, "one/1/r");
        g_assert_true(metadata->ingests->remove(tx, "one", "r", error));
        g_autoptr(GError) failure = NULL;
        g_assert_false(metadata->blobs->get(tx, "one", "sha256:aa", step->arena, &got, &failure));
        g_assert_cmpstr(failure->message, ==, "content digest sha256:aa: not found");
        return true;
}

static bool use_snapshots(struct tx *tx, void *data, GError **error)
{
        struct store_step *step = data;
        const struct snapshot_ops *snapshots = step->metadata->snapshots;
        int64_t first, second;
        g_assert_true(snapshots->reserve_numbers(tx, "overlayfs", 10, &first, error));
        g_assert_true(snapshots->reserve_numbers(tx, "overlayfs", 1, &second, error));
        g_assert_cmpint(first, ==, 1);
        g_assert_cmpint(second, ==, 11);
        g_assert_true(snapshots->next_sequence(tx, "default", "overlayfs", &first, error));
        g_assert_cmpint(first, ==, 1);
        struct snapshot snapshot = {
                .snapshotter = "overlayfs",
                .key = "base",
                .backend = "default/1/base",
                .parent = "",
                .kind = SNAPSHOT_COMMITTED,
                .number = 2,
                .directory = "/x/2",
                .inodes = 3,
                .size_bytes = 4,
                .blob = "sha256:aa",
                .diff_id = "sha256:bb",
                .boot_id = "boot",
                .synced = true,
                .created_ns = 8,
                .updated_ns = 9,
        };
        struct snapshot got;
        g_assert_true(snapshots->insert(tx, "default", &snapshot, error));
        g_assert_true(snapshots->get(tx, "default", "overlayfs", "base", step->arena, &got, error));
        g_assert_cmpstr(got.backend, ==, "default/1/base");
        g_assert_cmpstr(got.directory, ==, "/x/2");
        g_assert_cmpint(got.size_bytes, ==, 4);
        g_assert_cmpstr(got.boot_id, ==, "boot");
        g_assert_true(got.synced);
        g_assert_cmpint(got.updated_ns, ==, 9);
        bool has;
        g_assert_true(snapshots->has_child(tx, "default", "overlayfs", "base", &has, error));
        g_assert_false(has);
        snapshot.key = "child";
        snapshot.parent = "base";
        g_assert_true(snapshots->insert(tx, "default", &snapshot, error));
        g_assert_true(snapshots->has_child(tx, "default", "overlayfs", "base", &has, error));
        g_assert_true(has);
        snapshot.synced = false;
        g_assert_true(snapshots->update(tx, "default", &snapshot, error));
        g_assert_true(snapshots->get(tx, "default", "overlayfs", "child", step->arena, &got, error));
        g_assert_false(got.synced);
        g_assert_cmpstr(got.parent, ==, "base");
        g_assert_true(snapshots->remove(tx, "default", "overlayfs", "child", error));
        g_autoptr(GError) failure = NULL;
        g_assert_false(snapshots->get(tx, "default", "overlayfs", "child", step->arena, &got, &failure));
        g_assert_cmpstr(failure->message, ==, "snapshot child does not exist: not found");
        return true;
}

static bool use_sandboxes(struct tx *tx, void *data, GError **error)
{
        struct store_step *step = data;
        const struct sandbox_ops *sandboxes = step->metadata->sandboxes;
        struct sandbox sandbox = {.id = "s", .sandboxer = "podsandbox", .runtime_name = "r", .spec = {"t", "v", 1}};
        struct sandbox got;
        g_assert_true(sandboxes->insert(tx, "default", &sandbox, error));
        sandbox.sandboxer = "shim";
        g_assert_true(sandboxes->update(tx, "default", &sandbox, error));
        g_assert_true(sandboxes->get(tx, "default", "s", step->arena, &got, error));
        g_assert_cmpstr(got.sandboxer, ==, "shim");
        g_assert_true(sandboxes->remove(tx, "default", "s", error));
        return true;
}

static bool collect_event(void *data, int64_t cursor, struct event *event)
{
        g_string_append_printf(data, "%s=%d ", event->topic, (int)cursor);
        return true;
}

static bool use_events(struct tx *tx, void *data, GError **error)
{
        struct store_step *step = data;
        const struct event_log_ops *events = step->metadata->events;
        int64_t cursors[3];
        for (int i = 0; i < 3; i++) {
                AUTO(event) event = event_new("default", "/tasks/exit", i, "type", "v", 1);
                g_assert_true(events->append(tx, event, &cursors[i], error));
        }
        g_autoptr(GString) seen = g_string_new(NULL);
        g_assert_true(events->walk_after(tx, cursors[0], collect_event, seen, error));
        g_assert_cmpstr(seen->str, ==, "/tasks/exit=2 /tasks/exit=3 ");
        g_assert_true(events->trim(tx, cursors[2], 0, error));
        AUTO(event) event = event_new("default", "/tasks/exit", 9, "type", "v", 1);
        int64_t next;
        g_assert_true(events->append(tx, event, &next, error));
        g_assert_cmpint(next, ==, 4);
        return true;
}

static void write_all(struct store_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        struct store_step step = {.metadata = fixture->metadata, .arena = fixture->arena};
        metadata_write(fixture->metadata, TX_RELAXED, *(const tx_fn *)data, &step, &error);
        g_assert_no_error(error);
}

int main(int argc, char **argv)
{
        static const struct {
                const char *name;
                tx_fn fn;
        } tests[] = {
                {"/records/namespaces", use_namespaces},
                {"/records/containers", use_containers},
                {"/records/leases", use_leases},
                {"/records/blobs", use_blobs},
                {"/records/snapshots", use_snapshots},
                {"/records/sandboxes", use_sandboxes},
                {"/records/events", use_events},
        };
        g_test_init(&argc, &argv, NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
                g_test_add(tests[i].name, struct store_fixture, &tests[i].fn, store_set_up, write_all, store_tear_down);
        return g_test_run();
}
