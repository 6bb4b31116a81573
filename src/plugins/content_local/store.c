// SPDX-License-Identifier: Apache-2.0
//
// Reading, listing and removing. A record's removal leaves the bytes, which other namespaces may have too; the sweep
// takes them away.
#include "plugins/content_local/local.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/fieldmask.h"
#include "base/filter.h"
#include "core/event.h"
#include "core/lease.h"
#include "sys/files.h"

#include "containerd/events.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static struct content_local *local_of(struct content_store *store)
{
        return (struct content_local *)store;
}

// ---- paths and locks

char *content_local_blob_path(const char *digest)
{
        int n = (int)(digest_encoded(digest) - digest - 1);
        return g_strdup_printf("blobs/%.*s/%s", n, digest, digest_encoded(digest));
}

bool content_local_blob_size(struct content_local *local, const char *digest, int64_t *ret_size, GError **error)
{
        if (!digest_parse(digest, NULL, error))
                return false;
        g_autofree char *path = content_local_blob_path(digest);
        struct stat st;
        if (fstatat(local->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) != 0)
                return errno == ENOENT ? error_fail(error, ERROR_NOT_FOUND, "content %s: not found", digest)
                                       : error_fail_errno(error, errno, "stat %s", path);
        *ret_size = st.st_size;
        return true;
}

bool content_local_lock(struct content_local *local, const char *backend, GError **error)
{
        int64_t now = clock_now_ns(), since = 0;
        uv_mutex_lock(&local->mutex);
        int64_t *held = g_hash_table_lookup(local->locked, backend);
        if (held != NULL)
                since = *held;
        else
                g_hash_table_insert(local->locked, g_strdup(backend), g_memdup2(&now, sizeof now));
        uv_mutex_unlock(&local->mutex);
        if (held == NULL)
                return true;
        g_autofree char *since_text = clock_format_rfc3339(since);
        return error_fail(error, ERROR_UNAVAILABLE, "ref %s locked for %.3fs (since %s): unavailable", backend,
                (double)(now - since) / (double)NS_PER_SECOND, since_text);
}

void content_local_unlock(struct content_local *local, const char *backend)
{
        uv_mutex_lock(&local->mutex);
        g_hash_table_remove(local->locked, backend);
        uv_mutex_unlock(&local->mutex);
}

// ---- blobs

struct request {
        struct content_local *local;
        const struct scope *scope;
        const char *digest, *ref;
        char *const *paths;
        size_t n_paths;
        struct arena *arena;
        struct blob *blob;
        struct ingest *ingest;
        const struct filter *filter;
        blob_fn fn;
        void *data;
};

static bool get_blob(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        return request->local->metadata->blobs->get(
                tx, request->scope->namespace_, request->digest, request->arena, request->blob, error);
}

static bool on_info(struct content_store *store, const struct scope *scope, const char *digest, struct arena *arena,
        struct blob *ret, GError **error)
{
        struct request request = {
                .local = local_of(store), .scope = scope, .digest = digest, .arena = arena, .blob = ret};
        return metadata_read(request.local->metadata, get_blob, &request, error);
}

static bool apply_mask(struct blob *blob, const struct request *request, GError **error)
{
        const struct labels *labels = &request->blob->labels;
        if (request->n_paths == 0)
                blob->labels = *labels;
        for (size_t i = 0; i < request->n_paths; i++) {
                if (!fieldmask_is_of(request->paths[i], "labels"))
                        return error_fail(error, ERROR_INVALID_ARGUMENT,
                                "cannot update \"%s\" field on content info \"%s\": invalid argument",
                                request->paths[i], blob->digest);
        }
        labels_apply(&blob->labels, labels, "labels", request->paths, request->n_paths, request->arena);
        return labels_validate(&blob->labels, "info.Labels", error);
}

static bool update_blob(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        struct metadata *metadata = request->local->metadata;
        const char *namespace_ = request->scope->namespace_;
        struct blob blob;
        if (!metadata->blobs->get(tx, namespace_, request->blob->digest, request->arena, &blob, error) ||
                !apply_mask(&blob, request, error))
                return false;
        blob.labels = labels_copy_filled(&blob.labels, request->arena);
        blob.updated_ns = clock_now_ns();
        if (!metadata->blobs->update(tx, namespace_, &blob, error))
                return false;
        *request->blob = blob;
        return true;
}

