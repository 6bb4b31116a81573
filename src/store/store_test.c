// SPDX-License-Identifier: Apache-2.0
#include "store/store.h"

#include "core/blob.h"
#include "core/container.h"
#include "core/event_log.h"
#include "core/image.h"
#include "core/lease.h"
#include "core/namespace.h"
#include "core/sandbox.h"
#include "core/snapshot.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

struct fixture {
        char *directory, *path;
        struct metadata *metadata;
        struct arena *arena;
};

static void set_up(struct fixture *fixture, const void *data)
{
        fixture->directory = g_dir_make_tmp("store-test-XXXXXX", NULL);
        fixture->path = g_build_filename(fixture->directory, "metadata.sqlite", NULL);
        g_autoptr(GError) error = NULL;
        fixture->metadata = store_open(fixture->path, &error);
        g_assert_no_error(error);
        fixture->arena = arena_new();
}

static void tear_down(struct fixture *fixture, const void *data)
{
        store_close(fixture->metadata);
        arena_free(fixture->arena);
        static const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
        for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
                g_autofree char *path = g_strconcat(fixture->path, suffixes[i], NULL);
                unlink(path);
        }
        g_assert_cmpint(rmdir(fixture->directory), ==, 0);
        g_free(fixture->directory);
        g_free(fixture->path);
}

static void reopen(struct fixture *fixture)
{
        g_autoptr(GError) error = NULL;
        store_close(fixture->metadata);
        fixture->metadata = store_open(fixture->path, &error);
        g_assert_no_error(error);
}

// ---- steps that the tests put together

struct step {
        struct metadata *metadata;
        struct arena *arena;
        const char *name;
        struct image image;
        size_t count;
        bool fail_after;
};

static struct image an_image(const char *name)
{
        static struct label items[] = {{"a", "1"}, {"b.c", "2"}};
        return (struct image){
                .name = name,
                .labels = {items, 2},
                .target = {.media_type = "application/x",
                        .digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                        .size = 5,
                        .annotations = {items, 1}},
                .created_ns = 10,
                .updated_ns = 11,
        };
}

static bool insert_image(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        struct image image = an_image(step->name);
        if (!step->metadata->images->insert(tx, "default", &image, error))
                return false;
        return !step->fail_after || error_fail(error, ERROR_ABORTED, "changed my mind");
}

static bool get_image(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        return step->metadata->images->get(tx, "default", step->name, step->arena, &step->image, error);
}

static bool count_one(void *data, const struct image *image)
{
        ((struct step *)data)->count++;
        return true;
}

static bool count_images(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        step->count = 0;
        return step->metadata->images->walk(tx, "default", NULL, count_one, step, error);
}

static void add_image(struct fixture *fixture, const char *name)
{
        g_autoptr(GError) error = NULL;
        struct step step = {.metadata = fixture->metadata, .name = name};
        metadata_write(fixture->metadata, TX_DURABLE, insert_image, &step, &error);
        g_assert_no_error(error);
}

static size_t n_images(struct fixture *fixture)
{
        g_autoptr(GError) error = NULL;
        struct step step = {.metadata = fixture->metadata};
        metadata_read(fixture->metadata, count_images, &step, &error);
        g_assert_no_error(error);
        return step.count;
}

// ---- transactions

static void keeps_what_was_written(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        add_image(fixture, "one");
        reopen(fixture);
        struct step step = {.metadata = fixture->metadata, .arena = fixture->arena, .name = "one"};
        g_assert_true(metadata_read(fixture->metadata, get_image, &step, &error));
        g_assert_cmpstr(step.image.name, ==, "one");
        g_assert_cmpuint(step.image.labels.n, ==, 2);
        g_assert_cmpstr(labels_get(&step.image.labels, "b.c"), ==, "2");
        g_assert_cmpstr(step.image.target.media_type, ==, "application/x");
        g_assert_cmpint(step.image.target.size, ==, 5);
        g_assert_cmpstr(labels_get(&step.image.target.annotations, "a"), ==, "1");
        g_assert_cmpint(step.image.created_ns, ==, 10);
        g_assert_cmpint(step.image.updated_ns, ==, 11);
}

