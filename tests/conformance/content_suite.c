// SPDX-License-Identifier: Apache-2.0
#include "content_suite.h"

#include "base/digest.h"
#include "base/filter.h"
#include "store/store.h"
#include "sys/tree.h"

#include <string.h>
#include <unistd.h>

const struct scope content_suite_one = {"one", NULL}, content_suite_two = {"two", NULL};

void content_suite_open(struct content_fixture *fixture)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *path = g_build_filename(fixture->directory, "metadata.sqlite", NULL);
        g_autofree char *root = g_build_filename(fixture->directory, "content", NULL);
        fixture->metadata = store_open(path, &error);
        g_assert_no_error(error);
        fixture->content = fixture->implementer->open(root, fixture->metadata, &error);
        g_assert_no_error(error);
}

void content_suite_close(struct content_fixture *fixture)
{
        fixture->implementer->close(fixture->content);
        store_close(fixture->metadata);
}

void content_suite_set_up(struct content_fixture *fixture, const void *data)
{
        fixture->implementer = data;
        fixture->directory = g_dir_make_tmp("content-test-XXXXXX", NULL);
        fixture->arena = arena_new();
        content_suite_open(fixture);
}

void content_suite_tear_down(struct content_fixture *fixture, const void *data)
{
        content_suite_close(fixture);
        arena_free(fixture->arena);
        g_assert_true(tree_remove(fixture->directory, NULL));
        g_free(fixture->directory);
}

// ---- steps

struct content_writer *content_suite_open_writer(struct content_fixture *fixture, const struct scope *scope,
        const char *ref, int64_t total, const char *expected)
{
        g_autoptr(GError) error = NULL;
        const struct content_expect expect = {ref, total, expected};
        struct content_writer *writer = fixture->content->ops->writer(fixture->content, scope, &expect, &error);
        g_assert_no_error(error);
        return writer;
}

void content_suite_append(struct content_writer *writer, const char *text)
{
        g_autoptr(GError) error = NULL;
        writer->ops->write(writer, text, strlen(text), &error);
        g_assert_no_error(error);
}

void content_suite_add(struct content_fixture *fixture, const struct scope *scope, const char *ref, const char *text)
{
        g_autoptr(GError) error = NULL;
        const struct content_commit commit = {0};
        content_write(fixture->content, scope, ref, text, strlen(text), &commit, &error);
        g_assert_no_error(error);
}

char *content_suite_digest_of(const char *text)
{
        return digest_of_bytes(DIGEST_SHA256, text, strlen(text));
}

void content_suite_assert_content(struct content_fixture *fixture, const struct scope *scope, const char *text)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = content_suite_digest_of(text);
        const char *bytes;
        size_t n;
        content_read(fixture->content, scope, digest, 1000, fixture->arena, &bytes, &n, &error);
        g_assert_no_error(error);
        g_assert_cmpmem(bytes, n, text, strlen(text));
}

bool content_suite_has(struct content_fixture *fixture, const struct scope *scope, const char *digest)
{
        struct blob blob;
        return fixture->content->ops->info(fixture->content, scope, digest, fixture->arena, &blob, NULL);
}

// ---- the tests

static void reads_what_was_committed(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = content_suite_digest_of("hello world");
        struct label items[] = {{"a", "1"}, {"b", ""}};
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &content_suite_one, "r", 11, digest);
        content_suite_append(writer, "hello ");
        content_suite_append(writer, "world");
        g_autofree char *running = writer->ops->digest(writer);
        g_assert_cmpstr(running, ==, digest);
        const struct content_commit commit = {11, digest, {items, 2}};
        g_assert_true(writer->ops->commit(writer, &commit, &error));
        content_suite_assert_content(fixture, &content_suite_one, "hello world");
        struct blob blob;
        g_assert_true(fixture->content->ops->info(
                fixture->content, &content_suite_one, digest, fixture->arena, &blob, &error));
        g_assert_cmpint(blob.size, ==, 11);
        g_assert_cmpuint(blob.labels.n, ==, 1);
        g_assert_cmpstr(labels_get(&blob.labels, "a"), ==, "1");
        g_assert_false(content_suite_has(fixture, &content_suite_two, digest));
}

