// SPDX-License-Identifier: Apache-2.0
//
// Taking bytes away that no record names. Inside a write transaction, so that no record can appear meanwhile, and there
// only by a rename: unlinking a large file takes long. A digest that a commit is about to name is left alone; the
// commit sweeps it itself if it fails.
#include "plugins/content_local/local.h"

#include "base/digest.h"
#include "base/fd.h"
#include "base/log.h"
#include "core/namespace.h"
#include "sys/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { SWEEP_BATCH = 100 };

struct batch {
        struct content_local *local;
        const char *const *items;
        size_t n;
        unsigned n_moved;
};

bool content_local_move_out(struct content_local *local, const char *path, const char *name)
{
        g_autofree char *target = g_strconcat("removed/", name, NULL);
        if (renameat(local->root_fd, path, local->root_fd, target) == 0)
                return true;
        if (errno == ENOENT)
                return false;
        // Left over from an earlier removal: out of the way with it.
        g_autofree char *full = g_build_filename(local->root, target, NULL);
        if (tree_remove(full, NULL) && renameat(local->root_fd, path, local->root_fd, target) == 0)
                return true;
        log_warn("content cannot be removed", "path", path, "error", errno_text(errno));
        return false;
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
                        batch->n_moved += content_local_move_out(local, path, digest_encoded(digest));
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
                batch->n_moved += content_local_move_out(batch->local, path, strchr(path, '/') + 1);
        }
        return true;
}

// The ingests that have records, as names of directories.
struct known_ingests {
        struct metadata *metadata;
        struct tx *tx;
        GHashTable *names;
        GError *error;
};

static bool note_ingest(void *data, const struct ingest *ingest)
{
        struct known_ingests *known = data;
        g_autofree char *path = content_local_ingest_path(ingest->backend);
        g_hash_table_add(known->names, g_path_get_basename(path));
        return true;
}

static bool note_ingests_of(void *data, const struct namespace_record *record)
{
        struct known_ingests *known = data;
        return known->metadata->ingests->walk(known->tx, record->name, NULL, note_ingest, known, &known->error);
}

// By names of directories, whatever is in them. A writer makes its record before its directory.
static bool sweep_directories(struct tx *tx, void *data, GError **error)
{
        struct batch *batch = data;
        struct metadata *metadata = batch->local->metadata;
        g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        struct known_ingests known = {metadata, tx, names, NULL};
        if (!metadata->namespaces->walk(tx, NULL, note_ingests_of, &known, error))
                return false;
        if (known.error != NULL) {
                g_propagate_error(error, known.error);
                return false;
        }
        for (size_t i = 0; i < batch->n; i++) {
                g_autofree char *path = g_strconcat("ingest/", batch->items[i], NULL);
                if (!g_hash_table_contains(names, batch->items[i]))
                        batch->n_moved += content_local_move_out(batch->local, path, batch->items[i]);
        }
        return true;
}

static bool sweep_all(struct content_local *local, const GPtrArray *names, tx_fn fn, unsigned *n_moved, GError **error)
{
        const char *const *items = (const char *const *)names->pdata;
        for (size_t at = 0; at < names->len; at += SWEEP_BATCH) {
                struct batch batch = {local, items + at, MIN(names->len - at, SWEEP_BATCH), 0};
                // Nothing is written, so the commit costs no sync.
                if (!metadata_write(local->metadata, TX_RELAXED, fn, &batch, error))
                        return false;
                *n_moved += batch.n_moved;
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

static void add_name(void *data, const char *name)
{
        g_ptr_array_add(data, g_strdup(name));
}

static void remove_one(void *data, const char *name)
{
        struct content_local *local = data;
        g_autoptr(GError) error = NULL;
        g_autofree char *path = g_build_filename(local->root, "removed", name, NULL);
        if (!tree_remove(path, &error))
                log_warn("content cannot be removed", "path", path, "error", error->message);
}

void content_local_empty_removed(struct content_local *local)
{
        each_name(local, "removed", remove_one, local);
}

static bool report_missing(void *data, const char *digest)
{
        int64_t size;
        g_autoptr(GError) error = NULL;
        if (!content_local_blob_size(data, digest, &size, &error))
                log_error("content has a record and no bytes: import its image again, or remove it and pull it again",
                        "digest", digest, "error", error->message);
        return true;
}

static bool check_records(struct tx *tx, void *data, GError **error)
{
        struct content_local *local = data;
        return local->metadata->blobs->walk_used(tx, report_missing, local, error);
}

// Both sides are compared: what has no record goes, what has no bytes is told of.
static bool sweep_everything(struct content_local *local, GError **error)
{
        g_autoptr(GPtrArray) digests = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GPtrArray) ingests = g_ptr_array_new_with_free_func(g_free);
        struct listing blobs = {local, NULL, digests};
        each_name(local, "blobs", add_algorithm, &blobs);
        each_name(local, "ingest", add_name, ingests);
        unsigned n_blobs = 0, n_ingests = 0;
        bool ok = metadata_read(local->metadata, check_records, local, error) &&
                  sweep_all(local, digests, sweep_digests, &n_blobs, error) &&
                  sweep_all(local, ingests, sweep_directories, &n_ingests, error);
        if (n_blobs + n_ingests > 0) {
                g_autofree char *blobs_text = g_strdup_printf("%u", n_blobs);
                g_autofree char *ingests_text = g_strdup_printf("%u", n_ingests);
                log_info("removed content that no record names", "blobs", blobs_text, "ingests", ingests_text);
        }
        return ok;
}

static bool sweep_some(
        struct content_local *local, const char *const *digests, const char *const *backends, GError **error)
{
        g_autoptr(GPtrArray) doubtful = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GPtrArray) ingests = g_ptr_array_new_with_free_func(g_free);
        take_doubtful(local, doubtful);
        for (size_t i = 0; digests != NULL && digests[i] != NULL; i++)
                g_ptr_array_add(doubtful, g_strdup(digests[i]));
        for (size_t i = 0; backends != NULL && backends[i] != NULL; i++)
                g_ptr_array_add(ingests, g_strdup(backends[i]));
        unsigned n_moved = 0;
        return sweep_all(local, doubtful, sweep_digests, &n_moved, error) &&
               sweep_all(local, ingests, sweep_ingests, &n_moved, error);
}

bool content_local_sweep(
        struct content_store *store, const char *const *digests, const char *const *backends, GError **error)
{
        struct content_local *local = (struct content_local *)store;
        bool all = digests == NULL && backends == NULL;
        bool ok = all ? sweep_everything(local, error) : sweep_some(local, digests, backends, error);
        content_local_empty_removed(local);
        return ok;
}
