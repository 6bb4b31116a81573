// SPDX-License-Identifier: Apache-2.0
//
// A writer appends to its ingest and hashes on the way. Commit: sync the data, move it among the blobs, sync that
// directory, then name it in a durable transaction; so a row never points to bytes that a power cut could take.
// Between the move and the row the digest is in `pending`, which the sweep respects.
//
// Where another namespace has the expected bytes and shares them, the writer stands at the end without a file
// (adopted); the first write takes a copy of its own.
#include "plugins/content_local/local.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/fd.h"
#include "core/event.h"
#include "core/lease.h"
#include "sys/files.h"

#include "containerd/events.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { BUFFER_BYTES = 256 * 1024, FLUSH_EVERY_BYTES = 8 * 1024 * 1024 };

struct local_writer {
        struct content_writer writer;
        struct content_local *local;
        char *namespace_, *lease, *ref, *backend;
        char *expected; // of an adopted writer
        bool adopted, locked, failed;
        int fd, directory; // -1: not open
        enum digest_algorithm algorithm;
        struct digester *digester;
        char *committed; // the digest, once committed
        int64_t offset, total, flushed;
        int64_t started_ns, updated_ns;
};

static struct local_writer *local_of(struct content_writer *writer)
{
        return (struct local_writer *)writer;
}

// ---- files

