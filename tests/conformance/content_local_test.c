// SPDX-License-Identifier: Apache-2.0
//
// The content store on a file system: the suite, and what only it promises: restarts, shared bytes, the sweep, leases.
#include "content_suite.h"

#include "base/digest.h"
#include "core/lease.h"
#include "plugins/content_local/local.h"
#include "store/store.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct content_store *open_shared(const char *root, struct metadata *metadata, GError **error)
{
        return content_local_new(root, metadata, NULL, true, error);
}

static struct content_store *open_isolated(const char *root, struct metadata *metadata, GError **error)
{
        return content_local_new(root, metadata, NULL, false, error);
}

static const struct content_implementer shared = {"local", open_shared, content_local_free};
static const struct content_implementer isolated = {"local", open_isolated, content_local_free};

static bool on_disk(struct content_fixture *fixture, const char *digest)
{
        int64_t size;
        return content_local_blob_size((struct content_local *)fixture->content, digest, &size, NULL);
}

static void keeps_what_was_committed(struct content_fixture *fixture, const void *data)
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
        g_clear_pointer(&writer, content_writer_close);

        content_suite_close(fixture);
        content_suite_open(fixture);
        content_suite_assert_content(fixture, &content_suite_one, "hello world");
        struct blob blob;
        g_assert_true(fixture->content->ops->info(
                fixture->content, &content_suite_one, digest, fixture->arena, &blob, &error));
        g_assert_cmpint(blob.size, ==, 11);
        g_assert_cmpuint(blob.labels.n, ==, 1);
        g_assert_cmpstr(labels_get(&blob.labels, "a"), ==, "1");
        g_assert_false(content_suite_has(fixture, &content_suite_two, digest));
        struct content_status status;
        g_assert_false(fixture->content->ops->status(
                fixture->content, &content_suite_one, "r", fixture->arena, &status, &error));
        g_assert_cmpstr(error->message, ==, "reference r: not found");
}

static void commits_other_algorithms(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = digest_of_bytes(DIGEST_SHA512, "hello", 5);
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &content_suite_one, "r", 0, NULL);
        content_suite_append(writer, "hello");
        const struct content_commit commit = {.expected = digest};
        g_assert_true(writer->ops->commit(writer, &commit, &error));
        g_assert_true(content_suite_has(fixture, &content_suite_one, digest));
        g_assert_true(on_disk(fixture, digest));
}

static void goes_on_where_it_stopped(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        AUTO(content_writer) first = content_suite_open_writer(fixture, &content_suite_one, "r", 11, NULL);
        content_suite_append(first, "hello ");
        g_clear_pointer(&first, content_writer_close);
        content_suite_close(fixture);
        content_suite_open(fixture);

        struct content_status status;
        g_assert_true(fixture->content->ops->status(
                fixture->content, &content_suite_one, "r", fixture->arena, &status, &error));
        g_assert_cmpint(status.offset, ==, 6);
        g_assert_cmpint(status.total, ==, 11);
        AUTO(content_writer) second = content_suite_open_writer(fixture, &content_suite_one, "r", 11, NULL);
        second->ops->status(second, &status);
        g_assert_cmpint(status.offset, ==, 6);
        content_suite_append(second, "world");
        const struct content_commit commit = {.size = 11};
        g_assert_true(second->ops->commit(second, &commit, &error));
        content_suite_assert_content(fixture, &content_suite_one, "hello world");
}

static void namespaces_share_bytes(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = content_suite_digest_of("hello");
        content_suite_add(fixture, &content_suite_one, "r", "hello");
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &content_suite_two, "r", 5, digest);
        struct content_status status;
        writer->ops->status(writer, &status);
        g_assert_cmpint(status.offset, ==, 5);
        g_assert_cmpint(writer->ops->fd(writer), ==, -1);
        const struct content_commit commit = {5, digest, {0}};
        g_assert_true(writer->ops->commit(writer, &commit, &error));
        content_suite_assert_content(fixture, &content_suite_two, "hello");

        // A client that writes on top gets bytes of its own.
        AUTO(content_writer) longer =
                content_suite_open_writer(fixture, &(struct scope){"three", NULL}, "r", 0, digest);
        content_suite_append(longer, " world");
        const struct content_commit rest = {.size = 11};
        g_assert_true(longer->ops->commit(longer, &rest, &error));
        content_suite_assert_content(fixture, &(struct scope){"three", NULL}, "hello world");
}