static void a_growing_file_can_be_read(struct content_fixture *fixture, const void *data)
{
        char bytes[5];
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &content_suite_one, "r", 0, NULL);
        content_suite_append(writer, "hello");
        int fd = writer->ops->fd(writer);
        g_assert_cmpint(pread(fd, bytes, sizeof bytes, 0), ==, 5);
        g_assert_cmpmem(bytes, 5, "hello", 5);
}

static void what_is_removed_is_gone(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = content_suite_digest_of("hello");
        const struct content_ops *ops = fixture->content->ops;
        int64_t size;
        content_suite_add(fixture, &content_suite_one, "r", "hello");
        g_assert_true(ops->remove(fixture->content, &content_suite_one, digest, &error));
        g_assert_false(content_suite_has(fixture, &content_suite_one, digest));
        g_assert_cmpint(ops->open(fixture->content, &content_suite_one, digest, &size, NULL), ==, -1);
        g_assert_false(ops->remove(fixture->content, &content_suite_one, digest, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_NOT_FOUND);
}

static void a_writer_goes_on_where_the_last_one_stopped(struct content_fixture *fixture, const void *data)
{
        AUTO(content_writer) first = content_suite_open_writer(fixture, &content_suite_one, "r", 11, NULL);
        content_suite_append(first, "hello ");
        g_clear_pointer(&first, content_writer_close);
        struct content_status status;
        g_assert_true(fixture->content->ops->status(
                fixture->content, &content_suite_one, "r", fixture->arena, &status, NULL));
        g_assert_cmpint(status.offset, ==, 6);
        g_assert_cmpint(status.total, ==, 11);
        AUTO(content_writer) second = content_suite_open_writer(fixture, &content_suite_one, "r", 11, NULL);
        content_suite_append(second, "world");
        const struct content_commit commit = {.size = 11};
        g_assert_true(second->ops->commit(second, &commit, NULL));
        content_suite_assert_content(fixture, &content_suite_one, "hello world");
}

static void commit_refuses_wrong_digest(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = content_suite_digest_of("something else");
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &content_suite_one, "r", 0, NULL);
        content_suite_append(writer, "hello");
        const struct content_commit commit = {.expected = digest};
        g_assert_false(writer->ops->commit(writer, &commit, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_FAILED_PRECONDITION);
        g_assert_true(g_str_has_prefix(error->message, "unexpected commit digest sha256:2cf24dba"));
        g_assert_false(content_suite_has(fixture, &content_suite_one, digest));
}

static void commit_refuses_wrong_size(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &content_suite_one, "r", 0, NULL);
        content_suite_append(writer, "hello");
        const struct content_commit commit = {.size = 6};
        g_assert_false(writer->ops->commit(writer, &commit, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_FAILED_PRECONDITION);
        g_assert_cmpstr(error->message, ==, "\"r\" failed size validation: 5 != 6: failed precondition");
}

static void begins_anew_with_another_total(struct content_fixture *fixture, const void *data)
{
        AUTO(content_writer) first = content_suite_open_writer(fixture, &content_suite_one, "r", 11, NULL);
        content_suite_append(first, "hello ");
        g_clear_pointer(&first, content_writer_close);
        AUTO(content_writer) second = content_suite_open_writer(fixture, &content_suite_one, "r", 3, NULL);
        struct content_status status;
        second->ops->status(second, &status);
        g_assert_cmpint(status.offset, ==, 0);
        g_assert_cmpint(status.total, ==, 3);
        content_suite_append(second, "abc");
        const struct content_commit commit = {0};
        g_assert_true(second->ops->commit(second, &commit, NULL));
        content_suite_assert_content(fixture, &content_suite_one, "abc");
}

static void truncates_to_the_start(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &content_suite_one, "r", 0, NULL);
        content_suite_append(writer, "wrong");
        g_assert_true(writer->ops->truncate(writer, 0, &error));
        content_suite_append(writer, "ok");
        g_assert_false(writer->ops->truncate(writer, 1, &error));
        g_clear_error(&error);
        const struct content_commit commit = {.size = 2};
        g_assert_true(writer->ops->commit(writer, &commit, &error));
        content_suite_assert_content(fixture, &content_suite_one, "ok");
}

static void a_ref_has_one_writer(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        const struct content_expect expect = {.ref = "r"};
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &content_suite_one, "r", 0, NULL);
        g_assert_null(fixture->content->ops->writer(fixture->content, &content_suite_one, &expect, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_UNAVAILABLE);
        g_assert_true(g_str_has_prefix(error->message, "ref one/1/r locked for "));
        // The same ref of another namespace is another ref.
        AUTO(content_writer) other = content_suite_open_writer(fixture, &content_suite_two, "r", 0, NULL);
        g_clear_pointer(&writer, content_writer_close);
        AUTO(content_writer) again = content_suite_open_writer(fixture, &content_suite_one, "r", 0, NULL);
}