static bool hash_file(int fd, int64_t n_bytes, struct digester *digester, GError **error)
{
        g_autofree char *buffer = g_malloc(BUFFER_BYTES);
        for (int64_t at = 0; at < n_bytes;) {
                ssize_t n = pread(fd, buffer, (size_t)MIN(n_bytes - at, BUFFER_BYTES), at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return error_fail_errno(error, n == 0 ? EIO : errno, "failed to read ingest data");
                digester_update(digester, buffer, (size_t)n);
                at += n;
        }
        return true;
}

static bool open_file(struct local_writer *self, int64_t total, GError **error)
{
        if (!self->locked) {
                if (!content_local_lock(self->local, self->backend, error))
                        return false;
                self->locked = true;
        }
        struct ingest_state state;
        self->fd = ingest_open(self->local, self->backend, total, &self->directory, &state, error);
        if (self->fd < 0)
                return false;
        self->digester = digester_new(self->algorithm);
        self->offset = self->flushed = state.offset;
        self->total = state.total;
        self->started_ns = state.started_ns;
        self->updated_ns = state.updated_ns;
        return hash_file(self->fd, self->offset, self->digester, error);
}

static bool append(struct local_writer *self, const void *bytes, size_t n_bytes, GError **error)
{
        if (!file_write_at(self->fd, bytes, n_bytes, self->offset, error))
                return false;
        digester_update(self->digester, bytes, n_bytes);
        self->offset += (int64_t)n_bytes;
        self->updated_ns = clock_now_ns();
        // Start the disk early, so that the sync at the end finds little to do.
        if (self->offset - self->flushed >= FLUSH_EVERY_BYTES) {
                sync_file_range(self->fd, self->flushed, self->offset - self->flushed, SYNC_FILE_RANGE_WRITE);
                self->flushed = self->offset;
        }
        return true;
}

static bool copy_adopted(struct local_writer *self, GError **error)
{
        g_autofree char *path = content_local_blob_path(self->expected);
        fd_auto int from = openat(self->local->root_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (from < 0)
                return error_fail_errno(error, errno, "open %s", path);
        g_autofree char *buffer = g_malloc(BUFFER_BYTES);
        int64_t n_bytes = self->total;
        for (int64_t at = self->offset; at < n_bytes;) {
                ssize_t n = pread(from, buffer, (size_t)MIN(n_bytes - at, BUFFER_BYTES), at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return error_fail_errno(error, n == 0 ? EIO : errno, "read %s", path);
                if (!append(self, buffer, (size_t)n, error))
                        return false;
                at += n;
        }
        return true;
}

// Ends the adoption: a file of its own, with the bytes in it or empty.
static bool give_own_file(struct local_writer *self, bool copy, GError **error)
{
        int64_t total = self->total;
        if (!open_file(self, copy ? total : 0, error))
                return false;
        self->adopted = false;
        self->total = total;
        return !copy || copy_adopted(self, error);
}

static bool check_usable(struct local_writer *self, GError **error)
{
        if (self->failed || self->committed != NULL || (!self->adopted && self->fd < 0))
                return error_fail(
                        error, ERROR_FAILED_PRECONDITION, "cannot commit on closed writer: failed precondition");
        return true;
}

// ---- the writer's functions

static bool on_write(struct content_writer *writer, const void *bytes, size_t n_bytes, GError **error)
{
        struct local_writer *self = local_of(writer);
        if (n_bytes == 0)
                return true;
        if (!check_usable(self, error))
                return false;
        if ((!self->adopted || give_own_file(self, true, error)) && append(self, bytes, n_bytes, error))
                return true;
        self->failed = true;
        return false;
}

static bool on_truncate(struct content_writer *writer, int64_t size, GError **error)
{
        struct local_writer *self = local_of(writer);
        if (size != 0)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "Truncate: unsupported size");
        if (!check_usable(self, error) || (self->adopted && !give_own_file(self, false, error)))
                return false;
        if (ftruncate(self->fd, 0) != 0)
                return error_fail_errno(error, errno, "truncate");
        digester_free(self->digester);
        self->digester = digester_new(self->algorithm);
        self->offset = self->flushed = 0;
        return true;
}

static void on_status(struct content_writer *writer, struct content_status *ret)
{
        const struct local_writer *self = local_of(writer);
        *ret = (struct content_status){
                .ref = self->ref,
                .offset = self->offset,
                .total = self->total,
                .expected = self->adopted ? self->expected : "",
                .started_ns = self->started_ns,
                .updated_ns = self->updated_ns,
        };
}

static char *on_digest(struct content_writer *writer)
{
        const struct local_writer *self = local_of(writer);
        if (self->committed != NULL)
                return g_strdup(self->committed);
        return self->adopted ? g_strdup(self->expected) : digester_digest(self->digester);
}

static int on_fd(struct content_writer *writer)
{
        return local_of(writer)->fd;
}

// ---- commit

struct commit {
        struct local_writer *self;
        const struct content_commit *wanted;
        const char *digest;
        int64_t size;
        struct arena *arena;
        bool exists;
};

static bool record(struct tx *tx, void *data, GError **error)
{
        struct commit *commit = data;
        struct local_writer *self = commit->self;
        struct metadata *metadata = self->local->metadata;
        const struct scope scope = {self->namespace_, self->lease};
        int64_t now = clock_now_ns();
        const struct blob blob = {
                .digest = commit->digest,
                .size = commit->size,
                .labels = labels_copy_filled(&commit->wanted->labels, commit->arena),
                .created_ns = now,
                .updated_ns = now,
        };
        g_autoptr(GError) failure = NULL;
        commit->exists = false;
        if (!metadata->blobs->insert(tx, self->namespace_, &blob, &failure)) {
                commit->exists = error_is(failure, ERROR_ALREADY_EXISTS);
                if (!commit->exists) {
                        g_propagate_error(error, g_steal_pointer(&failure));
                        return false;
                }
        }
        return metadata->ingests->remove(tx, self->namespace_, self->ref, error) &&
               lease_release(metadata, tx, &scope, "ingests", self->ref, error) &&
               lease_hold(metadata, tx, &scope, "content", commit->digest, error);
}

static bool check_adopted(const struct local_writer *self, const struct content_commit *wanted, GError **error)
{
        if (wanted->size != 0 && wanted->size != self->total)
                return error_fail(error, ERROR_FAILED_PRECONDITION,
                        "\"%s\" failed size validation: %" G_GINT64_FORMAT " != %" G_GINT64_FORMAT
                        ": failed precondition",
                        self->ref, self->total, wanted->size);
        if (wanted->expected != NULL && wanted->expected[0] != '\0' && strcmp(wanted->expected, self->expected) != 0)
                return error_fail(
                        error, ERROR_FAILED_PRECONDITION, "\"%s\" unexpected digest: failed precondition", self->ref);
        return true;
}

// The digest of what was written, hashed again where the commit names another algorithm.
static char *check_written(struct local_writer *self, const struct content_commit *wanted, GError **error)
{
        if (wanted->size != 0 && wanted->size != self->offset) {
                error_fail(error, ERROR_FAILED_PRECONDITION,
                        "\"%s\" failed size validation: %" G_GINT64_FORMAT " != %" G_GINT64_FORMAT
                        ": failed precondition",
                        self->ref, self->offset, wanted->size);
                return NULL;
        }
        bool has_expected = wanted->expected != NULL && wanted->expected[0] != '\0';
        enum digest_algorithm algorithm;
        if (has_expected && digest_parse(wanted->expected, &algorithm, NULL) && algorithm != self->algorithm) {
                digester_free(self->digester);
                self->digester = digester_new(algorithm);
                self->algorithm = algorithm;
                if (!hash_file(self->fd, self->offset, self->digester, error))
                        return NULL;
        }
        g_autofree char *digest = digester_digest(self->digester);
        if (has_expected && strcmp(digest, wanted->expected) != 0) {
                error_fail(error, ERROR_FAILED_PRECONDITION,
                        "unexpected commit digest %s, expected %s: failed precondition", digest, wanted->expected);
                return NULL;
        }
        return g_steal_pointer(&digest);
}

// Leaves the bytes among the blobs, synced. Another namespace may have put them there already.
static bool move(struct local_writer *self, const char *digest, GError **error)
{
        g_autofree char *path = content_local_blob_path(digest);
        g_autofree char *parent = g_path_get_dirname(path);
        int64_t there;
        if (content_local_blob_size(self->local, digest, &there, NULL) && there == self->offset)
                return true;
        if (mkdirat(self->local->root_fd, parent, 0755) != 0 && errno != EEXIST)
                return error_fail_errno(error, errno, "mkdir %s", parent);
        fd_auto int directory = openat(self->local->root_fd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (directory < 0)
                return error_fail_errno(error, errno, "open %s", parent);
        const struct timespec now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};
        if (fchmod(self->fd, 0444) != 0 || futimens(self->fd, now) != 0 || fsync(self->fd) != 0)
                return error_fail_errno(error, errno, "sync failed");
        if (renameat(self->directory, "data", directory, digest_encoded(digest)) != 0)
                return error_fail_errno(error, errno, "rename to %s", path);
        return file_sync_directory(directory, error);
}

static void set_pending(struct content_local *local, const char *digest, bool pending)
{
        uv_mutex_lock(&local->mutex);
        int n = GPOINTER_TO_INT(g_hash_table_lookup(local->pending, digest)) + (pending ? 1 : -1);
        if (n > 0)
                g_hash_table_insert(local->pending, g_strdup(digest), GINT_TO_POINTER(n));
        else
                g_hash_table_remove(local->pending, digest);
        uv_mutex_unlock(&local->mutex);
}

static bool finish(struct commit *commit, GError **error)
{
        struct local_writer *self = commit->self;
        set_pending(self->local, commit->digest, true);
        bool ok = (self->adopted || move(self, commit->digest, error)) &&
                  metadata_write(self->local->metadata, TX_DURABLE, record, commit, error);
        set_pending(self->local, commit->digest, false);
        if (!ok) {
                // If the row could not be made, the bytes are nobody's.
                const char *const doubtful[] = {commit->digest, NULL};
                content_local_sweep(&self->local->store, doubtful, NULL, NULL);
                return false;
        }
        self->committed = g_strdup(commit->digest);
        if (!self->adopted)
                ingest_remove(self->local, self->backend, NULL); // else the next sweep finds it
        return !commit->exists || error_fail(error, ERROR_ALREADY_EXISTS, "content %s: already exists", commit->digest);
}

static bool on_commit(struct content_writer *writer, const struct content_commit *wanted, GError **error)
{
        struct local_writer *self = local_of(writer);
        AUTO(arena) arena = arena_new();
        g_autofree char *digest = NULL;
        if (!check_usable(self, error))
                return false;
        self->failed = true; // as containerd: one commit per writer, whatever comes of it
        if (!labels_validate(&wanted->labels, "info.Labels", error))
                return false;
        if (self->adopted)
                digest = check_adopted(self, wanted, error) ? g_strdup(self->expected) : NULL;
        else
                digest = check_written(self, wanted, error);
        if (digest == NULL)
                return false;
        struct commit commit = {.self = self,
                .wanted = wanted,
                .digest = digest,
                .size = self->adopted ? self->total : self->offset,
                .arena = arena};
        if (!finish(&commit, error))
                return false;
        if (self->local->events != NULL) {
                Events__ContentCreate message = EVENTS__CONTENT_CREATE__INIT;
                message.digest = digest;
                message.size = commit.size;
                event_publish(self->local->events, self->namespace_, "/content/create", &message.base);
        }
        return true;
}

static void on_close(struct content_writer *writer)
{
        struct local_writer *self = local_of(writer);
        if (self->directory >= 0 && self->committed == NULL)
                ingest_note_update(self->directory, self->updated_ns);
        fd_close(&self->fd);
        fd_close(&self->directory);
        if (self->locked)
                content_local_unlock(self->local, self->backend);
        digester_free(self->digester);
        g_free(self->namespace_);
        g_free(self->lease);
        g_free(self->ref);
        g_free(self->backend);
        g_free(self->expected);
        g_free(self->committed);
        g_free(self);
}

static const struct content_writer_ops writer_ops = {
        .write = on_write,
        .truncate = on_truncate,
        .status = on_status,
        .digest = on_digest,
        .fd = on_fd,
        .commit = on_commit,
        .close = on_close,
};

// ---- opening

struct opening {
        struct local_writer *self;
        const struct scope *scope;
        const struct content_expect *expect;
        bool exists;
};

static bool find_shared(struct tx *tx, struct opening *opening, bool *ret_shared, GError **error)
{
        struct local_writer *self = opening->self;
        struct metadata *metadata = self->local->metadata;
        bool shared = self->local->shared;
        int64_t size;
        if (!shared && !metadata->blobs->is_shareable(tx, opening->expect->expected, &shared, error))
                return false;
        shared = shared && content_local_blob_size(self->local, opening->expect->expected, &size, NULL) &&
                 (opening->expect->total == 0 || opening->expect->total == size);
        if (shared)
                self->total = size;
        *ret_shared = shared;
        return true;
}

static bool find_ingest(struct tx *tx, struct opening *opening, struct arena *arena, struct ingest *ret, GError **error)
{
        g_autoptr(GError) failure = NULL;
        if (opening->self->local->metadata->ingests->get(
                    tx, opening->scope->namespace_, opening->expect->ref, arena, ret, &failure))
                return true;
        if (!error_is(failure, ERROR_NOT_FOUND)) {
                g_propagate_error(error, g_steal_pointer(&failure));
                return false;
        }
        *ret = (struct ingest){
                .ref = opening->expect->ref,
                .backend = arena_printf(arena, "%s/1/%s", opening->scope->namespace_, opening->expect->ref),
                .expected = "",
        };
        return true;
}

// Else its bytes were lost, and can be written again.
static bool is_whole(struct content_local *local, const struct blob *blob)
{
        int64_t size;
        return content_local_blob_size(local, blob->digest, &size, NULL) && size == blob->size;
}

static bool prepare(struct tx *tx, void *data, GError **error)
{
        struct opening *opening = data;
        struct local_writer *self = opening->self;
        struct metadata *metadata = self->local->metadata;
        const struct scope *scope = opening->scope;
        AUTO(arena) arena = arena_new();
        bool shared = false;
        opening->exists = false;
        if (opening->expect->expected != NULL && opening->expect->expected[0] != '\0') {
                struct blob blob;
                g_autoptr(GError) missing = NULL;
                bool known =
                        metadata->blobs->get(tx, scope->namespace_, opening->expect->expected, arena, &blob, &missing);
                if (known && is_whole(self->local, &blob)) {
                        opening->exists = true;
                        if (lease_hold(metadata, tx, scope, "content", opening->expect->expected, error))
                                return true;
                        g_prefix_error(error, "unable to lease content: ");
                        return false;
                }
                if (!known && !find_shared(tx, opening, &shared, error))
                        return false;
        }
        struct ingest ingest;
        if (!find_ingest(tx, opening, arena, &ingest, error) ||
                !lease_hold(metadata, tx, scope, "ingests", opening->expect->ref, error))
                return false;
        // Without a lease that ends it, an ingest that nobody goes on with is dropped after a day.
        if (scope->lease == NULL)
                ingest.expires_ns = clock_now_ns() + 24 * 3600 * NS_PER_SECOND;
        if (shared)
                ingest.expected = opening->expect->expected;
        g_free(self->backend);
        self->backend = g_strdup(ingest.backend);
        self->adopted = shared;
        return metadata->ingests->put(tx, scope->namespace_, &ingest, error);
}

struct content_writer *local_writer_open(
        struct content_store *store, const struct scope *scope, const struct content_expect *expect, GError **error)
{
        if (expect->ref == NULL || expect->ref[0] == '\0') {
                error_fail(error, ERROR_INVALID_ARGUMENT, "ref must not be empty: invalid argument");
                return NULL;
        }
        struct local_writer *self = g_new0(struct local_writer, 1);
        self->writer.ops = &writer_ops;
        self->local = (struct content_local *)store;
        self->namespace_ = g_strdup(scope->namespace_);
        self->lease = g_strdup(scope->lease);
        self->ref = g_strdup(expect->ref);
        self->expected = g_strdup(expect->expected);
        self->fd = self->directory = -1;
        self->started_ns = self->updated_ns = clock_now_ns();
        if (expect->expected == NULL || !digest_parse(expect->expected, &self->algorithm, NULL))
                self->algorithm = DIGEST_SHA256;
        AUTO(content_writer) writer = &self->writer;

        struct opening opening = {.self = self, .scope = scope, .expect = expect};
        if (!metadata_write(self->local->metadata, TX_RELAXED, prepare, &opening, error))
                return NULL;
        if (opening.exists) {
                error_fail(error, ERROR_ALREADY_EXISTS, "content %s: already exists", expect->expected);
                return NULL;
        }
        if (!self->adopted && !open_file(self, expect->total, error))
                return NULL;
        if (self->adopted)
                self->offset = self->total;
        return g_steal_pointer(&writer);
}
