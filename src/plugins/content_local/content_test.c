// SPDX-License-Identifier: Apache-2.0
#include "plugins/content_local/local.h"

#include "base/digest.h"
#include "base/fd.h"
#include "base/filter.h"
#include "core/lease.h"
#include "store/store.h"
#include "sys/tree.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
        char *directory;
        struct metadata *metadata;
        struct content_store *content;
        struct arena *arena;
};

static const struct scope one = {"one", NULL}, two = {"two", NULL};

static void open_all(struct fixture *fixture, bool shared)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *path = g_build_filename(fixture->directory, "metadata.sqlite", NULL);
        g_autofree char *root = g_build_filename(fixture->directory, "content", NULL);
        fixture->metadata = store_open(path, &error);
        g_assert_no_error(error);
        fixture->content = content_local_new(root, fixture->metadata, NULL, shared, &error);
        g_assert_no_error(error);
}

static void close_all(struct fixture *fixture)
{
        content_local_free(fixture->content);
        store_close(fixture->metadata);
}

static void set_up(struct fixture *fixture, const void *data)
{
        fixture->directory = g_dir_make_tmp("content-test-XXXXXX", NULL);
        fixture->arena = arena_new();
        open_all(fixture, true);
}

static void tear_down(struct fixture *fixture, const void *data)
{
        close_all(fixture);
        arena_free(fixture->arena);
        g_assert_true(tree_remove(fixture->directory, NULL));
        g_free(fixture->directory);
}

static struct content_writer *open_writer(
        struct fixture *fixture, const struct scope *scope, const char *ref, int64_t total, const char *expected)
{
        g_autoptr(GError) error = NULL;
        const struct content_expect expect = {ref, total, expected};
        struct content_writer *writer = fixture->content->ops->writer(fixture->content, scope, &expect, &error);
        g_assert_no_error(error);
        return writer;
}

static void append(struct content_writer *writer, const char *text)
{
        g_autoptr(GError) error = NULL;
        writer->ops->write(writer, text, strlen(text), &error);
        g_assert_no_error(error);
}

static void add(struct fixture *fixture, const struct scope *scope, const char *ref, const char *text)
{
        g_autoptr(GError) error = NULL;
        const struct content_commit commit = {0};
        content_write(fixture->content, scope, ref, text, strlen(text), &commit, &error);
        g_assert_no_error(error);
}

static char *digest_of(const char *text)
{
        return digest_of_bytes(DIGEST_SHA256, text, strlen(text));
}

static void assert_content(struct fixture *fixture, const struct scope *scope, const char *text)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = digest_of(text);
        const char *bytes;
        size_t n;
        content_read(fixture->content, scope, digest, 1000, fixture->arena, &bytes, &n, &error);
        g_assert_no_error(error);
        g_assert_cmpmem(bytes, n, text, strlen(text));
}

static bool has(struct fixture *fixture, const struct scope *scope, const char *digest)
{
        struct blob blob;
        return fixture->content->ops->info(fixture->content, scope, digest, fixture->arena, &blob, NULL);
}

static bool on_disk(struct fixture *fixture, const char *digest)
{
        int64_t size;
        return content_local_blob_size((struct content_local *)fixture->content, digest, &size, NULL);
}

static void keeps_what_was_committed(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = digest_of("hello world");
        struct label items[] = {{"a", "1"}, {"b", ""}};
        AUTO(content_writer) writer = open_writer(fixture, &one, "r", 11, digest);
        append(writer, "hello ");
        append(writer, "world");
        g_autofree char *running = writer->ops->digest(writer);
        g_assert_cmpstr(running, ==, digest);
        const struct content_commit commit = {11, digest, {items, 2}};
        g_assert_true(writer->ops->commit(writer, &commit, &error));
        g_clear_pointer(&writer, content_writer_close);

        close_all(fixture);
        open_all(fixture, true);
        assert_content(fixture, &one, "hello world");
        struct blob blob;
        g_assert_true(fixture->content->ops->info(fixture->content, &one, digest, fixture->arena, &blob, &error));
        g_assert_cmpint(blob.size, ==, 11);
        g_assert_cmpuint(blob.labels.n, ==, 1);
        g_assert_cmpstr(labels_get(&blob.labels, "a"), ==, "1");
        g_assert_false(has(fixture, &two, digest));
        struct content_status status;
        g_assert_false(fixture->content->ops->status(fixture->content, &one, "r", fixture->arena, &status, &error));
        g_assert_cmpstr(error->message, ==, "reference r: not found");
}