static void says_what_is_there(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = content_suite_digest_of("hello");
        content_suite_add(fixture, &content_suite_one, "r", "hello");
        const struct content_expect expect = {"r2", 5, digest};
        g_assert_null(fixture->content->ops->writer(fixture->content, &content_suite_one, &expect, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_ALREADY_EXISTS);
        g_clear_error(&error);
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &content_suite_one, "r3", 0, NULL);
        content_suite_append(writer, "hello");
        const struct content_commit commit = {0};
        g_assert_false(writer->ops->commit(writer, &commit, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_ALREADY_EXISTS);
        g_clear_error(&error);
        struct content_status status;
        g_assert_false(fixture->content->ops->status(
                fixture->content, &content_suite_one, "r3", fixture->arena, &status, &error));
}

static bool count(void *data, const struct content_status *status)
{
        ++*(int *)data;
        return true;
}

static void abort_throws_away(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        const struct content_ops *ops = fixture->content->ops;
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &content_suite_one, "r", 0, NULL);
        content_suite_append(writer, "x");
        int n = 0;
        g_assert_true(ops->walk_statuses(fixture->content, &content_suite_one, NULL, count, &n, &error));
        g_assert_cmpint(n, ==, 1);
        g_assert_true(ops->abort(fixture->content, &content_suite_one, "r", &error));
        g_assert_false(ops->abort(fixture->content, &content_suite_one, "r", &error));
        g_assert_cmpstr(error->message, ==, "reference r: not found");
        g_clear_error(&error);
        n = 0;
        g_assert_true(ops->walk_statuses(fixture->content, &content_suite_one, NULL, count, &n, &error));
        g_assert_cmpint(n, ==, 0);
}

static bool take_digest(void *data, const struct blob *blob)
{
        g_string_append_printf(data, "%.*s ", 10, blob->digest);
        return true;
}

static void lists_and_updates_labels(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = content_suite_digest_of("a");
        content_suite_add(fixture, &content_suite_one, "a", "a");
        content_suite_add(fixture, &content_suite_one, "b", "b");
        struct label items[] = {{"k.x", "v"}};
        struct blob change = {.digest = digest, .labels = {items, 1}};
        char path[] = "labels.k.x", *paths[] = {path};
        const struct content_ops *ops = fixture->content->ops;
        g_assert_true(ops->update(fixture->content, &content_suite_one, paths, 1, fixture->arena, &change, &error));
        g_assert_cmpint(change.size, ==, 1);
        char text[] = "labels.\"k.x\"==v", *texts[] = {text};
        AUTO(filter) filter = filter_parse(texts, 1, &error);
        g_autoptr(GString) seen = g_string_new(NULL);
        g_assert_true(
                ops->walk(fixture->content, &content_suite_one, filter, fixture->arena, take_digest, seen, &error));
        g_assert_cmpstr(seen->str, ==, "sha256:ca9 ");
        char size[] = "size", *bad[] = {size};
        g_assert_false(ops->update(fixture->content, &content_suite_one, bad, 1, fixture->arena, &change, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_INVALID_ARGUMENT);
}

void content_suite_add_tests(const struct content_implementer *implementer)
{
        CONTENT_SUITE_ADD(reads_what_was_committed);
        CONTENT_SUITE_ADD(a_growing_file_can_be_read);
        CONTENT_SUITE_ADD(what_is_removed_is_gone);
        CONTENT_SUITE_ADD(a_writer_goes_on_where_the_last_one_stopped);
        CONTENT_SUITE_ADD(commit_refuses_wrong_digest);
        CONTENT_SUITE_ADD(commit_refuses_wrong_size);
        CONTENT_SUITE_ADD(begins_anew_with_another_total);
        CONTENT_SUITE_ADD(truncates_to_the_start);
        CONTENT_SUITE_ADD(a_ref_has_one_writer);
        CONTENT_SUITE_ADD(says_what_is_there);
        CONTENT_SUITE_ADD(abort_throws_away);
        CONTENT_SUITE_ADD(lists_and_updates_labels);
}
