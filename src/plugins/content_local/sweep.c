// SPDX-License-Identifier: Apache-2.0
//
// Taking bytes away that no record names. Inside a write transaction, so that no record can appear meanwhile, and there
// only by a rename: unlinking a large file takes long. A digest that a commit is about to name is left alone; the
// commit sweeps it itself if it fails.
#include "plugins/content_local/local.h"

#include "base/digest.h"
#include "base/fd.h"
#include "base/log.h"
#include "sys/files.h"
#include "sys/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { SWEEP_BATCH = 100, MAX_REF_BYTES = 64 * 1024 };

struct batch {
        struct content_local *local;
        const char *const *items;
        size_t n;
};

static void move_out(struct content_local *local, const char *path, const char *name)
{
        g_autofree char *target = g_strconcat("removed/", name, NULL);
        if (renameat(local->root_fd, path, local->root_fd, target) != 0 && errno != ENOENT) {
                // Left over from an earlier removal: out of the way with it.
                g_autofree char *full = g_build_filename(local->root, target, NULL);
                if (!tree_remove(full, NULL) || renameat(local->root_fd, path, local->root_fd, target) != 0)
                        log_warn("content cannot be removed", "path", path, "error", errno_text(errno));
        }
}

static bool sweep_digests(struct tx *tx, void *data, GError **error)
{
        struct batch *batch = data;
        struct content_local *local = batch->local;
        for (size_t i = 0; i < batch->n; i++) {
                const char *digest = batch->items[i];
                bool used;
                if (!local->metadata->blobs->is_used(tx, digest, &used, error))
                        return false;
                if (used || !digest_parse(digest, NULL, NULL))
                        continue;
                g_autofree char *path = content_local_blob_path(digest);
                uv_mutex_lock(&local->mutex);
                if (!g_hash_table_contains(local->pending, digest))
                        move_out(local, path, digest_encoded(digest));
                uv_mutex_unlock(&local->mutex);
        }
        return true;
}

static bool sweep_ingests(struct tx *tx, void *data, GError **error)
{
        struct batch *batch = data;
        for (size_t i = 0; i < batch->n; i++) {
                bool used;
                if (!batch->local->metadata->ingests->backend_is_used(tx, batch->items[i], &used, error))
                        return false;
                if (used)
                        continue;
                g_autofree char *path = content_local_ingest_path(batch->items[i]);
                move_out(batch->local, path, strchr(path, '/') + 1);
        }
        return true;
}

static bool sweep_all(struct content_local *local, const char *const *items, size_t n, tx_fn sweep_some, GError **error)
{
        for (size_t at = 0; at < n; at += SWEEP_BATCH) {
                struct batch batch = {local, items + at, MIN(n - at, SWEEP_BATCH)};
                // Nothing is written, so the commit costs no sync.
                if (!metadata_write(local->metadata, TX_RELAXED, sweep_some, &batch, error))
                        return false;
        }
        return true;
}

static void take_doubtful(struct content_local *local, GPtrArray *digests)
{
        uv_mutex_lock(&local->mutex);
        GHashTableIter iter;
        void *digest;
        g_hash_table_iter_init(&iter, local->doubtful);
        while (g_hash_table_iter_next(&iter, &digest, NULL)) {
                g_ptr_array_add(digests, digest);
                g_hash_table_iter_steal(&iter);
        }
        uv_mutex_unlock(&local->mutex);
}

// ---- what is on disk

typedef void (*name_fn)(void *data, const char *name);

static void each_name(struct content_local *local, const char *path, name_fn fn, void *data)
{
        int fd = openat(local->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
        if (stream == NULL)
                return;
        struct dirent *entry;
        while ((entry = readdir(stream)) != NULL) {
                if (entry->d_name[0] != '.')
                        fn(data, entry->d_name);
        }
        closedir(stream);
}

struct listing {
        struct content_local *local;
        const char *algorithm;
        GPtrArray *names;
};

static void add_blob(void *data, const char *name)
{
        struct listing *listing = data;
        g_autofree char *digest = g_strconcat(listing->algorithm, ":", name, NULL);
        if (digest_parse(digest, NULL, NULL))
                g_ptr_array_add(listing->names, g_steal_pointer(&digest));
        else
                log_warn("a file among the blobs is none", "name", digest);
}

static void add_algorithm(void *data, const char *name)
{
        struct listing *listing = data;
        g_autofree char *path = g_strconcat("blobs/", name, NULL);
        struct listing inner = {listing->local, name, listing->names};
        each_name(listing->local, path, add_blob, &inner);
}

// An ingest without a readable ref cannot be gone on with, and has no name to ask for.
static void add_ingest(void *data, const char *name)
{
        struct listing *listing = data;
        g_autofree char *path = g_strdup_printf("ingest/%s/ref", name);
        char *backend = file_read_text(listing->local->root_fd, path, MAX_REF_BYTES, NULL);
        if (backend != NULL)
                g_ptr_array_add(listing->names, backend);
}

static void remove_one(void *data, const char *name)
{
        struct content_local *local = data;
        g_autoptr(GError) error = NULL;
        g_autofree char *path = g_build_filename(local->root, "removed", name, NULL);
        if (!tree_remove(path, &error))
                log_warn("content cannot be removed", "path", path, "error", error->message);
}

static bool report_missing(void *data, const char *digest)
{
        int64_t size;
        g_autoptr(GError) error = NULL;
        if (!content_local_blob_size(data, digest, &size, &error))
                log_warn("content has a record and no bytes", "digest", digest, "error", error->message);
        return true;
}

static bool check_records(struct tx *tx, void *data, GError **error)
{
        struct content_local *local = data;
        return local->metadata->blobs->walk_used(tx, report_missing, local, error);
}

bool content_local_sweep(
        struct content_store *store, const char *const *digests, const char *const *backends, GError **error)
{
        struct content_local *local = (struct content_local *)store;
        g_autoptr(GPtrArray) doubtful = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GPtrArray) ingests = g_ptr_array_new_with_free_func(g_free);
        take_doubtful(local, doubtful);
        if (digests == NULL && backends == NULL) {
                struct listing blobs = {local, NULL, doubtful}, refs = {local, NULL, ingests};
                each_name(local, "blobs", add_algorithm, &blobs);
                each_name(local, "ingest", add_ingest, &refs);
                if (!metadata_read(local->metadata, check_records, local, error))
                        return false;
        }
        for (size_t i = 0; digests != NULL && digests[i] != NULL; i++)
                g_ptr_array_add(doubtful, g_strdup(digests[i]));
        for (size_t i = 0; backends != NULL && backends[i] != NULL; i++)
                g_ptr_array_add(ingests, g_strdup(backends[i]));
        bool ok = sweep_all(local, (const char *const *)doubtful->pdata, doubtful->len, sweep_digests, error) &&
                  sweep_all(local, (const char *const *)ingests->pdata, ingests->len, sweep_ingests, error);
        each_name(local, "removed", remove_one, local);
        return ok;
}