static void commit_refuses_wrong_digest(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = digest_of("something else");
        AUTO(content_writer) writer = open_writer(fixture, &one, "r", 0, NULL);
        append(writer, "hello");
        const struct content_commit commit = {.expected = digest};
        g_assert_false(writer->ops->commit(writer, &commit, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_FAILED_PRECONDITION);
        g_assert_true(g_str_has_prefix(error->message, "unexpected commit digest sha256:2cf24dba"));
        g_assert_false(has(fixture, &one, digest));
}

static void commit_refuses_wrong_size(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        AUTO(content_writer) writer = open_writer(fixture, &one, "r", 0, NULL);
        append(writer, "hello");
        const struct content_commit commit = {.size = 6};
        g_assert_false(writer->ops->commit(writer, &commit, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_FAILED_PRECONDITION);
        g_assert_cmpstr(error->message, ==, "\"r\" failed size validation: 5 != 6: failed precondition");
}

static void commits_other_algorithms(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = digest_of_bytes(DIGEST_SHA512, "hello", 5);
        AUTO(content_writer) writer = open_writer(fixture, &one, "r", 0, NULL);
        append(writer, "hello");
        const struct content_commit commit = {.expected = digest};
        g_assert_true(writer->ops->commit(writer, &commit, &error));
        g_assert_true(has(fixture, &one, digest));
        g_assert_true(on_disk(fixture, digest));
}

static void goes_on_where_it_stopped(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        AUTO(content_writer) first = open_writer(fixture, &one, "r", 11, NULL);
        append(first, "hello ");
        g_clear_pointer(&first, content_writer_close);
        close_all(fixture);
        open_all(fixture, true);

        struct content_status status;
        g_assert_true(fixture->content->ops->status(fixture->content, &one, "r", fixture->arena, &status, &error));
        g_assert_cmpint(status.offset, ==, 6);
        g_assert_cmpint(status.total, ==, 11);
        AUTO(content_writer) second = open_writer(fixture, &one, "r", 11, NULL);
        second->ops->status(second, &status);
        g_assert_cmpint(status.offset, ==, 6);
        append(second, "world");
        const struct content_commit commit = {.size = 11};
        g_assert_true(second->ops->commit(second, &commit, &error));
        assert_content(fixture, &one, "hello world");
}

static void begins_anew_with_another_total(struct fixture *fixture, const void *data)
{
        AUTO(content_writer) first = open_writer(fixture, &one, "r", 11, NULL);
        append(first, "hello ");
        g_clear_pointer(&first, content_writer_close);
        AUTO(content_writer) second = open_writer(fixture, &one, "r", 3, NULL);
        struct content_status status;
        second->ops->status(second, &status);
        g_assert_cmpint(status.offset, ==, 0);
        g_assert_cmpint(status.total, ==, 3);
        append(second, "abc");
        const struct content_commit commit = {0};
        g_assert_true(second->ops->commit(second, &commit, NULL));
        assert_content(fixture, &one, "abc");
}

static void truncates_to_the_start(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        AUTO(content_writer) writer = open_writer(fixture, &one, "r", 0, NULL);
        append(writer, "wrong");
        g_assert_true(writer->ops->truncate(writer, 0, &error));
        append(writer, "ok");
        g_assert_false(writer->ops->truncate(writer, 1, &error));
        g_clear_error(&error);
        const struct content_commit commit = {.size = 2};
        g_assert_true(writer->ops->commit(writer, &commit, &error));
        assert_content(fixture, &one, "ok");
}

static void a_ref_has_one_writer(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        const struct content_expect expect = {.ref = "r"};
        AUTO(content_writer) writer = open_writer(fixture, &one, "r", 0, NULL);
        g_assert_null(fixture->content->ops->writer(fixture->content, &one, &expect, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_UNAVAILABLE);
        g_assert_true(g_str_has_prefix(error->message, "ref one/1/r locked for "));
        // The same ref of another namespace is another ref.
        AUTO(content_writer) other = open_writer(fixture, &two, "r", 0, NULL);
        g_clear_pointer(&writer, content_writer_close);
        AUTO(content_writer) again = open_writer(fixture, &one, "r", 0, NULL);
}

static void says_what_is_there(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = digest_of("hello");
        add(fixture, &one, "r", "hello");
        const struct content_expect expect = {"r2", 5, digest};
        g_assert_null(fixture->content->ops->writer(fixture->content, &one, &expect, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_ALREADY_EXISTS);
        g_clear_error(&error);
        AUTO(content_writer) writer = open_writer(fixture, &one, "r3", 0, NULL);
        append(writer, "hello");
        const struct content_commit commit = {0};
        g_assert_false(writer->ops->commit(writer, &commit, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_ALREADY_EXISTS);
        g_clear_error(&error);
        struct content_status status;
        g_assert_false(fixture->content->ops->status(fixture->content, &one, "r3", fixture->arena, &status, &error));
}

static void namespaces_share_bytes(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = digest_of("hello");
        add(fixture, &one, "r", "hello");
        AUTO(content_writer) writer = open_writer(fixture, &two, "r", 5, digest);
        struct content_status status;
        writer->ops->status(writer, &status);
        g_assert_cmpint(status.offset, ==, 5);
        g_assert_cmpint(writer->ops->fd(writer), ==, -1);
        const struct content_commit commit = {5, digest, {0}};
        g_assert_true(writer->ops->commit(writer, &commit, &error));
        assert_content(fixture, &two, "hello");

        // A client that writes on top gets bytes of its own.
        AUTO(content_writer) longer = open_writer(fixture, &(struct scope){"three", NULL}, "r", 0, digest);
        append(longer, " world");
        const struct content_commit rest = {.size = 11};
        g_assert_true(longer->ops->commit(longer, &rest, &error));
        assert_content(fixture, &(struct scope){"three", NULL}, "hello world");
}

static void isolated_namespaces_share_nothing(struct fixture *fixture, const void *data)
{
        g_autofree char *digest = digest_of("hello");
        close_all(fixture);
        open_all(fixture, false);
        add(fixture, &one, "r", "hello");
        AUTO(content_writer) writer = open_writer(fixture, &two, "r", 5, digest);
        struct content_status status;
        writer->ops->status(writer, &status);
        g_assert_cmpint(status.offset, ==, 0);
}

static void bytes_go_with_their_last_record(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        const struct content_ops *ops = fixture->content->ops;
        g_autofree char *digest = digest_of("hello");
        add(fixture, &one, "r", "hello");
        add(fixture, &two, "r", "hello");
        g_assert_true(ops->remove(fixture->content, &one, digest, &error));
        g_assert_true(ops->sweep(fixture->content, NULL, NULL, &error));
        g_assert_false(has(fixture, &one, digest));
        assert_content(fixture, &two, "hello");
        g_assert_true(ops->remove(fixture->content, &two, digest, &error));
        g_assert_true(on_disk(fixture, digest));
        const char *const nothing[] = {NULL};
        g_assert_true(ops->sweep(fixture->content, nothing, nothing, &error));
        g_assert_false(on_disk(fixture, digest));
        g_assert_false(ops->remove(fixture->content, &two, digest, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_NOT_FOUND);
}

static void sweep_removes_what_has_no_record(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = digest_of("stray");
        g_autofree char *path = content_local_blob_path(digest);
        g_autofree char *full = g_build_filename(fixture->directory, "content", path, NULL);
        g_assert_true(g_file_set_contents(full, "stray", -1, NULL));
        AUTO(content_writer) writer = open_writer(fixture, &one, "kept", 0, NULL);
        append(writer, "part");
        g_assert_true(on_disk(fixture, digest));
        g_assert_true(fixture->content->ops->sweep(fixture->content, NULL, NULL, &error));
        g_assert_false(on_disk(fixture, digest));
        struct content_status status;
        g_assert_true(fixture->content->ops->status(fixture->content, &one, "kept", fixture->arena, &status, &error));
        g_assert_cmpint(status.offset, ==, 4);
}

static bool count(void *data, const struct content_status *status)
{
        ++*(int *)data;
        return true;
}

static void abort_throws_away(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        const struct content_ops *ops = fixture->content->ops;
        AUTO(content_writer) writer = open_writer(fixture, &one, "r", 0, NULL);
        append(writer, "x");
        int n = 0;
        g_assert_true(ops->walk_statuses(fixture->content, &one, NULL, count, &n, &error));
        g_assert_cmpint(n, ==, 1);
        g_assert_true(ops->abort(fixture->content, &one, "r", &error));
        g_assert_false(ops->abort(fixture->content, &one, "r", &error));
        g_assert_cmpstr(error->message, ==, "reference r: not found");
        g_clear_error(&error);
        n = 0;
        g_assert_true(ops->walk_statuses(fixture->content, &one, NULL, count, &n, &error));
        g_assert_cmpint(n, ==, 0);
}

static bool add_lease(struct tx *tx, void *data, GError **error)
{
        const struct lease lease = {.id = "l", .created_ns = 1};
        return ((struct metadata *)data)->leases->insert(tx, "one", &lease, error);
}

static bool describe(void *data, const struct lease_resource *resource)
{
        g_string_append_printf(data, "%s ", resource->type);
        return true;
}

static bool describe_lease(struct tx *tx, void *data, GError **error)
{
        void **parts = data;
        AUTO(arena) arena = arena_new();
        return ((struct metadata *)parts[0])->leases->walk_resources(tx, "one", "l", arena, describe, parts[1], error);
}

static char *held_by_lease(struct fixture *fixture)
{
        GString *held = g_string_new(NULL);
        void *parts[] = {fixture->metadata, held};
        g_assert_true(metadata_read(fixture->metadata, describe_lease, parts, NULL));
        return g_string_free(held, FALSE);
}

static void leases_hold_what_is_written(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_assert_true(metadata_write(fixture->metadata, TX_RELAXED, add_lease, fixture->metadata, &error));
        const struct scope leased = {"one", "l"}, unknown = {"one", "nothing"};
        AUTO(content_writer) writer = open_writer(fixture, &leased, "r", 0, NULL);
        append(writer, "x");
        g_autofree char *before = held_by_lease(fixture);
        g_assert_cmpstr(before, ==, "ingests ");
        const struct content_commit commit = {0};
        g_assert_true(writer->ops->commit(writer, &commit, &error));
        g_autofree char *after = held_by_lease(fixture);
        g_assert_cmpstr(after, ==, "content ");
        const struct content_expect expect = {.ref = "r"};
        g_assert_null(fixture->content->ops->writer(fixture->content, &unknown, &expect, &error));
        g_assert_cmpstr(error->message, ==, "lease does not exist: not found");
}

static bool take_digest(void *data, const struct blob *blob)
{
        g_string_append_printf(data, "%.*s ", 10, blob->digest);
        return true;
}

static void lists_and_updates_labels(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = digest_of("a");
        add(fixture, &one, "a", "a");
        add(fixture, &one, "b", "b");
        struct label items[] = {{"k.x", "v"}};
        struct blob change = {.digest = digest, .labels = {items, 1}};
        char path[] = "labels.k.x", *paths[] = {path};
        const struct content_ops *ops = fixture->content->ops;
        g_assert_true(ops->update(fixture->content, &one, paths, 1, fixture->arena, &change, &error));
        g_assert_cmpint(change.size, ==, 1);
        char text[] = "labels.\"k.x\"==v", *texts[] = {text};
        AUTO(filter) filter = filter_parse(texts, 1, &error);
        g_autoptr(GString) seen = g_string_new(NULL);
        g_assert_true(ops->walk(fixture->content, &one, filter, fixture->arena, take_digest, seen, &error));
        g_assert_cmpstr(seen->str, ==, "sha256:ca9 ");
        char size[] = "size", *bad[] = {size};
        g_assert_false(ops->update(fixture->content, &one, bad, 1, fixture->arena, &change, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_INVALID_ARGUMENT);
}

static void survives_a_kill(struct fixture *fixture, const void *data)
{
        close_all(fixture);
        pid_t pid = fork(); // lint: allow fork, because the test has one thread here and kills the child
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                open_all(fixture, true);
                add(fixture, &one, "r", "acknowledged");
                append(open_writer(fixture, &one, "half", 0, NULL), "half of it");
                kill(getpid(), SIGKILL);
        }
        int status;
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFSIGNALED(status));
        open_all(fixture, true);
        assert_content(fixture, &one, "acknowledged");
        AUTO(content_writer) writer = open_writer(fixture, &one, "half", 0, NULL);
        struct content_status half;
        writer->ops->status(writer, &half);
        g_assert_cmpint(half.offset, ==, 10);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/content/" #name, struct fixture, NULL, set_up, name, tear_down)
        ADD(survives_a_kill);
        ADD(keeps_what_was_committed);
        ADD(commit_refuses_wrong_digest);
        ADD(commit_refuses_wrong_size);
        ADD(commits_other_algorithms);
        ADD(goes_on_where_it_stopped);
        ADD(begins_anew_with_another_total);
        ADD(truncates_to_the_start);
        ADD(a_ref_has_one_writer);
        ADD(says_what_is_there);
        ADD(namespaces_share_bytes);
        ADD(isolated_namespaces_share_nothing);
        ADD(bytes_go_with_their_last_record);
        ADD(sweep_removes_what_has_no_record);
        ADD(abort_throws_away);
        ADD(leases_hold_what_is_written);
        ADD(lists_and_updates_labels);
        return g_test_run();
}