static void failed_write_leaves_nothing(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        struct step step = {.metadata = fixture->metadata, .name = "one", .fail_after = true};
        g_assert_false(metadata_write(fixture->metadata, TX_DURABLE, insert_image, &step, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_ABORTED);
        g_assert_cmpuint(n_images(fixture), ==, 0);
        add_image(fixture, "one");
        g_assert_cmpuint(n_images(fixture), ==, 1);
}

enum { N_THREADS = 8, N_PER_THREAD = 50 };

struct worker {
        struct fixture *fixture;
        int number;
        uv_thread_t thread;
};

// Every third write fails after it has inserted.
static void write_many(void *data)
{
        struct worker *worker = data;
        struct metadata *metadata = worker->fixture->metadata;
        for (int i = 0; i < N_PER_THREAD; i++) {
                g_autofree char *name = g_strdup_printf("%d-%d", worker->number, i);
                struct step step = {.metadata = metadata, .name = name, .fail_after = i % 3 == 2};
                g_autoptr(GError) error = NULL;
                bool ok = metadata_write(metadata, i % 2 == 0 ? TX_DURABLE : TX_RELAXED, insert_image, &step, &error);
                g_assert_true(ok == !step.fail_after);

                // What was acknowledged is seen by the next read, whole.
                AUTO(arena) arena = arena_new();
                struct step look = {.metadata = metadata, .name = name, .arena = arena};
                g_autoptr(GError) missing = NULL;
                g_assert_true(metadata_read(metadata, get_image, &look, &missing) == ok);
        }
}

static void writers_do_not_disturb_each_other(struct fixture *fixture, const void *data)
{
        struct worker workers[N_THREADS];
        for (int i = 0; i < N_THREADS; i++) {
                workers[i] = (struct worker){.fixture = fixture, .number = i};
                g_assert_cmpint(uv_thread_create(&workers[i].thread, write_many, &workers[i]), ==, 0);
        }
        for (int i = 0; i < N_THREADS; i++)
                uv_thread_join(&workers[i].thread);
        g_assert_cmpuint(n_images(fixture), ==, N_THREADS * (N_PER_THREAD - N_PER_THREAD / 3));
}

static bool count_twice(struct tx *tx, void *data, GError **error)
{
        struct fixture *fixture = data;
        struct step step = {.metadata = fixture->metadata};
        if (!count_images(tx, &step, error))
                return false;
        g_assert_cmpuint(step.count, ==, 1);
        add_image(fixture, "two"); // does not wait for this read
        if (!count_images(tx, &step, error))
                return false;
        g_assert_cmpuint(step.count, ==, 1);
        return true;
}

static void reads_see_one_snapshot(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        add_image(fixture, "one");
        g_assert_true(metadata_read(fixture->metadata, count_twice, fixture, &error));
        g_assert_cmpuint(n_images(fixture), ==, 2);
}

// Walks within a walk use the same statement.
static bool nest(void *data, const struct image *image)
{
        struct step *step = data;
        struct step inner = {.metadata = step->metadata};
        g_autoptr(GError) error = NULL;
        g_assert_true(
                step->metadata->images->walk((struct tx *)step->arena, "default", NULL, count_one, &inner, &error));
        step->count += inner.count;
        return true;
}

static bool walk_nested(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        step->arena = (struct arena *)tx;
        return step->metadata->images->walk(tx, "default", NULL, nest, step, error);
}

static void walks_nest(struct fixture *fixture, const void *data)
{
        add_image(fixture, "one");
        add_image(fixture, "two");
        g_autoptr(GError) error = NULL;
        struct step step = {.metadata = fixture->metadata};
        g_assert_true(metadata_read(fixture->metadata, walk_nested, &step, &error));
        g_assert_cmpuint(step.count, ==, 4);
}

struct observed {
        int n, n_removed;
};

static void observe(void *data, bool removed)
{
        struct observed *observed = data;
        observed->n++;
        observed->n_removed += removed;
}

static bool remove_image(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        step->metadata->ops->mark_removed(tx);
        return step->metadata->images->remove(tx, "default", step->name, error);
}

static void tells_of_commits_that_changed_something(struct fixture *fixture, const void *data)
{
        struct observed observed = {0};
        fixture->metadata->ops->observe(fixture->metadata, observe, &observed);
        add_image(fixture, "one");
        struct step failing = {.metadata = fixture->metadata, .name = "two", .fail_after = true};
        metadata_write(fixture->metadata, TX_RELAXED, insert_image, &failing, NULL);
        g_assert_cmpint(observed.n, ==, 1);
        g_assert_cmpint(observed.n_removed, ==, 0);
        struct step step = {.metadata = fixture->metadata, .name = "one"};
        g_assert_true(metadata_write(fixture->metadata, TX_RELAXED, remove_image, &step, NULL));
        g_assert_cmpint(observed.n, ==, 2);
        g_assert_cmpint(observed.n_removed, ==, 1);
}

static bool remove_namespace(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        return step->metadata->namespaces->remove(tx, step->name, error);
}

// Only an empty one can be removed, so no garbage comes of it: what is unreferenced elsewhere keeps its time.
static void a_removed_namespace_asks_for_no_collection(struct fixture *fixture, const void *data)
{
        struct observed observed = {0};
        add_image(fixture, "one");
        struct step image = {.metadata = fixture->metadata, .name = "one"};
        g_assert_true(metadata_write(fixture->metadata, TX_RELAXED, remove_image, &image, NULL));
        fixture->metadata->ops->observe(fixture->metadata, observe, &observed);
        struct step step = {.metadata = fixture->metadata, .name = "default"};
        g_assert_true(metadata_write(fixture->metadata, TX_RELAXED, remove_namespace, &step, NULL));
        g_assert_cmpint(observed.n, ==, 1);
        g_assert_cmpint(observed.n_removed, ==, 0);
}

static void note_touch(void *data, enum resource_type type, const char *namespace_, const char *key)
{
        GString *notes = data;
        g_string_append_printf(notes, "%d/%s/%s ", type, namespace_, key);
}

static bool list_touched(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        g_autoptr(GString) notes = g_string_new(NULL);
        step->metadata->ops->touched(tx, note_touch, notes);
        g_assert_cmpstr(notes->str, ==, step->name);
        return true;
}

static void notes_what_is_written_meanwhile(struct fixture *fixture, const void *data)
{
        struct metadata *metadata = fixture->metadata;
        add_image(fixture, "before");
        metadata->ops->touched_begin(metadata);
        add_image(fixture, "during");
        g_autofree char *expected = g_strdup_printf("%d/default/during ", RESOURCE_IMAGE);
        struct step step = {.metadata = metadata, .name = expected};
        g_assert_true(metadata_write(metadata, TX_RELAXED, list_touched, &step, NULL));
        metadata->ops->touched_end(metadata);
        add_image(fixture, "after");
        step.name = "";
        g_assert_true(metadata_write(metadata, TX_RELAXED, list_touched, &step, NULL));
}

// ---- opening

static void refuses_a_newer_schema(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        store_close(g_steal_pointer(&fixture->metadata));
        sqlite3 *db;
        g_assert_cmpint(sqlite3_open(fixture->path, &db), ==, SQLITE_OK);
        g_assert_cmpint(sqlite3_exec(db, "PRAGMA user_version = 1000", NULL, NULL, NULL), ==, SQLITE_OK);
        sqlite3_close(db);
        g_assert_null(store_open(fixture->path, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_FAILED_PRECONDITION);
        g_assert_nonnull(strstr(error->message, "a newer skiffd wrote this"));
}

static void refuses_a_second_daemon(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_assert_null(store_open(fixture->path, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_FAILED_PRECONDITION);
}

static void reports_damage(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_assert_true(store_check(fixture->metadata, &error));
        store_close(g_steal_pointer(&fixture->metadata));
        g_assert_true(g_file_set_contents(fixture->path,
                "this is no database, and longer than a header would be, "
                "so that SQLite looks at it; this is no database",
                -1, NULL));
        g_assert_null(store_open(fixture->path, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_DATA_LOSS);
}

static void survives_a_kill(struct fixture *fixture, const void *data)
{
        store_close(g_steal_pointer(&fixture->metadata));
        for (int round = 0; round < 5; round++) {
                pid_t pid = fork(); // lint: allow fork, because the test has one thread here and kills the child
                g_assert_cmpint(pid, >=, 0);
                if (pid == 0) {
                        struct fixture child = *fixture;
                        child.metadata = store_open(fixture->path, NULL);
                        for (int i = 0; i < 3; i++) {
                                g_autofree char *name = g_strdup_printf("%d-%d", round, i);
                                add_image(&child, name);
                        }
                        kill(getpid(), SIGKILL);
                }
                int status;
                g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
                g_assert_true(WIFSIGNALED(status));
        }
        reopen(fixture);
        g_assert_cmpuint(n_images(fixture), ==, 15);
        g_assert_true(store_check(fixture->metadata, NULL));
}

// ---- records

static bool use_namespaces(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
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
        struct image image = an_image("i");
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
        struct step *step = data;
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
        struct step *step = data;
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
        struct step *step = data;
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
        struct step *step = data;
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
        struct step *step = data;
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
        struct step *step = data;
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

static void use_records(struct fixture *fixture, const void *data)
{
        static const struct {
                const char *name;
                tx_fn fn;
        } uses[] = {
                {"namespaces", use_namespaces},
                {"containers", use_containers},
                {"leases", use_leases},
                {"blobs", use_blobs},
                {"snapshots", use_snapshots},
                {"sandboxes", use_sandboxes},
                {"events", use_events},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(uses); i++) {
                g_autoptr(GError) error = NULL;
                struct step step = {.metadata = fixture->metadata, .arena = fixture->arena};
                g_test_message("%s", uses[i].name);
                metadata_write(fixture->metadata, TX_RELAXED, uses[i].fn, &step, &error);
                g_assert_no_error(error);
        }
}

int main(int argc, char **argv)
{
        static const struct {
                const char *name;
                void (*fn)(struct fixture *fixture, const void *data);
        } tests[] = {
                {"/store/survives_a_kill", survives_a_kill}, // forks: first, while there is one thread
                {"/store/keeps_what_was_written", keeps_what_was_written},
                {"/store/failed_write_leaves_nothing", failed_write_leaves_nothing},
                {"/store/writers_do_not_disturb_each_other", writers_do_not_disturb_each_other},
                {"/store/reads_see_one_snapshot", reads_see_one_snapshot},
                {"/store/walks_nest", walks_nest},
                {"/store/tells_of_commits_that_changed_something", tells_of_commits_that_changed_something},
                {"/store/a_removed_namespace_asks_for_no_collection", a_removed_namespace_asks_for_no_collection},
                {"/store/notes_what_is_written_meanwhile", notes_what_is_written_meanwhile},
                {"/store/refuses_a_newer_schema", refuses_a_newer_schema},
                {"/store/refuses_a_second_daemon", refuses_a_second_daemon},
                {"/store/reports_damage", reports_damage},
                {"/store/records", use_records},
        };
        g_test_init(&argc, &argv, NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
                g_test_add(tests[i].name, struct fixture, NULL, set_up, tests[i].fn, tear_down);
        return g_test_run();
}
