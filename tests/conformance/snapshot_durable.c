// SPDX-License-Identifier: Apache-2.0
#include "snapshot_fixture.h"

#include "core/content.h"
#include "core/differ.h"
#include "core/snapshot_repair.h"
#include "io/lanes.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void restart_keeps_rows_and_sweeps_the_rest(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        suite_prepare(f, "k1", "");
        g_assert_true(suite_write(f, "k1", "a", "one"));
        suite_commit(f, "l1", "k1");
        // As if the daemon had died between a directory and its row.
        const struct labels none = {0};
        const struct snapshot_place place = {.kind = SNAPSHOT_ACTIVE, .labels = &none};
        g_autofree char *lost = f->driver->ops->make(f->driver, 1000, &place, NULL);
        g_assert_nonnull(lost);
        snapshotter_free(f->snapshotter);
        suite_start(f);
        g_assert_true(snapshotter_cleanup(f->snapshotter, NULL));
        g_assert_false(f->driver->ops->exists(f->driver, lost));
        g_assert_cmpuint(suite_count_directories(f), ==, 1);
        suite_view(f, "v1", "l1");
        suite_assert_reads(f, "v1", "a", "one");
        // Numbers are not used twice.
        suite_prepare(f, "k2", "l1");
        g_assert_cmpint(suite_stat_of(f, "k2").number, >, suite_stat_of(f, "l1").number);
}

// The sync is a job of the snapshotter.
static void wait_until_synced(struct fixture *f, const char *key)
{
        for (int i = 0; i < 10000 && !suite_stat_of(f, key).synced; i++)
                g_usleep(1000);
        g_assert_true(suite_stat_of(f, key).synced);
}

static void known_content_is_synced_later(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        suite_prepare(f, "k1", "");
        const struct snapshot_usage usage = {.size_bytes = 5, .inodes = 6};
        const struct snapshot_commit request = {
                .name = "l1", .key = "k1", .blob = "sha256:aa", .diff_id = "sha256:bb", .usage = &usage};
        g_assert_true(snapshotter_commit(f->snapshotter, &suite_scope, &request, NULL));
        struct snapshot row = suite_stat_of(f, "l1");
        g_assert_cmpstr(row.blob, ==, "sha256:aa");
        g_assert_cmpstr(row.diff_id, ==, "sha256:bb");
        g_assert_cmpint(row.inodes, ==, 6);
        wait_until_synced(f, "l1");
}

// The driver with its sync counted.
static const struct snapshot_driver_ops *plain_ops;
static atomic_uint n_syncs;

static bool count_sync(struct snapshot_driver *driver, const char *directory, GError **error)
{
        atomic_fetch_add(&n_syncs, 1);
        return plain_ops->sync(driver, directory, error);
}

// Between two lives of the snapshotter, whose jobs use the driver.
static void restart_with(struct fixture *f, const struct snapshot_driver_ops *ops, bool lazy_sync)
{
        snapshotter_free(f->snapshotter);
        f->driver->ops = ops;
        f->lazy_sync = lazy_sync;
        suite_start(f);
}

static void commit_is_on_disk_when_it_answers(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        plain_ops = f->driver->ops;
        struct snapshot_driver_ops counted = *plain_ops;
        counted.sync = count_sync;
        restart_with(f, &counted, false);
        atomic_store(&n_syncs, 0);
        suite_prepare(f, "k1", "");
        g_assert_cmpuint(atomic_load(&n_syncs), ==, 0);
        suite_commit(f, "l1", "k1");
        g_assert_cmpuint(atomic_load(&n_syncs), ==, 1);
        g_assert_true(suite_stat_of(f, "l1").synced);
        restart_with(f, plain_ops, false);
}

static atomic_bool may_sync;

static bool sync_when_allowed(struct snapshot_driver *driver, const char *directory, GError **error)
{
        while (!atomic_load(&may_sync))
                g_usleep(1000);
        return count_sync(driver, directory, error);
}

static void lazy_commits_are_synced_soon(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        plain_ops = f->driver->ops;
        struct snapshot_driver_ops slow = *plain_ops;
        slow.sync = sync_when_allowed;
        atomic_store(&n_syncs, 0);
        atomic_store(&may_sync, false);
        restart_with(f, &slow, true);
        suite_prepare(f, "k1", "");
        suite_commit(f, "l1", "k1");
        g_assert_false(suite_stat_of(f, "l1").synced);
        g_assert_cmpuint(atomic_load(&n_syncs), ==, 0);
        suite_view(f, "v1", "l1"); // it can be used meanwhile
        atomic_store(&may_sync, true);
        wait_until_synced(f, "l1");
        g_assert_cmpuint(atomic_load(&n_syncs), >, 0);
        restart_with(f, plain_ops, false);
}

