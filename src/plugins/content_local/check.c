// SPDX-License-Identifier: Apache-2.0
//
// The check of what is kept: are the bytes of a digest as many as its records say, and do they have that digest. That
// bytes are missing altogether is told by the first sweep after each start.
//
// It runs beside everything else. Damaged bytes are taken away only if they are still the file that was read, and no
// commit is about to name the digest, which would have put another one there; both are asked under the mutex that a
// commit takes before it moves anything.
#include "plugins/content_local/local.h"

#include "base/digest.h"
#include "base/fd.h"
#include "base/log.h"
#include "core/namespace.h"
#include "sys/files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { BUFFER_BYTES = 256 * 1024 };

struct listing {
        struct metadata *metadata;
        GHashTable *sizes;     // digest → int64
        GPtrArray *namespaces; // names
};

static bool note_namespace(void *data, const struct namespace_record *record)
{
        struct listing *listing = data;
        g_ptr_array_add(listing->namespaces, g_strdup(record->name));
        return true;
}

static bool note_blob(void *data, const struct blob *blob)
{
        struct listing *listing = data;
        if (digest_parse(blob->digest, NULL, NULL))
                g_hash_table_insert(listing->sizes, g_strdup(blob->digest), g_memdup2(&blob->size, sizeof blob->size));
        return true;
}

static bool list_blobs(struct tx *tx, void *data, GError **error)
{
        struct listing *listing = data;
        struct metadata *metadata = listing->metadata;
        bool ok = metadata->namespaces->walk(tx, NULL, note_namespace, listing, error);
        for (guint i = 0; i < listing->namespaces->len && ok; i++)
                ok = metadata->blobs->walk(tx, listing->namespaces->pdata[i], NULL, note_blob, listing, error);
        return ok;
}

// ---- one blob

// The digest of what is there; CANCELED once stopped.
static char *hash(int fd, const char *digest, const atomic_bool *stop, GError **error)
{
        enum digest_algorithm algorithm;
        digest_parse(digest, &algorithm, NULL);
        AUTO(digester) digester = digester_new(algorithm);
        g_autofree char *buffer = g_malloc(BUFFER_BYTES);
        while (!atomic_load(stop)) {
                ssize_t n = read(fd, buffer, BUFFER_BYTES);
                if (n == 0)
                        return digester_digest(digester);
                if (n > 0)
                        digester_update(digester, buffer, (size_t)n);
                else if (errno != EINTR) {
                        error_fail_errno(error, errno, "read");
                        return NULL;
                }
        }
        error_fail(error, ERROR_CANCELED, "the check of the content was stopped");
        return NULL;
}

// DATA_LOSS: the bytes are not what they should be. What cannot be read may be readable later.
static bool check_file(int fd, const char *digest, int64_t size, const struct content_check *check, GError **error)
{
        struct stat st;
        if (fstat(fd, &st) != 0)
                return error_fail_errno(error, errno, "stat");
        if (st.st_size != size)
                return error_fail(error, ERROR_DATA_LOSS, "it has %" G_GINT64_FORMAT " bytes and not %" G_GINT64_FORMAT,
                        (int64_t)st.st_size, size);
        if (!check->hash)
                return true;
        g_autofree char *found = hash(fd, digest, check->stop, error);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); // others' pages shall not make room for these
        return found != NULL && (strcmp(found, digest) == 0 ||
                                        error_fail(error, ERROR_DATA_LOSS, "its bytes have the digest %s", found));
}

static bool take_away(struct content_local *local, const char *path, const char *digest, int fd)
{
        struct stat read, there;
        bool taken = false;
        uv_mutex_lock(&local->mutex);
        if (!g_hash_table_contains(local->pending, digest) && fstat(fd, &read) == 0 &&
                fstatat(local->root_fd, path, &there, AT_SYMLINK_NOFOLLOW) == 0 && read.st_ino == there.st_ino) {
                content_local_move_out(local, path, digest_encoded(digest));
                taken = true;
        }
        uv_mutex_unlock(&local->mutex);
        return taken;
}

static void check_blob(struct content_local *local, const char *digest, int64_t size, struct content_check *check)
{
        g_autofree char *path = content_local_blob_path(digest);
        fd_auto int fd = openat(local->root_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return;
        g_autoptr(GError) error = NULL;
        if (check_file(fd, digest, size, check, &error) || error_is(error, ERROR_CANCELED))
                return;
        if (!error_is(error, ERROR_DATA_LOSS)) {
                log_error("content cannot be checked", "digest", digest, "error", error->message);
        } else if (take_away(local, path, digest, fd)) {
                check->n_damaged++;
                log_error(
                        "content is damaged and was taken away: import its image again, or remove it and pull it again",
                        "digest", digest, "found", error->message);
        }
}

bool content_local_check(struct content_store *store, struct content_check *check, GError **error)
{
        struct content_local *local = (struct content_local *)store;
        g_autoptr(GHashTable) sizes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        g_autoptr(GPtrArray) namespaces = g_ptr_array_new_with_free_func(g_free);
        struct listing listing = {local->metadata, sizes, namespaces};
        if (!metadata_read(local->metadata, list_blobs, &listing, error))
                return false;
        GHashTableIter iter;
        gpointer digest, size;
        g_hash_table_iter_init(&iter, sizes);
        while (!atomic_load(check->stop) && g_hash_table_iter_next(&iter, &digest, &size))
                check_blob(local, digest, *(int64_t *)size, check);
        content_local_empty_removed(local);
        return !atomic_load(check->stop) || error_fail(error, ERROR_CANCELED, "the check of the content was stopped");
}
