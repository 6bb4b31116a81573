// SPDX-License-Identifier: Apache-2.0
#include "snapshot_suite.h"

#include "core/event.h"
#include "core/lease.h"
#include "core/snapshotter.h"
#include "io/lanes.h"
#include "store/store.h"
#include "sys/mounts.h"
#include "sys/tree.h"

#include <glib/gstdio.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

// ---- files through real mounts

static char *mount_for_a_while(const GPtrArray *mounts)
{
        g_autofree char *dir = g_strdup_printf("%s/skiff-conformance-%d", g_get_tmp_dir(), (int)getpid());
        g_autoptr(GError) error = NULL;
        char *at = mount_temp(mounts, dir, false, &error);
        g_assert_no_error(error);
        return at;
}

static void unmount_again(char *at)
{
        g_autofree char *dir = g_path_get_dirname(at);
        g_autoptr(GError) error = NULL;
        mount_temp_remove(at, &error);
        g_assert_no_error(error);
        rmdir(dir);
}

bool snapshot_suite_write_mounted(const GPtrArray *mounts, const char *name, const char *text)
{
        char *at = mount_for_a_while(mounts);
        g_autofree char *path = g_build_filename(at, name, NULL);
        bool ok = text != NULL ? g_file_set_contents(path, text, -1, NULL) : unlink(path) == 0;
        unmount_again(at);
        return ok;
}

char *snapshot_suite_read_mounted(const GPtrArray *mounts, const char *name)
{
        char *at = mount_for_a_while(mounts), *text = NULL;
        g_autofree char *path = g_build_filename(at, name, NULL);
        g_file_get_contents(path, &text, NULL, NULL);
        unmount_again(at);
        return text;
}

// ---- an exchange that remembers topics

struct recorder {
        struct event_exchange base;
        uv_mutex_t mutex;
        GString *topics;
};

static bool record_event(struct event_exchange *base, struct event *event, GError **error)
{
        struct recorder *recorder = (struct recorder *)base;
        uv_mutex_lock(&recorder->mutex);
        g_string_append_printf(recorder->topics, "%s ", event->topic);
        uv_mutex_unlock(&recorder->mutex);
        return true;
}

static const struct event_exchange_ops recorder_ops = {.publish = record_event};

// ---- the fixture

struct fixture {
        const struct snapshot_implementer *implementer;
        char *directory, *database;
        struct snapshot_driver *driver; // NULL: cannot work here
        struct metadata *metadata;
        struct lanes *lanes;
        struct recorder recorder;
        struct snapshotter *snapshotter;
        struct arena *arena;
};

static const struct scope scope = {.namespace_ = "default"};
static const struct scope leased = {.namespace_ = "default", .lease = "l"};

static void start(struct fixture *f)
{
        const struct snapshotter_options options = {
                .name = f->implementer->name,
                .driver = f->driver,
                .metadata = f->metadata,
                .exchange = &f->recorder.base,
                .lanes = f->lanes,
        };
        g_autoptr(GError) error = NULL;
        f->snapshotter = snapshotter_new(&options, &error);
        g_assert_no_error(error);
}

static bool make_lease(struct tx *tx, void *data, GError **error)
{
        const struct fixture *f = data;
        const struct lease lease = {.id = "l"};
        return f->metadata->leases->insert(tx, "default", &lease, error);
}

static void set_up(struct fixture *f, gconstpointer data)
{
        f->implementer = data;
        f->directory = g_dir_make_tmp("snapshot-suite-XXXXXX", NULL);
        g_autofree char *root = g_build_filename(f->directory, "root", NULL);
        g_assert_cmpint(g_mkdir(root, 0700), ==, 0);
        f->database = g_build_filename(f->directory, "metadata.sqlite", NULL);
        g_autoptr(GError) error = NULL;
        f->driver = f->implementer->open(root, &error);
        if (error_is(error, ERROR_UNIMPLEMENTED) || geteuid() != 0) {
                g_test_skip(error != NULL ? error->message : "needs root");
                if (f->driver != NULL)
                        f->implementer->close(g_steal_pointer(&f->driver));
                return;
        }
        g_assert_no_error(error);
        f->metadata = store_open(f->database, &error);
        g_assert_no_error(error);
        f->lanes = lanes_new(NULL);
        f->recorder.base.ops = &recorder_ops;
        f->recorder.topics = g_string_new(NULL);
        uv_mutex_init(&f->recorder.mutex);
        f->arena = arena_new();
        g_assert_true(metadata_write(f->metadata, TX_RELAXED, make_lease, f, NULL));
        start(f);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
        if (f->driver != NULL) {
                snapshotter_free(f->snapshotter);
                lanes_free(f->lanes);
                store_close(f->metadata);
                f->implementer->close(f->driver);
                arena_free(f->arena);
                g_string_free(f->recorder.topics, true);
                uv_mutex_destroy(&f->recorder.mutex);
        }
        g_autoptr(GError) error = NULL;
        tree_remove(f->directory, &error);
        g_assert_no_error(error);
        g_free(f->directory);
        g_free(f->database);
}