// ---- repair

// A content store whose blobs hold their own digests, but for "sha256:gone"; a differ whose layers are one file named
// after the blob, and whose diff ids are the digests in capitals.

static int open_blob(
        struct content_store *store, const struct scope *scope, const char *digest, int64_t *ret_size, GError **error)
{
        char path[] = "/tmp/snapshot-suite-blob-XXXXXX";
        if (g_str_equal(digest, "sha256:gone")) {
                error_fail(error, ERROR_NOT_FOUND, "content digest %s: not found", digest);
                return -1;
        }
        int fd = mkostemp(path, O_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        unlink(path);
        *ret_size = (int64_t)strlen(digest);
        g_assert_cmpint(pwrite(fd, digest, strlen(digest), 0), ==, *ret_size);
        return fd;
}

struct fake_differ {
        struct differ base;
        struct fixture *f;
        GString *applied; // the blobs, in order
};

struct differ_apply {
        struct fake_differ *differ;
        char *digest;
        bool written;
        unpack_done_fn done;
        void *data;
};

static void finish_apply(void *data)
{
        struct differ_apply *apply = data;
        g_autofree char *diff_id = g_ascii_strup(apply->digest, -1);
        const struct unpack_result result = {.diff_id = diff_id};
        g_autoptr(GError) error = g_error_new(SKIFF_ERROR, ERROR_UNKNOWN, "cannot write");
        apply->done(apply->data, apply->written ? &result : NULL, apply->written ? NULL : error);
}

static struct differ_apply *apply_blob(
        struct differ *base, const struct differ_apply_request *request, unpack_done_fn done, void *data)
{
        struct fake_differ *differ = (struct fake_differ *)base;
        struct differ_apply *apply = g_new0(struct differ_apply, 1);
        g_assert_true(request->complete && request->sync_fs);
        apply->differ = differ;
        apply->digest = g_malloc0((size_t)request->available_bytes + 1);
        g_assert_cmpint(
                pread(request->fd, apply->digest, (size_t)request->available_bytes, 0), ==, request->available_bytes);
        apply->written = differ->f->implementer->write(request->mounts, apply->digest + strlen("sha256:"), "whole");
        g_string_append_printf(differ->applied, "%s ", apply->digest);
        apply->done = done;
        apply->data = data;
        lanes_submit(differ->f->lanes, LANE_SLOW, finish_apply, apply);
        return apply;
}

static void unref_apply(struct differ_apply *apply)
{
        g_free(apply->digest);
        g_free(apply);
}

static void note_done(void *data)
{
        atomic_store((atomic_bool *)data, true);
}

// Starts anew and repairs all; returns which blobs were unpacked, or NULL if there was nothing to do.
static char *repair(struct fixture *f)
{
        snapshotter_free(f->snapshotter);
        suite_start(f);
        static const struct content_ops content_ops = {.open = open_blob};
        static const struct differ_ops differ_ops = {.apply = apply_blob, .unref = unref_apply};
        struct content_store content = {&content_ops};
        struct fake_differ differ = {{.ops = &differ_ops}, f, g_string_new(NULL)};
        atomic_bool done = false;
        const struct snapshot_repair_options options = {f->snapshotter, &content, &differ.base, note_done, &done};
        bool started = snapshot_repair_start(&options);
        while (started && !atomic_load(&done))
                g_usleep(1000);
        return g_string_free(differ.applied, !started);
}

static void commit_blob(
        struct fixture *f, const char *name, const char *parent, const char *digest, const char *diff_id)
{
        const struct snapshot_commit request = {.name = name, .key = "k", .blob = digest, .diff_id = diff_id};
        suite_prepare(f, "k", parent);
        g_assert_true(suite_write(f, "k", digest + strlen("sha256:"), "torn") && suite_write(f, "k", "rest", "torn"));
        g_assert_true(snapshotter_commit(f->snapshotter, &suite_scope, &request, NULL));
}

static bool pretend_another_boot(struct tx *tx, void *data, GError **error)
{
        struct fixture *f = data;
        static const char *const keys[] = {"base", "a", "bad", "lost"};
        for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
                struct snapshot row;
                if (!f->metadata->snapshots->get(tx, "default", f->implementer->name, keys[i], f->arena, &row, error))
                        return false;
                row.boot_id = "another";
                row.synced = false;
                if (!f->metadata->snapshots->update(tx, "default", &row, error))
                        return false;
        }
        return true;
}

