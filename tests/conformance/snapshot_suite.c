// SPDX-License-Identifier: Apache-2.0
#include "snapshot_fixture.h"

#include <glib/gstdio.h>
#include <stdatomic.h>
#include <string.h>

static void layers_show_through_and_are_hidden(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        suite_prepare(f, "k1", "");
        g_assert_true(suite_write(f, "k1", "a", "one") && suite_write(f, "k1", "b", "one"));
        suite_commit(f, "l1", "k1");
        suite_prepare(f, "k2", "l1");
        suite_assert_reads(f, "k2", "a", "one");
        g_assert_true(suite_write(f, "k2", "a", "two") && suite_write(f, "k2", "b", NULL));
        suite_commit(f, "l2", "k2");
        suite_prepare(f, "k3", "l2");
        g_assert_true(suite_write(f, "k3", "c", "three"));
        suite_commit(f, "l3", "k3");
        suite_view(f, "v1", "l1");
        suite_view(f, "v3", "l3");
        suite_prepare(f, "k4", "l3");
        suite_assert_reads(f, "v1", "a", "one");
        suite_assert_reads(f, "v1", "b", "one");
        suite_assert_reads(f, "v1", "c", NULL);
        for (int i = 0; i < 2; i++) {
                const char *key = i == 0 ? "v3" : "k4";
                suite_assert_reads(f, key, "a", "two");
                suite_assert_reads(f, key, "b", NULL);
                suite_assert_reads(f, key, "c", "three");
        }
        g_assert_true(suite_write(f, "k4", "a", "four"));
        suite_assert_reads(f, "v3", "a", "two");
}

static void views_cannot_be_written(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        suite_prepare(f, "k1", "");
        suite_commit(f, "l1", "k1");
        suite_prepare(f, "k2", "l1");
        suite_commit(f, "l2", "k2");
        suite_view(f, "empty", "");
        suite_view(f, "v1", "l1");
        suite_view(f, "v2", "l2");
        g_assert_false(suite_write(f, "empty", "a", "x"));
        g_assert_false(suite_write(f, "v1", "a", "x"));
        g_assert_false(suite_write(f, "v2", "a", "x"));
        g_assert_cmpint(suite_stat_of(f, "v2").kind, ==, SNAPSHOT_VIEW);
}

static void what_exists_is_not_made_again(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        suite_prepare(f, "k1", "");
        suite_commit(f, "l1", "k1");
        suite_prepare(f, "k2", "");
        unsigned before = suite_count_directories(f);
        static const struct {
                const char *key, *parent, *target, *text;
        } cases[] = {
                {"k2", "", NULL, "snapshot \"k2\": already exists"},
                {"l1", "", NULL, "snapshot \"l1\": already exists"},
                {"k3", "", "l1", "target snapshot \"l1\": already exists"},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autoptr(GError) error = NULL;
                g_assert_null(
                        suite_try_prepare(f, &suite_leased, cases[i].key, cases[i].parent, cases[i].target, &error));
                g_assert_true(error_is(error, ERROR_ALREADY_EXISTS));
                g_assert_cmpstr(error->message, ==, cases[i].text);
        }
        // What was there is held for whoever asked for it.
        suite_assert_held(f, "k2 l1");
        g_assert_cmpuint(suite_count_directories(f), ==, before);
        suite_assert_commit_fails(f, "l1", "k2", ERROR_ALREADY_EXISTS, "snapshot \"l1\": already exists");
        g_assert_cmpint(suite_stat_of(f, "k2").kind, ==, SNAPSHOT_ACTIVE);
}

