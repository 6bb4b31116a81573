// SPDX-License-Identifier: Apache-2.0
#include "snapshot_fixture.h"

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

const struct scope suite_scope = {.namespace_ = "default"};
const struct scope suite_leased = {.namespace_ = "default", .lease = "l"};

void suite_start(struct fixture *f)
{
        const struct snapshotter_options options = {
                .name = f->implementer->name,
                .driver = f->driver,
                .metadata = f->metadata,
                .exchange = &f->recorder.base,
                .lanes = f->lanes,
                .lazy_sync = f->lazy_sync,
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

void suite_set_up(struct fixture *f, gconstpointer data)
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
        suite_start(f);
}

void suite_tear_down(struct fixture *f, gconstpointer data)
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

GPtrArray *suite_try_prepare(struct fixture *f, const struct scope *who, const char *key, const char *parent,
        const char *target, GError **error)
{
        struct snapshot_request request = {.key = key, .parent = parent};
        if (target != NULL)
                labels_set(&request.labels, f->arena, "containerd.io/snapshot.ref", target);
        return snapshotter_prepare(f->snapshotter, who, &request, error);
}

void suite_prepare(struct fixture *f, const char *key, const char *parent)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) mounts = suite_try_prepare(f, &suite_scope, key, parent, NULL, &error);
        g_assert_no_error(error);
        g_assert_nonnull(mounts);
}

void suite_view(struct fixture *f, const char *key, const char *parent)
{
        const struct snapshot_request request = {.key = key, .parent = parent, .view = true};
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) mounts = snapshotter_prepare(f->snapshotter, &suite_scope, &request, &error);
        g_assert_no_error(error);
        g_assert_nonnull(mounts);
}

void suite_commit(struct fixture *f, const char *name, const char *key)
{
        const struct snapshot_commit request = {.name = name, .key = key};
        g_autoptr(GError) error = NULL;
        snapshotter_commit(f->snapshotter, &suite_scope, &request, &error);
        g_assert_no_error(error);
}

void suite_assert_commit_fails(
        struct fixture *f, const char *name, const char *key, enum error_code code, const char *text)
{
        const struct snapshot_commit request = {.name = name, .key = key};
        g_autoptr(GError) error = NULL;
        g_assert_false(snapshotter_commit(f->snapshotter, &suite_scope, &request, &error));
        g_assert_cmpint(error_class(error), ==, code);
        g_assert_cmpstr(error->message, ==, text);
}

void suite_remove(struct fixture *f, const char *key)
{
        g_autoptr(GError) error = NULL;
        snapshotter_remove(f->snapshotter, &suite_scope, key, &error);
        g_assert_no_error(error);
}

GPtrArray *suite_mounts_of(struct fixture *f, const char *key)
{
        g_autoptr(GError) error = NULL;
        GPtrArray *mounts = snapshotter_mounts(f->snapshotter, &suite_scope, key, &error);
        g_assert_no_error(error);
        return mounts;
}

bool suite_write(struct fixture *f, const char *key, const char *name, const char *text)
{
        g_autoptr(GPtrArray) mounts = suite_mounts_of(f, key);
        return f->implementer->write(mounts, name, text);
}

void suite_assert_reads(struct fixture *f, const char *key, const char *name, const char *text)
{
        g_autoptr(GPtrArray) mounts = suite_mounts_of(f, key);
        g_autofree char *got = f->implementer->read(mounts, name);
        g_assert_cmpstr(got, ==, text);
}

struct snapshot suite_stat_of(struct fixture *f, const char *key)
{
        struct snapshot snapshot;
        g_autoptr(GError) error = NULL;
        snapshotter_stat(f->snapshotter, &suite_scope, key, f->arena, &snapshot, &error);
        g_assert_no_error(error);
        return snapshot;
}

static void count_directory(void *data, int64_t number, const char *directory)
{
        ++*(unsigned *)data;
}

unsigned suite_count_directories(struct fixture *f)
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

void suite_assert_held(struct fixture *f, const char *keys)
{
        g_autofree char *type = g_strdup_printf("snapshots/%s:", f->implementer->name);
        g_autoptr(GString) got = g_string_new(NULL);
        struct held held = {f, got};
        g_assert_true(metadata_read(f->metadata, read_held, &held, NULL));
        g_string_replace(got, type, "", 0);
        g_assert_cmpstr(g_strchomp(got->str), ==, keys);
}