static void assert_lost(struct fixture *f, const char *parent)
{
        g_autoptr(GError) error = NULL;
        g_assert_null(suite_try_prepare(f, &suite_scope, "on-lost", parent, NULL, &error));
        g_assert_true(error_is(error, ERROR_DATA_LOSS));
}

static void torn_snapshots_are_unpacked_again_or_refused(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        commit_blob(f, "base", "", "sha256:base", "SHA256:BASE");
        commit_blob(f, "a", "base", "sha256:a", "SHA256:A"); // before its parent, in the order of keys
        commit_blob(f, "bad", "base", "sha256:bad", "SHA256:OTHER");
        commit_blob(f, "lost", "base", "sha256:gone", "SHA256:GONE");
        wait_until_synced(f, "lost");
        g_assert_true(metadata_write(f->metadata, TX_RELAXED, pretend_another_boot, f, NULL));
        assert_lost(f, "a");
        assert_lost(f, "base");

        const struct snapshot before = suite_stat_of(f, "a");
        g_autofree char *first = repair(f);
        g_assert_cmpstr(first, ==, "sha256:base sha256:a sha256:bad ");
        const struct snapshot after = suite_stat_of(f, "a");
        g_assert_true(after.synced && suite_stat_of(f, "base").synced);
        g_assert_cmpstr(after.directory, ==, before.directory);
        suite_view(f, "v", "a");
        suite_assert_reads(f, "v", "base", "whole");
        suite_assert_reads(f, "v", "a", "whole");
        suite_assert_reads(f, "v", "rest", NULL);
        assert_lost(f, "bad");
        assert_lost(f, "lost");

        // What could not be repaired is tried again at the next start, and nothing else.
        g_autofree char *second = repair(f);
        g_assert_cmpstr(second, ==, "sha256:bad ");
        suite_remove(f, "bad");
        suite_remove(f, "lost");
        g_autofree char *third = repair(f);
        g_assert_null(third);
}

static bool pretend_torn(struct tx *tx, void *data, GError **error)
{
        struct fixture *f = data;
        struct snapshot row;
        if (!f->metadata->snapshots->get(tx, "default", f->implementer->name, "l1", f->arena, &row, error))
                return false;
        g_assert_cmpstr(row.boot_id, !=, "");
        row.boot_id = "another";
        row.synced = false;
        return f->metadata->snapshots->update(tx, "default", &row, error);
}

static void lazy_commits_that_a_power_cut_took_are_refused(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        restart_with(f, f->driver->ops, true);
        suite_prepare(f, "k1", "");
        suite_commit(f, "l1", "k1");
        wait_until_synced(f, "l1");
        g_assert_true(metadata_write(f->metadata, TX_RELAXED, pretend_torn, f, NULL));
        g_autofree char *applied = repair(f);
        g_assert_cmpstr(applied, ==, "");
        assert_lost(f, "l1");
}

static void lost_directories_are_unpacked_again(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        commit_blob(f, "base", "", "sha256:base", "SHA256:BASE");
        commit_blob(f, "a", "base", "sha256:a", "SHA256:A");
        suite_prepare(f, "own", "");
        g_assert_true(suite_write(f, "own", "written", "by hand"));
        suite_commit(f, "made", "own");
        wait_until_synced(f, "a");
        g_assert_true(f->driver->ops->remove(f->driver, suite_stat_of(f, "base").directory, NULL));
        g_assert_true(f->driver->ops->remove(f->driver, suite_stat_of(f, "made").directory, NULL));
        g_autofree char *applied = repair(f);
        g_assert_cmpstr(applied, ==, "sha256:base "); // a is there, and nobody knows what was in made
        suite_view(f, "v", "base");
        suite_assert_reads(f, "v", "base", "whole");
        suite_assert_reads(f, "v", "rest", NULL);
        suite_view(f, "w", "a");
        suite_assert_reads(f, "w", "a", "torn");
        g_autofree char *again = repair(f);
        g_assert_null(again);
}

void snapshot_suite_add_durable(const struct snapshot_implementer *implementer)
{
        SUITE_ADD(restart_keeps_rows_and_sweeps_the_rest);
        SUITE_ADD(known_content_is_synced_later);
        SUITE_ADD(torn_snapshots_are_unpacked_again_or_refused);
        SUITE_ADD(lazy_commits_are_synced_soon);
        SUITE_ADD(lazy_commits_that_a_power_cut_took_are_refused);
        SUITE_ADD(lost_directories_are_unpacked_again);
        SUITE_ADD(commit_is_on_disk_when_it_answers);
}