// ---- steps

static GPtrArray *try_prepare(struct fixture *f, const struct scope *who, const char *key, const char *parent,
        const char *target, GError **error)
{
        struct snapshot_request request = {.key = key, .parent = parent};
        if (target != NULL)
                labels_set(&request.labels, f->arena, "containerd.io/snapshot.ref", target);
        return snapshotter_prepare(f->snapshotter, who, &request, error);
}

static void prepare(struct fixture *f, const char *key, const char *parent)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) mounts = try_prepare(f, &scope, key, parent, NULL, &error);
        g_assert_no_error(error);
        g_assert_nonnull(mounts);
}

static void view(struct fixture *f, const char *key, const char *parent)
{
        const struct snapshot_request request = {.key = key, .parent = parent, .view = true};
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) mounts = snapshotter_prepare(f->snapshotter, &scope, &request, &error);
        g_assert_no_error(error);
        g_assert_nonnull(mounts);
}

static void commit(struct fixture *f, const char *name, const char *key)
{
        const struct snapshot_commit request = {.name = name, .key = key};
        g_autoptr(GError) error = NULL;
        snapshotter_commit(f->snapshotter, &scope, &request, &error);
        g_assert_no_error(error);
}

static void assert_commit_fails(
        struct fixture *f, const char *name, const char *key, enum error_code code, const char *text)
{
        const struct snapshot_commit request = {.name = name, .key = key};
        g_autoptr(GError) error = NULL;
        g_assert_false(snapshotter_commit(f->snapshotter, &scope, &request, &error));
        g_assert_cmpint(error_class(error), ==, code);
        g_assert_cmpstr(error->message, ==, text);
}

static void remove_one(struct fixture *f, const char *key)
{
        g_autoptr(GError) error = NULL;
        snapshotter_remove(f->snapshotter, &scope, key, &error);
        g_assert_no_error(error);
}

static GPtrArray *mounts_of(struct fixture *f, const char *key)
{
        g_autoptr(GError) error = NULL;
        GPtrArray *mounts = snapshotter_mounts(f->snapshotter, &scope, key, &error);
        g_assert_no_error(error);
        return mounts;
}

static bool write_to(struct fixture *f, const char *key, const char *name, const char *text)
{
        g_autoptr(GPtrArray) mounts = mounts_of(f, key);
        return f->implementer->write(mounts, name, text);
}

static void assert_reads(struct fixture *f, const char *key, const char *name, const char *text)
{
        g_autoptr(GPtrArray) mounts = mounts_of(f, key);
        g_autofree char *got = f->implementer->read(mounts, name);
        g_assert_cmpstr(got, ==, text);
}

static struct snapshot stat_of(struct fixture *f, const char *key)
{
        struct snapshot snapshot;
        g_autoptr(GError) error = NULL;
        snapshotter_stat(f->snapshotter, &scope, key, f->arena, &snapshot, &error);
        g_assert_no_error(error);
        return snapshot;
}

static void count_directory(void *data, int64_t number, const char *directory)
{
        ++*(unsigned *)data;
}

static unsigned count_directories(struct fixture *f)
{
        unsigned n = 0;
        g_assert_true(f->driver->ops->list(f->driver, count_directory, &n, NULL));
        return n;
}

struct held {
        struct fixture *f;
        GString *keys;
};

static bool note_held(void *data, const struct lease_resource *resource)
{
        struct held *held = data;
        g_string_append_printf(held->keys, "%s:%s ", resource->type, resource->id);
        return true;
}

static bool read_held(struct tx *tx, void *data, GError **error)
{
        struct held *held = data;
        return held->f->metadata->leases->walk_resources(tx, "default", "l", NULL, note_held, held, error);
}