static void isolated_namespaces_share_nothing(struct content_fixture *fixture, const void *data)
{
        g_autofree char *digest = content_suite_digest_of("hello");
        content_suite_close(fixture);
        fixture->implementer = &isolated;
        content_suite_open(fixture);
        content_suite_add(fixture, &content_suite_one, "r", "hello");
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &content_suite_two, "r", 5, digest);
        struct content_status status;
        writer->ops->status(writer, &status);
        g_assert_cmpint(status.offset, ==, 0);
}

static void bytes_go_with_their_last_record(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        const struct content_ops *ops = fixture->content->ops;
        g_autofree char *digest = content_suite_digest_of("hello");
        content_suite_add(fixture, &content_suite_one, "r", "hello");
        content_suite_add(fixture, &content_suite_two, "r", "hello");
        g_assert_true(ops->remove(fixture->content, &content_suite_one, digest, &error));
        g_assert_true(ops->sweep(fixture->content, NULL, NULL, &error));
        g_assert_false(content_suite_has(fixture, &content_suite_one, digest));
        content_suite_assert_content(fixture, &content_suite_two, "hello");
        g_assert_true(ops->remove(fixture->content, &content_suite_two, digest, &error));
        g_assert_true(on_disk(fixture, digest));
        const char *const nothing[] = {NULL};
        g_assert_true(ops->sweep(fixture->content, nothing, nothing, &error));
        g_assert_false(on_disk(fixture, digest));
        g_assert_false(ops->remove(fixture->content, &content_suite_two, digest, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_NOT_FOUND);
}

static void sweep_removes_what_has_no_record(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = content_suite_digest_of("stray");
        g_autofree char *path = content_local_blob_path(digest);
        g_autofree char *full = g_build_filename(fixture->directory, "content", path, NULL);
        g_assert_true(g_file_set_contents(full, "stray", -1, NULL));
        // An ingest that the machine went down in: its files are empty.
        g_autofree char *torn = g_build_filename(fixture->directory, "content", "ingest", "torn", NULL);
        g_assert_cmpint(mkdir(torn, 0755), ==, 0);
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &content_suite_one, "kept", 0, NULL);
        content_suite_append(writer, "part");
        g_assert_true(on_disk(fixture, digest));
        g_assert_true(fixture->content->ops->sweep(fixture->content, NULL, NULL, &error));
        g_assert_false(on_disk(fixture, digest));
        g_assert_false(g_file_test(torn, G_FILE_TEST_EXISTS));
        struct content_status status;
        g_assert_true(fixture->content->ops->status(
                fixture->content, &content_suite_one, "kept", fixture->arena, &status, &error));
        g_assert_cmpint(status.offset, ==, 4);
}

static char *file_of(struct content_fixture *fixture, const char *digest)
{
        g_autofree char *path = content_local_blob_path(digest);
        return g_build_filename(fixture->directory, "content", path, NULL);
}

static unsigned check(struct content_fixture *fixture, bool hash)
{
        static const atomic_bool stop;
        g_autoptr(GError) error = NULL;
        struct content_check request = {.hash = hash, .stop = &stop};
        fixture->content->ops->check(fixture->content, &request, &error);
        g_assert_no_error(error);
        return request.n_damaged;
}

// Bytes that were lost: the record says that they are there, but whoever has them may bring them again.
static void write_again(struct content_fixture *fixture, const char *text)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *digest = content_suite_digest_of(text);
        AUTO(content_writer) writer =
                content_suite_open_writer(fixture, &content_suite_one, "again", (int64_t)strlen(text), digest);
        content_suite_append(writer, text);
        const struct content_commit commit = {.expected = digest};
        g_assert_false(writer->ops->commit(writer, &commit, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_ALREADY_EXISTS);
        content_suite_assert_content(fixture, &content_suite_one, text);
}