static bool on_update(struct content_store *store, const struct scope *scope, char *const *paths, size_t n_paths,
        struct arena *arena, struct blob *blob, GError **error)
{
        struct request request = {.local = local_of(store),
                .scope = scope,
                .paths = paths,
                .n_paths = n_paths,
                .arena = arena,
                .blob = blob};
        return metadata_write(request.local->metadata, TX_DURABLE, update_blob, &request, error);
}

static bool filter_blob(void *data, const struct blob *blob)
{
        struct request *request = data;
        return (request->filter != NULL && !filter_match(request->filter, content_field, (void *)blob)) ||
               request->fn(request->data, blob);
}

static bool walk_blobs(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        return request->local->metadata->blobs->walk(
                tx, request->scope->namespace_, request->arena, filter_blob, request, error);
}

static bool on_walk(struct content_store *store, const struct scope *scope, const struct filter *filter,
        struct arena *arena, blob_fn fn, void *data, GError **error)
{
        struct request request = {
                .local = local_of(store), .scope = scope, .arena = arena, .filter = filter, .fn = fn, .data = data};
        return metadata_read(request.local->metadata, walk_blobs, &request, error);
}

static bool remove_blob(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        struct metadata *metadata = request->local->metadata;
        metadata->ops->mark_removed(tx);
        return metadata->blobs->remove(tx, request->scope->namespace_, request->digest, error) &&
               lease_release(metadata, tx, request->scope, "content", request->digest, error);
}

static bool on_remove(struct content_store *store, const struct scope *scope, const char *digest, GError **error)
{
        struct request request = {.local = local_of(store), .scope = scope, .digest = digest};
        struct content_local *local = request.local;
        if (!metadata_write(local->metadata, TX_DURABLE, remove_blob, &request, error))
                return false;
        uv_mutex_lock(&local->mutex);
        g_hash_table_add(local->doubtful, g_strdup(digest));
        uv_mutex_unlock(&local->mutex);
        if (local->events != NULL) {
                Events__ContentDelete message = EVENTS__CONTENT_DELETE__INIT;
                message.digest = (char *)digest;
                event_publish(local->events, scope->namespace_, "/content/delete", &message.base);
        }
        return true;
}

static int on_open(
        struct content_store *store, const struct scope *scope, const char *digest, int64_t *ret_size, GError **error)
{
        struct content_local *local = local_of(store);
        AUTO(arena) arena = arena_new();
        struct blob blob;
        if (!on_info(store, scope, digest, arena, &blob, error) || !digest_parse(digest, NULL, error))
                return -1;
        g_autofree char *path = content_local_blob_path(digest);
        int fd = openat(local->root_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0) {
                if (errno == ENOENT)
                        error_fail(error, ERROR_NOT_FOUND, "blob %s expected at %s/%s: not found", digest, local->root,
                                path);
                else
                        error_fail_errno(error, errno, "blob %s: open %s/%s", digest, local->root, path);
                return -1;
        }
        *ret_size = blob.size;
        return fd;
}

// ---- ingests

static bool get_ingest(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        return request->local->metadata->ingests->get(
                tx, request->scope->namespace_, request->ref, request->arena, request->ingest, error);
}

static struct content_status make_status(const char *ref, const struct ingest_state *state)
{
        return (struct content_status){
                .ref = ref,
                .offset = state->offset,
                .total = state->total,
                .expected = "",
                .started_ns = state->started_ns,
                .updated_ns = state->updated_ns,
        };
}

static bool on_status(struct content_store *store, const struct scope *scope, const char *ref, struct arena *arena,
        struct content_status *ret, GError **error)
{
        struct ingest ingest;
        struct ingest_state state;
        struct request request = {
                .local = local_of(store), .scope = scope, .ref = ref, .arena = arena, .ingest = &ingest};
        if (!metadata_read(request.local->metadata, get_ingest, &request, error) ||
                !ingest_read(request.local, ingest.backend, &state, error))
                return false;
        *ret = make_status(ingest.ref, &state);
        return true;
}

