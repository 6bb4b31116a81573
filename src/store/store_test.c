// SPDX-License-Identifier: Apache-2.0
//
// Transactions, and what opening a database does. What each kind of record keeps is in records_test.c.
#include "core/namespace.h"
#include "store/store_fixture.h"

#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

static void reopen(struct store_fixture *fixture)
{
        g_autoptr(GError) error = NULL;
        store_close(fixture->metadata);
        fixture->metadata = store_open(fixture->path, &error);
        g_assert_no_error(error);
}

// ---- steps that the tests put together

static void run_sql(struct store_fixture *fixture, const char *sql)
{
        sqlite3 *db;
        g_assert_cmpint(sqlite3_open(fixture->path, &db), ==, SQLITE_OK);
        g_assert_cmpint(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
        sqlite3_close(db);
}

static bool check(struct store_fixture *fixture, GError **error)
{
        static const atomic_bool stop;
        return fixture->metadata->ops->check(fixture->metadata, &stop, error);
}

static bool insert_image(struct tx *tx, void *data, GError **error)
{
        struct store_step *step = data;
        struct image image = store_image(step->name);
        if (!step->metadata->images->insert(tx, "default", &image, error))
                return false;
        return !step->fail_after || error_fail(error, ERROR_ABORTED, "changed my mind");
}

static bool get_image(struct tx *tx, void *data, GError **error)
{
        struct store_step *step = data;
        return step->metadata->images->get(tx, "default", step->name, step->arena, &step->image, error);
}

static bool count_one(void *data, const struct image *image)
{
        ((struct store_step *)data)->count++;
        return true;
}

static bool count_images(struct tx *tx, void *data, GError **error)
{
        struct store_step *step = data;
        step->count = 0;
        return step->metadata->images->walk(tx, "default", NULL, count_one, step, error);
}

static void add_image(struct store_fixture *fixture, const char *name)
{
        g_autoptr(GError) error = NULL;
        struct store_step step = {.metadata = fixture->metadata, .name = name};
        metadata_write(fixture->metadata, TX_DURABLE, insert_image, &step, &error);
        g_assert_no_error(error);
}

static size_t n_images(struct store_fixture *fixture)
{
        g_autoptr(GError) error = NULL;
        struct store_step step = {.metadata = fixture->metadata};
        metadata_read(fixture->metadata, count_images, &step, &error);
        g_assert_no_error(error);
        return step.count;
}

// ---- transactions

static void keeps_what_was_written(struct store_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        add_image(fixture, "one");
        reopen(fixture);
        struct store_step step = {.metadata = fixture->metadata, .arena = fixture->arena, .name = "one"};
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

static void failed_write_leaves_nothing(struct store_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        struct store_step step = {.metadata = fixture->metadata, .name = "one", .fail_after = true};
        g_assert_false(metadata_write(fixture->metadata, TX_DURABLE, insert_image, &step, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_ABORTED);
        g_assert_cmpuint(n_images(fixture), ==, 0);
        add_image(fixture, "one");
        g_assert_cmpuint(n_images(fixture), ==, 1);
}

enum { N_THREADS = 8, N_PER_THREAD = 50 };

struct worker {
        struct store_fixture *fixture;
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
                struct store_step step = {.metadata = metadata, .name = name, .fail_after = i % 3 == 2};
                g_autoptr(GError) error = NULL;
                bool ok = metadata_write(metadata, i % 2 == 0 ? TX_DURABLE : TX_RELAXED, insert_image, &step, &error);
                g_assert_true(ok == !step.fail_after);

                // What was acknowledged is seen by the next read, whole.
                AUTO(arena) arena = arena_new();
                struct store_step look = {.metadata = metadata, .name = name, .arena = arena};
                g_autoptr(GError) missing = NULL;
                g_assert_true(metadata_read(metadata, get_image, &look, &missing) == ok);
        }
}

static void writers_do_not_disturb_each_other(struct store_fixture *fixture, const void *data)
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
        struct store_fixture *fixture = data;
        struct store_step step = {.metadata = fixture->metadata};
        if (!count_images(tx, &step, error))
                return false;
        g_assert_cmpuint(step.count, ==, 1);
        add_image(fixture, "two"); // does not wait for this read
        if (!count_images(tx, &step, error))
                return false;
        g_assert_cmpuint(step.count, ==, 1);
        return true;
}

static void reads_see_one_snapshot(struct store_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        add_image(fixture, "one");
        g_assert_true(metadata_read(fixture->metadata, count_twice, fixture, &error));
        g_assert_cmpuint(n_images(fixture), ==, 2);
}

// Walks within a walk use the same statement.
static bool nest(void *data, const struct image *image)
{
        struct store_step *step = data;
        struct store_step inner = {.metadata = step->metadata};
        g_autoptr(GError) error = NULL;
        g_assert_true(
                step->metadata->images->walk((struct tx *)step->arena, "default", NULL, count_one, &inner, &error));
        step->count += inner.count;
        return true;
}

static bool walk_nested(struct tx *tx, void *data, GError **error)
{
        struct store_step *step = data;
        step->arena = (struct arena *)tx;
        return step->metadata->images->walk(tx, "default", NULL, nest, step, error);
}

static void walks_nest(struct store_fixture *fixture, const void *data)
{
        add_image(fixture, "one");
        add_image(fixture, "two");
        g_autoptr(GError) error = NULL;
        struct store_step step = {.metadata = fixture->metadata};
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
        struct store_step *step = data;
        step->metadata->ops->mark_removed(tx);
        return step->metadata->images->remove(tx, "default", step->name, error);
}

static void tells_of_commits_that_changed_something(struct store_fixture *fixture, const void *data)
{
        struct observed observed = {0};
        fixture->metadata->ops->observe(fixture->metadata, observe, &observed);
        add_image(fixture, "one");
        struct store_step failing = {.metadata = fixture->metadata, .name = "two", .fail_after = true};
        metadata_write(fixture->metadata, TX_RELAXED, insert_image, &failing, NULL);
        g_assert_cmpint(observed.n, ==, 1);
        g_assert_cmpint(observed.n_removed, ==, 0);
        struct store_step step = {.metadata = fixture->metadata, .name = "one"};
        g_assert_true(metadata_write(fixture->metadata, TX_RELAXED, remove_image, &step, NULL));
        g_assert_cmpint(observed.n, ==, 2);
        g_assert_cmpint(observed.n_removed, ==, 1);
}

static bool remove_namespace(struct tx *tx, void *data, GError **error)
{
        struct store_step *step = data;
        return step->metadata->namespaces->remove(tx, step->name, error);
}

// Only an empty one can be removed, so no garbage comes of it: what is unreferenced elsewhere keeps its time.
static void a_removed_namespace_asks_for_no_collection(struct store_fixture *fixture, const void *data)
{
        struct observed observed = {0};
        add_image(fixture, "one");
        struct store_step image = {.metadata = fixture->metadata, .name = "one"};
        g_assert_true(metadata_write(fixture->metadata, TX_RELAXED, remove_image, &image, NULL));
        fixture->metadata->ops->observe(fixture->metadata, observe, &observed);
        struct store_step step = {.metadata = fixture->metadata, .name = "default"};
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
        struct store_step *step = data;
        g_autoptr(GString) notes = g_string_new(NULL);
        step->metadata->ops->touched(tx, note_touch, notes);
        g_assert_cmpstr(notes->str, ==, step->name);
        return true;
}

static void notes_what_is_written_meanwhile(struct store_fixture *fixture, const void *data)
{
        struct metadata *metadata = fixture->metadata;
        add_image(fixture, "before");
        metadata->ops->touched_begin(metadata);
        add_image(fixture, "during");
        g_autofree char *expected = g_strdup_printf("%d/default/during ", RESOURCE_IMAGE);
        struct store_step step = {.metadata = metadata, .name = expected};
        g_assert_true(metadata_write(metadata, TX_RELAXED, list_touched, &step, NULL));
        metadata->ops->touched_end(metadata);
        add_image(fixture, "after");
        step.name = "";
        g_assert_true(metadata_write(metadata, TX_RELAXED, list_touched, &step, NULL));
}

// ---- opening

static void refuses_a_newer_schema(struct store_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        store_close(g_steal_pointer(&fixture->metadata));
        run_sql(fixture, "PRAGMA user_version = 1000");
        g_assert_null(store_open(fixture->path, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_FAILED_PRECONDITION);
        g_assert_nonnull(strstr(error->message, "a newer skiffd wrote this"));
}

static void refuses_a_second_daemon(struct store_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_assert_null(store_open(fixture->path, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_FAILED_PRECONDITION);
}

static void reports_damage(struct store_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_assert_true(check(fixture, &error));
        store_close(g_steal_pointer(&fixture->metadata));
        g_assert_true(g_file_set_contents(fixture->path,
                "this is no database, and longer than a header would be, "
                "so that SQLite looks at it; this is no database",
                -1, NULL));
        g_assert_null(store_open(fixture->path, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_DATA_LOSS);
}

static void check_finds_what_no_transaction_leaves(struct store_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        run_sql(fixture,
                "INSERT INTO snapshots VALUES ('ns', 'overlayfs', 'top', 'b', 'below', 3, NULL, 1, 1, 1, '/d', 0, 0,"
                " '', '', '', 1);"
                "INSERT INTO lease_resources VALUES ('ns', 'gone', 'content', 'sha256:aa');");
        g_assert_false(check(fixture, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_DATA_LOSS);
        g_assert_cmpstr(error->message, ==,
                "metadata is damaged: snapshot top of ns stands on below, which has no record; "
                "lease gone of ns holds things and has no record");
}

static void check_finds_a_damaged_index(struct store_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        // The index then says other things than its table.
        run_sql(fixture, "INSERT INTO blobs VALUES ('ns', 'sha256:aa', 1, NULL, 1, 1); PRAGMA writable_schema = ON;"
                         "UPDATE sqlite_schema SET sql = 'CREATE INDEX blobs_by_digest ON blobs (created)' "
                         "WHERE name = 'blobs_by_digest'");
        reopen(fixture);
        g_assert_false(check(fixture, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_DATA_LOSS);
}

static void check_can_be_stopped(struct store_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        static const atomic_bool stop = true;
        g_assert_false(fixture->metadata->ops->check(fixture->metadata, &stop, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_CANCELED);
}

static void survives_a_kill(struct store_fixture *fixture, const void *data)
{
        store_close(g_steal_pointer(&fixture->metadata));
        for (int round = 0; round < 5; round++) {
                pid_t pid = fork(); // lint: allow fork, because the test has one thread here and kills the child
                g_assert_cmpint(pid, >=, 0);
                if (pid == 0) {
                        struct store_fixture child = *fixture;
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
        g_assert_true(check(fixture, NULL));
}

int main(int argc, char **argv)
{
        static const struct {
                const char *name;
                void (*fn)(struct store_fixture *fixture, const void *data);
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
                {"/store/check_finds_what_no_transaction_leaves", check_finds_what_no_transaction_leaves},
                {"/store/check_finds_a_damaged_index", check_finds_a_damaged_index},
                {"/store/check_can_be_stopped", check_can_be_stopped},
        };
        g_test_init(&argc, &argv, NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
                g_test_add(tests[i].name, struct store_fixture, NULL, store_set_up, tests[i].fn, store_tear_down);
        return g_test_run();
}