static void lost_bytes_can_be_written_again(struct content_fixture *fixture, const void *data)
{
        g_autofree char *digest = content_suite_digest_of("hello");
        g_autofree char *file = file_of(fixture, digest);
        content_suite_add(fixture, &content_suite_one, "r", "hello");
        g_assert_cmpint(unlink(file), ==, 0);
        write_again(fixture, "hello");
        g_assert_cmpint(truncate(file, 3), ==, 0);
        write_again(fixture, "hello");
        const struct content_expect expect = {"r", 5, digest};
        g_autoptr(GError) error = NULL;
        g_assert_null(fixture->content->ops->writer(fixture->content, &content_suite_one, &expect, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_ALREADY_EXISTS);
}

static void check_takes_damaged_bytes_away(struct content_fixture *fixture, const void *data)
{
        g_autofree char *digest = content_suite_digest_of("hello");
        g_autofree char *file = file_of(fixture, digest);
        content_suite_add(fixture, &content_suite_one, "r", "hello");
        content_suite_add(fixture, &content_suite_two, "r", "good");
        g_assert_cmpuint(check(fixture, true), ==, 0);
        g_assert_true(g_file_set_contents(file, "hallo", -1, NULL));
        g_assert_cmpuint(check(fixture, false), ==, 0); // as many bytes: only hashing tells
        g_assert_cmpuint(check(fixture, true), ==, 1);
        g_assert_false(on_disk(fixture, digest));
        write_again(fixture, "hello");
        g_assert_true(g_file_set_contents(file, "hell", -1, NULL));
        g_assert_cmpuint(check(fixture, false), ==, 1);
        g_assert_false(on_disk(fixture, digest));
        g_assert_cmpuint(check(fixture, true), ==, 0); // nothing to read is for the sweep to tell
        write_again(fixture, "hello");
        content_suite_assert_content(fixture, &content_suite_two, "good");
}

static void check_can_be_stopped(struct content_fixture *fixture, const void *data)
{
        static const atomic_bool stop = true;
        g_autoptr(GError) error = NULL;
        struct content_check request = {.hash = true, .stop = &stop};
        content_suite_add(fixture, &content_suite_one, "r", "hello");
        g_assert_false(fixture->content->ops->check(fixture->content, &request, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_CANCELED);
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

static char *held_by_lease(struct content_fixture *fixture)
{
        GString *held = g_string_new(NULL);
        void *parts[] = {fixture->metadata, held};
        g_assert_true(metadata_read(fixture->metadata, describe_lease, parts, NULL));
        return g_string_free(held, FALSE);
}

static void leases_hold_what_is_written(struct content_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_assert_true(metadata_write(fixture->metadata, TX_RELAXED, add_lease, fixture->metadata, &error));
        const struct scope leased = {"one", "l"}, unknown = {"one", "nothing"};
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &leased, "r", 0, NULL);
        content_suite_append(writer, "x");
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

static void survives_a_kill(struct content_fixture *fixture, const void *data)
{
        content_suite_close(fixture);
        pid_t pid = fork(); // lint: allow fork, because the test has one thread here and kills the child
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                content_suite_open(fixture);
                content_suite_add(fixture, &content_suite_one, "r", "acknowledged");
                content_suite_append(
                        content_suite_open_writer(fixture, &content_suite_one, "half", 0, NULL), "half of it");
                kill(getpid(), SIGKILL);
        }
        int status;
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFSIGNALED(status));
        content_suite_open(fixture);
        content_suite_assert_content(fixture, &content_suite_one, "acknowledged");
        AUTO(content_writer) writer = content_suite_open_writer(fixture, &content_suite_one, "half", 0, NULL);
        struct content_status half;
        writer->ops->status(writer, &half);
        g_assert_cmpint(half.offset, ==, 10);
}

int main(int argc, char **argv)
{
        const struct content_implementer *implementer = &shared;
        g_test_init(&argc, &argv, NULL);
        CONTENT_SUITE_ADD(survives_a_kill);
        CONTENT_SUITE_ADD(keeps_what_was_committed);
        CONTENT_SUITE_ADD(commits_other_algorithms);
        CONTENT_SUITE_ADD(goes_on_where_it_stopped);
        CONTENT_SUITE_ADD(namespaces_share_bytes);
        CONTENT_SUITE_ADD(isolated_namespaces_share_nothing);
        CONTENT_SUITE_ADD(bytes_go_with_their_last_record);
        CONTENT_SUITE_ADD(sweep_removes_what_has_no_record);
        CONTENT_SUITE_ADD(lost_bytes_can_be_written_again);
        CONTENT_SUITE_ADD(check_takes_damaged_bytes_away);
        CONTENT_SUITE_ADD(check_can_be_stopped);
        CONTENT_SUITE_ADD(leases_hold_what_is_written);
        content_suite_add_tests(implementer);
        return g_test_run();
}