static void assert_held(struct fixture *f, const char *keys)
{
        g_autofree char *type = g_strdup_printf("snapshots/%s:", f->implementer->name);
        g_autoptr(GString) got = g_string_new(NULL);
        struct held held = {f, got};
        g_assert_true(metadata_read(f->metadata, read_held, &held, NULL));
        g_string_replace(got, type, "", 0);
        g_assert_cmpstr(g_strchomp(got->str), ==, keys);
}

// ---- the tests

static void layers_show_through_and_are_hidden(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        prepare(f, "k1", "");
        g_assert_true(write_to(f, "k1", "a", "one") && write_to(f, "k1", "b", "one"));
        commit(f, "l1", "k1");
        prepare(f, "k2", "l1");
        assert_reads(f, "k2", "a", "one");
        g_assert_true(write_to(f, "k2", "a", "two") && write_to(f, "k2", "b", NULL));
        commit(f, "l2", "k2");
        prepare(f, "k3", "l2");
        g_assert_true(write_to(f, "k3", "c", "three"));
        commit(f, "l3", "k3");
        view(f, "v1", "l1");
        view(f, "v3", "l3");
        prepare(f, "k4", "l3");
        assert_reads(f, "v1", "a", "one");
        assert_reads(f, "v1", "b", "one");
        assert_reads(f, "v1", "c", NULL);
        for (int i = 0; i < 2; i++) {
                const char *key = i == 0 ? "v3" : "k4";
                assert_reads(f, key, "a", "two");
                assert_reads(f, key, "b", NULL);
                assert_reads(f, key, "c", "three");
        }
        g_assert_true(write_to(f, "k4", "a", "four"));
        assert_reads(f, "v3", "a", "two");
}

static void views_cannot_be_written(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        prepare(f, "k1", "");
        commit(f, "l1", "k1");
        prepare(f, "k2", "l1");
        commit(f, "l2", "k2");
        view(f, "empty", "");
        view(f, "v1", "l1");
        view(f, "v2", "l2");
        g_assert_false(write_to(f, "empty", "a", "x"));
        g_assert_false(write_to(f, "v1", "a", "x"));
        g_assert_false(write_to(f, "v2", "a", "x"));
        g_assert_cmpint(stat_of(f, "v2").kind, ==, SNAPSHOT_VIEW);
}

static void what_exists_is_not_made_again(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        prepare(f, "k1", "");
        commit(f, "l1", "k1");
        prepare(f, "k2", "");
        unsigned before = count_directories(f);
        static const struct {
                const char *key, *parent, *target, *text;
        } cases[] = {
                {"k2", "", NULL, "snapshot \"k2\": already exists"},
                {"l1", "", NULL, "snapshot \"l1\": already exists"},
                {"k3", "", "l1", "target snapshot \"l1\": already exists"},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autoptr(GError) error = NULL;
                g_assert_null(try_prepare(f, &leased, cases[i].key, cases[i].parent, cases[i].target, &error));
                g_assert_true(error_is(error, ERROR_ALREADY_EXISTS));
                g_assert_cmpstr(error->message, ==, cases[i].text);
        }
        // What was there is held for whoever asked for it.
        assert_held(f, "k2 l1");
        g_assert_cmpuint(count_directories(f), ==, before);
        assert_commit_fails(f, "l1", "k2", ERROR_ALREADY_EXISTS, "snapshot \"l1\": already exists");
        g_assert_cmpint(stat_of(f, "k2").kind, ==, SNAPSHOT_ACTIVE);
}