static void parents_must_be_committed(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        suite_prepare(f, "k1", "");
        g_autoptr(GError) error = NULL;
        g_assert_null(suite_try_prepare(f, &suite_scope, "k2", "nothing", NULL, &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
        g_assert_cmpstr(error->message, ==, "parent snapshot nothing does not exist: not found");
        g_clear_error(&error);
        g_assert_null(suite_try_prepare(f, &suite_scope, "k2", "k1", NULL, &error));
        g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        g_assert_cmpstr(error->message, ==,
                "failed to create snapshot: parent \"default/1/k1\" is not committed snapshot: invalid argument");
        g_assert_cmpuint(suite_count_directories(f), ==, 1);
}

static void only_active_snapshots_are_committed(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        suite_prepare(f, "k1", "");
        suite_commit(f, "l1", "k1");
        suite_view(f, "v1", "l1");
        suite_assert_commit_fails(f, "x", "nothing", ERROR_NOT_FOUND, "snapshot nothing does not exist: not found");
        suite_assert_commit_fails(f, "x", "v1", ERROR_FAILED_PRECONDITION,
                "failed to commit snapshot default/3/v1: snapshot \"default/3/v1\" is not active: failed precondition");
        g_autoptr(GError) error = NULL;
        g_assert_null(snapshotter_mounts(f->snapshotter, &suite_scope, "l1", &error));
        g_assert_true(error_is(error, ERROR_FAILED_PRECONDITION));
        // The key is free again.
        suite_prepare(f, "k1", "l1");
}

static void parents_cannot_be_removed(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        suite_prepare(f, "k1", "");
        suite_commit(f, "l1", "k1");
        suite_prepare(f, "k2", "l1");
        g_autoptr(GError) error = NULL;
        g_assert_false(snapshotter_remove(f->snapshotter, &suite_scope, "l1", &error));
        g_assert_true(error_is(error, ERROR_FAILED_PRECONDITION));
        g_assert_cmpstr(error->message, ==, "cannot remove snapshot with child: failed precondition");
        g_clear_error(&error);
        suite_remove(f, "k2");
        suite_remove(f, "l1");
        g_assert_false(snapshotter_remove(f->snapshotter, &suite_scope, "l1", &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
        g_assert_true(snapshotter_cleanup(f->snapshotter, NULL));
        g_assert_cmpuint(suite_count_directories(f), ==, 0);
}

static void usage_counts_the_snapshot_alone(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        struct snapshot_usage empty, filled, committed;
        suite_prepare(f, "k1", "");
        g_assert_true(snapshotter_usage(f->snapshotter, &suite_scope, "k1", &empty, NULL));
        g_assert_true(suite_write(f, "k1", "a", "some text"));
        g_assert_true(snapshotter_usage(f->snapshotter, &suite_scope, "k1", &filled, NULL));
        g_assert_cmpint(filled.inodes, ==, empty.inodes + 1);
        g_assert_cmpint(filled.size_bytes, >, empty.size_bytes);
        suite_commit(f, "l1", "k1");
        g_assert_true(snapshotter_usage(f->snapshotter, &suite_scope, "l1", &committed, NULL));
        g_assert_cmpint(committed.inodes, ==, filled.inodes);
        g_assert_cmpint(committed.size_bytes, ==, filled.size_bytes);
        suite_view(f, "v1", "l1");
        g_assert_true(snapshotter_usage(f->snapshotter, &suite_scope, "v1", &empty, NULL));
        g_assert_cmpint(empty.inodes, ==, 0);
}

static void commit_can_put_a_snapshot_on_a_parent(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        suite_prepare(f, "k1", "");
        g_assert_true(suite_write(f, "k1", "a", "one"));
        suite_commit(f, "l1", "k1");
        suite_prepare(f, "k2", "");
        g_assert_true(suite_write(f, "k2", "b", "two"));
        struct snapshot_commit request = {.name = "l2", .key = "k2", .parent = "nothing"};
        g_autoptr(GError) error = NULL;
        g_assert_false(snapshotter_commit(f->snapshotter, &suite_scope, &request, &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
        g_clear_error(&error);
        request.parent = "l1";
        bool ok = snapshotter_commit(f->snapshotter, &suite_scope, &request, &error);
        if (!f->driver->can_rebase) {
                g_assert_true(error_is(error, ERROR_UNIMPLEMENTED));
                suite_assert_reads(f, "k2", "b", "two");
                return;
        }
        g_assert_true(ok);
        g_assert_cmpstr(suite_stat_of(f, "l2").parent, ==, "l1");
        suite_view(f, "v2", "l2");
        suite_assert_reads(f, "v2", "a", "one");
        suite_assert_reads(f, "v2", "b", "two");
}

static void labels_follow_the_mask(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        struct snapshot_request request = {.key = "k1", .parent = ""};
        labels_set(&request.labels, f->arena, "a", "1");
        labels_set(&request.labels, f->arena, "b", "1");
        g_autoptr(GPtrArray) mounts = snapshotter_prepare(f->snapshotter, &suite_scope, &request, NULL);
        g_assert_nonnull(mounts);
        struct snapshot change = {.key = "k1"};
        labels_set(&change.labels, f->arena, "a", "2");
        char *paths[] = {(char *)"labels.a", (char *)"labels.b"};
        g_assert_true(snapshotter_update(f->snapshotter, &suite_scope, &change, paths, 2, f->arena, NULL));
        struct snapshot got = suite_stat_of(f, "k1");
        g_assert_cmpuint(got.labels.n, ==, 1);
        g_assert_cmpstr(labels_get(&got.labels, "a"), ==, "2");
        g_assert_cmpint(got.updated_ns, >, got.created_ns);
        paths[0] = (char *)"parent";
        g_autoptr(GError) error = NULL;
        g_assert_false(snapshotter_update(f->snapshotter, &suite_scope, &change, paths, 1, f->arena, &error));
        g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        g_assert_cmpstr(error->message, ==, "cannot update \"parent\" field on snapshot \"k1\": invalid argument");
        // Labels are not inherited by commits.
        suite_commit(f, "l1", "k1");
        g_assert_cmpuint(suite_stat_of(f, "l1").labels.n, ==, 0);
}

static bool append_key(void *data, const struct snapshot *snapshot)
{
        g_string_append_printf(data, "%s ", snapshot->key);
        return true;
}

static void assert_list(struct fixture *f, const char *text, const char *keys)
{
        AUTO(filter) filter = filter_parse(&(char *){(char *)text}, 1, NULL);
        g_autoptr(GString) got = g_string_new(NULL);
        g_assert_true(snapshotter_walk(f->snapshotter, &suite_scope, filter, f->arena, append_key, got, NULL));
        g_assert_cmpstr(g_strchomp(got->str), ==, keys);
}

static void list_is_filtered_and_in_order(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        suite_prepare(f, "c", "");
        suite_commit(f, "b", "c");
        suite_prepare(f, "a", "b");
        suite_view(f, "d", "b");
        const struct scope other = {.namespace_ = "other"};
        g_autoptr(GPtrArray) mounts = suite_try_prepare(f, &other, "a", "", NULL, NULL);
        g_assert_nonnull(mounts);
        assert_list(f, "", "a b d");
        assert_list(f, "kind==committed", "b");
        assert_list(f, "parent==b", "a d");
        assert_list(f, "name~=^[ad]$,kind==view", "d");
        g_autoptr(GError) error = NULL;
        g_assert_null(suite_try_prepare(f, &other, "x", "b", NULL, &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
}

static void leases_hold_what_was_made(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        g_autoptr(GPtrArray) mounts = suite_try_prepare(f, &suite_leased, "k1", "", NULL, NULL);
        g_assert_nonnull(mounts);
        suite_assert_held(f, "k1");
        const struct snapshot_commit request = {.name = "l1", .key = "k1"};
        g_assert_true(snapshotter_commit(f->snapshotter, &suite_leased, &request, NULL));
        suite_assert_held(f, "l1");
        g_assert_true(snapshotter_remove(f->snapshotter, &suite_leased, "l1", NULL));
        suite_assert_held(f, "");
        const struct scope unknown = {.namespace_ = "default", .lease = "unknown"};
        g_autoptr(GError) error = NULL;
        g_assert_null(suite_try_prepare(f, &unknown, "k2", "", NULL, &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
        g_assert_true(snapshotter_cleanup(f->snapshotter, NULL));
        g_assert_cmpuint(suite_count_directories(f), ==, 0);
}

static void changes_are_told(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        suite_prepare(f, "k1", "");
        suite_commit(f, "l1", "k1");
        suite_view(f, "v1", "l1");
        suite_remove(f, "v1");
        g_assert_cmpstr(f->recorder.topics->str, ==, "/snapshot/prepare /snapshot/commit /snapshot/remove ");
}

struct racer {
        struct fixture *f;
        int id;
        atomic_int *winners;
};

static void race(void *data)
{
        struct racer *racer = data;
        for (int i = 0; i < 20; i++) {
                g_autofree char *shared = g_strdup_printf("shared-%d", i);
                g_autofree char *own = g_strdup_printf("own-%d-%d", racer->id, i);
                const struct snapshot_request wanted = {.key = shared, .parent = ""};
                const struct snapshot_request mine = {.key = own, .parent = ""};
                g_autoptr(GError) error = NULL;
                g_autoptr(GPtrArray) mounts = snapshotter_prepare(racer->f->snapshotter, &suite_scope, &wanted, &error);
                if (mounts != NULL)
                        atomic_fetch_add(racer->winners, 1);
                else
                        g_assert_true(error_is(error, ERROR_ALREADY_EXISTS));
                g_autoptr(GPtrArray) own_mounts = snapshotter_prepare(racer->f->snapshotter, &suite_scope, &mine, NULL);
                g_assert_nonnull(own_mounts);
                g_assert_true(snapshotter_remove(racer->f->snapshotter, &suite_scope, own, NULL));
                if (i % 5 == 0)
                        g_assert_true(snapshotter_cleanup(racer->f->snapshotter, NULL));
        }
}

static void one_of_many_at_once_wins(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        enum { RACERS = 4 };
        atomic_int winners = 0;
        struct racer racers[RACERS];
        uv_thread_t threads[RACERS];
        for (int i = 0; i < RACERS; i++) {
                racers[i] = (struct racer){f, i, &winners};
                g_assert_cmpint(uv_thread_create(&threads[i], race, &racers[i]), ==, 0);
        }
        for (int i = 0; i < RACERS; i++)
                uv_thread_join(&threads[i]);
        g_assert_cmpint(winners, ==, 20);
        g_assert_true(snapshotter_cleanup(f->snapshotter, NULL));
        g_assert_cmpuint(suite_count_directories(f), ==, 20);
        for (int i = 0; i < 20; i++) {
                g_autofree char *key = g_strdup_printf("shared-%d", i);
                g_assert_true(f->driver->ops->exists(f->driver, suite_stat_of(f, key).directory));
        }
}

int snapshot_suite_main(int argc, char **argv, const struct snapshot_implementer *implementer)
{
        g_test_init(&argc, &argv, NULL);
        SUITE_ADD(layers_show_through_and_are_hidden);
        SUITE_ADD(views_cannot_be_written);
        SUITE_ADD(what_exists_is_not_made_again);
        SUITE_ADD(parents_must_be_committed);
        SUITE_ADD(only_active_snapshots_are_committed);
        SUITE_ADD(parents_cannot_be_removed);
        SUITE_ADD(usage_counts_the_snapshot_alone);
        SUITE_ADD(commit_can_put_a_snapshot_on_a_parent);
        SUITE_ADD(labels_follow_the_mask);
        SUITE_ADD(list_is_filtered_and_in_order);
        SUITE_ADD(leases_hold_what_was_made);
        SUITE_ADD(changes_are_told);
        SUITE_ADD(one_of_many_at_once_wins);
        snapshot_suite_add_durable(implementer);
        return g_test_run();
}