static bool collect_ingest(void *data, const struct ingest *ingest)
{
        GPtrArray *ingests = data;
        g_ptr_array_add(ingests, g_memdup2(ingest, sizeof *ingest));
        return true;
}

static bool walk_ingests(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        return request->local->metadata->ingests->walk(
                tx, request->scope->namespace_, request->arena, collect_ingest, request->data, error);
}

static bool on_walk_statuses(struct content_store *store, const struct scope *scope, const struct filter *filter,
        content_status_fn fn, void *data, GError **error)
{
        AUTO(arena) arena = arena_new();
        g_autoptr(GPtrArray) ingests = g_ptr_array_new_with_free_func(g_free);
        struct request request = {.local = local_of(store), .scope = scope, .arena = arena, .data = ingests};
        if (!metadata_read(request.local->metadata, walk_ingests, &request, error))
                return false;
        for (guint i = 0; i < ingests->len; i++) {
                const struct ingest *ingest = g_ptr_array_index(ingests, i);
                struct ingest_state state;
                g_autoptr(GError) failure = NULL;
                if (!ingest_read(request.local, ingest->backend, &state, &failure)) {
                        if (error_is(failure, ERROR_NOT_FOUND))
                                continue;
                        g_propagate_error(error, g_steal_pointer(&failure));
                        return false;
                }
                struct content_status status = make_status(ingest->ref, &state);
                bool matches = filter == NULL || filter_match(filter, content_status_field, &status);
                if (matches && !fn(data, &status))
                        break;
        }
        return true;
}

static bool abort_ingest(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        struct metadata *metadata = request->local->metadata;
        return get_ingest(tx, data, error) &&
               metadata->ingests->remove(tx, request->scope->namespace_, request->ref, error) &&
               lease_release(metadata, tx, request->scope, "ingests", request->ref, error);
}

static bool on_abort(struct content_store *store, const struct scope *scope, const char *ref, GError **error)
{
        AUTO(arena) arena = arena_new();
        struct ingest ingest;
        struct request request = {
                .local = local_of(store), .scope = scope, .ref = ref, .arena = arena, .ingest = &ingest};
        return metadata_write(request.local->metadata, TX_RELAXED, abort_ingest, &request, error) &&
               ingest_remove(request.local, ingest.backend, error);
}

static const struct content_ops ops = {
        .info = on_info,
        .update = on_update,
        .walk = on_walk,
        .remove = on_remove,
        .open = on_open,
        .writer = local_writer_open,
        .status = on_status,
        .walk_statuses = on_walk_statuses,
        .abort = on_abort,
        .sweep = content_local_sweep,
        .check = content_local_check,
};

// ---- made and freed

static bool open_root(struct content_local *local, GError **error)
{
        static const char *const directories[] = {"blobs/sha256", "ingest", "removed"};
        for (size_t i = 0; i < G_N_ELEMENTS(directories); i++) {
                g_autofree char *path = g_build_filename(local->root, directories[i], NULL);
                if (!file_make_directories(path, 0755, error))
                        return false;
        }
        local->root_fd = open(local->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return local->root_fd >= 0 || error_fail_errno(error, errno, "open %s", local->root);
}

struct content_store *content_local_new(
        const char *root, struct metadata *metadata, struct event_exchange *events, bool shared, GError **error)
{
        struct content_local *local = g_new0(struct content_local, 1);
        local->store.ops = &ops;
        local->metadata = metadata;
        local->events = events;
        local->shared = shared;
        local->root = g_strdup(root);
        local->root_fd = -1;
        g_assert(uv_mutex_init(&local->mutex) == 0);
        local->locked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        local->pending = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        local->doubtful = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        if (!open_root(local, error)) {
                content_local_free(&local->store);
                return NULL;
        }
        return &local->store;
}

void content_local_free(struct content_store *store)
{
        if (store == NULL)
                return;
        struct content_local *local = local_of(store);
        g_assert(g_hash_table_size(local->locked) == 0);
        g_hash_table_destroy(local->locked);
        g_hash_table_destroy(local->pending);
        g_hash_table_destroy(local->doubtful);
        uv_mutex_destroy(&local->mutex);
        fd_close(&local->root_fd);
        g_free(local->root);
        g_free(local);
}