static void parents_must_be_committed(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        prepare(f, "k1", "");
        g_autoptr(GError) error = NULL;
        g_assert_null(try_prepare(f, &scope, "k2", "nothing", NULL, &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
        g_assert_cmpstr(error->message, ==, "parent snapshot nothing does not exist: not found");
        g_clear_error(&error);
        g_assert_null(try_prepare(f, &scope, "k2", "k1", NULL, &error));
        g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        g_assert_cmpstr(error->message, ==,
                "failed to create snapshot: parent \"default/1/k1\" is not committed snapshot: invalid argument");
        g_assert_cmpuint(count_directories(f), ==, 1);
}

static void only_active_snapshots_are_committed(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        prepare(f, "k1", "");
        commit(f, "l1", "k1");
        view(f, "v1", "l1");
        assert_commit_fails(f, "x", "nothing", ERROR_NOT_FOUND, "snapshot nothing does not exist: not found");
        assert_commit_fails(f, "x", "v1", ERROR_FAILED_PRECONDITION,
                "failed to commit snapshot default/3/v1: snapshot \"default/3/v1\" is not active: failed precondition");
        g_autoptr(GError) error = NULL;
        g_assert_null(snapshotter_mounts(f->snapshotter, &scope, "l1", &error));
        g_assert_true(error_is(error, ERROR_FAILED_PRECONDITION));
        // The key is free again.
        prepare(f, "k1", "l1");
}

static void parents_cannot_be_removed(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        prepare(f, "k1", "");
        commit(f, "l1", "k1");
        prepare(f, "k2", "l1");
        g_autoptr(GError) error = NULL;
        g_assert_false(snapshotter_remove(f->snapshotter, &scope, "l1", &error));
        g_assert_true(error_is(error, ERROR_FAILED_PRECONDITION));
        g_assert_cmpstr(error->message, ==, "cannot remove snapshot with child: failed precondition");
        g_clear_error(&error);
        remove_one(f, "k2");
        remove_one(f, "l1");
        g_assert_false(snapshotter_remove(f->snapshotter, &scope, "l1", &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
        g_assert_true(snapshotter_cleanup(f->snapshotter, NULL));
        g_assert_cmpuint(count_directories(f), ==, 0);
}

static void usage_counts_the_snapshot_alone(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        struct snapshot_usage empty, filled, committed;
        prepare(f, "k1", "");
        g_assert_true(snapshotter_usage(f->snapshotter, &scope, "k1", &empty, NULL));
        g_assert_true(write_to(f, "k1", "a", "some text"));
        g_assert_true(snapshotter_usage(f->snapshotter, &scope, "k1", &filled, NULL));
        g_assert_cmpint(filled.inodes, ==, empty.inodes + 1);
        g_assert_cmpint(filled.size_bytes, >, empty.size_bytes);
        commit(f, "l1", "k1");
        g_assert_true(snapshotter_usage(f->snapshotter, &scope, "l1", &committed, NULL));
        g_assert_cmpint(committed.inodes, ==, filled.inodes);
        g_assert_cmpint(committed.size_bytes, ==, filled.size_bytes);
        view(f, "v1", "l1");
        g_assert_true(snapshotter_usage(f->snapshotter, &scope, "v1", &empty, NULL));
        g_assert_cmpint(empty.inodes, ==, 0);
}

static void commit_can_put_a_snapshot_on_a_parent(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        prepare(f, "k1", "");
        g_assert_true(write_to(f, "k1", "a", "one"));
        commit(f, "l1", "k1");
        prepare(f, "k2", "");
        g_assert_true(write_to(f, "k2", "b", "two"));
        struct snapshot_commit request = {.name = "l2", .key = "k2", .parent = "nothing"};
        g_autoptr(GError) error = NULL;
        g_assert_false(snapshotter_commit(f->snapshotter, &scope, &request, &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
        g_clear_error(&error);
        request.parent = "l1";
        bool ok = snapshotter_commit(f->snapshotter, &scope, &request, &error);
        if (!f->implementer->can_rebase) {
                g_assert_true(error_is(error, ERROR_UNIMPLEMENTED));
                assert_reads(f, "k2", "b", "two");
                return;
        }
        g_assert_true(ok);
        g_assert_cmpstr(stat_of(f, "l2").parent, ==, "l1");
        view(f, "v2", "l2");
        assert_reads(f, "v2", "a", "one");
        assert_reads(f, "v2", "b", "two");
}

static void labels_follow_the_mask(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        struct snapshot_request request = {.key = "k1", .parent = ""};
        labels_set(&request.labels, f->arena, "a", "1");
        labels_set(&request.labels, f->arena, "b", "1");
        g_autoptr(GPtrArray) mounts = snapshotter_prepare(f->snapshotter, &scope, &request, NULL);
        g_assert_nonnull(mounts);
        struct snapshot change = {.key = "k1"};
        labels_set(&change.labels, f->arena, "a", "2");
        char *paths[] = {(char *)"labels.a", (char *)"labels.b"};
        g_assert_true(snapshotter_update(f->snapshotter, &scope, &change, paths, 2, f->arena, NULL));
        struct snapshot got = stat_of(f, "k1");
        g_assert_cmpuint(got.labels.n, ==, 1);
        g_assert_cmpstr(labels_get(&got.labels, "a"), ==, "2");
        g_assert_cmpint(got.updated_ns, >, got.created_ns);
        paths[0] = (char *)"parent";
        g_autoptr(GError) error = NULL;
        g_assert_false(snapshotter_update(f->snapshotter, &scope, &change, paths, 1, f->arena, &error));
        g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        g_assert_cmpstr(error->message, ==, "cannot update \"parent\" field on snapshot \"k1\": invalid argument");
        // Labels are not inherited by commits.
        commit(f, "l1", "k1");
        g_assert_cmpuint(stat_of(f, "l1").labels.n, ==, 0);
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
        g_assert_true(snapshotter_walk(f->snapshotter, &scope, filter, f->arena, append_key, got, NULL));
        g_assert_cmpstr(g_strchomp(got->str), ==, keys);
}

static void list_is_filtered_and_in_order(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        prepare(f, "c", "");
        commit(f, "b", "c");
        prepare(f, "a", "b");
        view(f, "d", "b");
        const struct scope other = {.namespace_ = "other"};
        g_autoptr(GPtrArray) mounts = try_prepare(f, &other, "a", "", NULL, NULL);
        g_assert_nonnull(mounts);
        assert_list(f, "", "a b d");
        assert_list(f, "kind==committed", "b");
        assert_list(f, "parent==b", "a d");
        assert_list(f, "name~=^[ad]$,kind==view", "d");
        g_autoptr(GError) error = NULL;
        g_assert_null(try_prepare(f, &other, "x", "b", NULL, &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
}

static void leases_hold_what_was_made(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        g_autoptr(GPtrArray) mounts = try_prepare(f, &leased, "k1", "", NULL, NULL);
        g_assert_nonnull(mounts);
        assert_held(f, "k1");
        const struct snapshot_commit request = {.name = "l1", .key = "k1"};
        g_assert_true(snapshotter_commit(f->snapshotter, &leased, &request, NULL));
        assert_held(f, "l1");
        g_assert_true(snapshotter_remove(f->snapshotter, &leased, "l1", NULL));
        assert_held(f, "");
        const struct scope unknown = {.namespace_ = "default", .lease = "unknown"};
        g_autoptr(GError) error = NULL;
        g_assert_null(try_prepare(f, &unknown, "k2", "", NULL, &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
        g_assert_true(snapshotter_cleanup(f->snapshotter, NULL));
        g_assert_cmpuint(count_directories(f), ==, 0);
}

static void changes_are_told(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        prepare(f, "k1", "");
        commit(f, "l1", "k1");
        view(f, "v1", "l1");
        remove_one(f, "v1");
        g_assert_cmpstr(f->recorder.topics->str, ==, "/snapshot/prepare /snapshot/commit /snapshot/remove ");
}

static void restart_keeps_rows_and_sweeps_the_rest(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        prepare(f, "k1", "");
        g_assert_true(write_to(f, "k1", "a", "one"));
        commit(f, "l1", "k1");
        // As if the daemon had died between a directory and its row.
        const struct labels none = {0};
        const struct snapshot_place place = {.kind = SNAPSHOT_ACTIVE, .labels = &none};
        g_autofree char *lost = f->driver->ops->make(f->driver, 1000, &place, NULL);
        g_assert_nonnull(lost);
        snapshotter_free(f->snapshotter);
        start(f);
        g_assert_true(snapshotter_cleanup(f->snapshotter, NULL));
        g_assert_false(f->driver->ops->exists(f->driver, lost));
        g_assert_cmpuint(count_directories(f), ==, 1);
        view(f, "v1", "l1");
        assert_reads(f, "v1", "a", "one");
        // Numbers are not used twice.
        prepare(f, "k2", "l1");
        g_assert_cmpint(stat_of(f, "k2").number, >, stat_of(f, "l1").number);
}

static bool note_torn(void *data, const char *namespace_, const struct snapshot *snapshot)
{
        g_string_append_printf(data, "%s/%s=%s ", namespace_, snapshot->key, snapshot->blob);
        return true;
}

static bool pretend_another_boot(struct tx *tx, void *data, GError **error)
{
        struct fixture *f = data;
        struct snapshot row;
        if (!f->metadata->snapshots->get(tx, "default", f->implementer->name, "l1", f->arena, &row, error))
                return false;
        row.boot_id = "another";
        row.synced = false;
        return f->metadata->snapshots->update(tx, "default", &row, error);
}

static void known_content_is_synced_later_or_reported(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        prepare(f, "k1", "");
        const struct snapshot_usage usage = {.size_bytes = 5, .inodes = 6};
        const struct snapshot_commit request = {
                .name = "l1", .key = "k1", .blob = "sha256:aa", .diff_id = "sha256:bb", .usage = &usage};
        g_assert_true(snapshotter_commit(f->snapshotter, &scope, &request, NULL));
        struct snapshot row = stat_of(f, "l1");
        g_assert_cmpstr(row.blob, ==, "sha256:aa");
        g_assert_cmpstr(row.diff_id, ==, "sha256:bb");
        g_assert_cmpint(row.inodes, ==, 6);
        // The sync is a job of the snapshotter; stopping waits for it, a new one takes up what was not done.
        for (int i = 0; i < 1000 && !stat_of(f, "l1").synced; i++)
                g_usleep(10 * 1000);
        g_assert_true(stat_of(f, "l1").synced);

        g_assert_true(metadata_write(f->metadata, TX_RELAXED, pretend_another_boot, f, NULL));
        g_autoptr(GString) torn = g_string_new(NULL);
        g_assert_true(snapshotter_torn(f->snapshotter, f->arena, note_torn, torn, NULL));
        g_assert_cmpstr(torn->str, ==, "default/l1=sha256:aa ");
        g_assert_true(snapshotter_mark_synced(f->snapshotter, "default", "l1", row.number, NULL));
        g_string_truncate(torn, 0);
        g_assert_true(snapshotter_torn(f->snapshotter, f->arena, note_torn, torn, NULL));
        g_assert_cmpstr(torn->str, ==, "");
}

// The driver with its sync counted.
static const struct snapshot_driver_ops *plain_ops;
static atomic_uint n_syncs;

static bool count_sync(struct snapshot_driver *driver, const char *directory, GError **error)
{
        atomic_fetch_add(&n_syncs, 1);
        return plain_ops->sync(driver, directory, error);
}

static void commit_is_on_disk_when_it_answers(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        plain_ops = f->driver->ops;
        struct snapshot_driver_ops counted = *plain_ops;
        counted.sync = count_sync;
        f->driver->ops = &counted;
        atomic_store(&n_syncs, 0);
        prepare(f, "k1", "");
        g_assert_cmpuint(atomic_load(&n_syncs), ==, 0);
        commit(f, "l1", "k1");
        g_assert_cmpuint(atomic_load(&n_syncs), ==, 1);
        g_assert_true(stat_of(f, "l1").synced);
        f->driver->ops = plain_ops;
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
                g_autoptr(GPtrArray) mounts = snapshotter_prepare(racer->f->snapshotter, &scope, &wanted, &error);
                if (mounts != NULL)
                        atomic_fetch_add(racer->winners, 1);
                else
                        g_assert_true(error_is(error, ERROR_ALREADY_EXISTS));
                g_autoptr(GPtrArray) own_mounts = snapshotter_prepare(racer->f->snapshotter, &scope, &mine, NULL);
                g_assert_nonnull(own_mounts);
                g_assert_true(snapshotter_remove(racer->f->snapshotter, &scope, own, NULL));
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
        g_assert_cmpuint(count_directories(f), ==, 20);
        for (int i = 0; i < 20; i++) {
                g_autofree char *key = g_strdup_printf("shared-%d", i);
                g_assert_true(f->driver->ops->exists(f->driver, stat_of(f, key).directory));
        }
}

int snapshot_suite_main(int argc, char **argv, const struct snapshot_implementer *implementer)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(function)                                                                                                  \
        do {                                                                                                           \
                g_autofree char *path = g_strdup_printf("/snapshot/%s/%s", implementer->name, #function);              \
                g_test_add(path, struct fixture, implementer, set_up, function, tear_down);                            \
        } while (0)
        ADD(layers_show_through_and_are_hidden);
        ADD(views_cannot_be_written);
        ADD(what_exists_is_not_made_again);
        ADD(parents_must_be_committed);
        ADD(only_active_snapshots_are_committed);
        ADD(parents_cannot_be_removed);
        ADD(usage_counts_the_snapshot_alone);
        ADD(commit_can_put_a_snapshot_on_a_parent);
        ADD(labels_follow_the_mask);
        ADD(list_is_filtered_and_in_order);
        ADD(leases_hold_what_was_made);
        ADD(changes_are_told);
        ADD(restart_keeps_rows_and_sweeps_the_rest);
        ADD(known_content_is_synced_later_or_reported);
        ADD(commit_is_on_disk_when_it_answers);
        ADD(one_of_many_at_once_wins);
        return g_test_run();
}
