// SPDX-License-Identifier: Apache-2.0
//
// The smallest content store: blobs and ingests are anonymous files in two hash tables, and nothing survives. It proves
// that the suite asks for nothing that only a directory and a database have. One thread uses it.
#include "content_suite.h"

#include "base/digest.h"
#include "base/fd.h"
#include "base/fieldmask.h"
#include "base/filter.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct object {     // a blob, or an ingest on its way
        char *name; // digest or ref
        int fd;
        int64_t size, total;
        bool locked, forgotten;
        struct labels labels;
};

struct fake {
        struct content_store base;
        struct arena *arena;         // of labels
        GHashTable *blobs, *ingests; // NAMESPACE/NAME → struct object
};

struct fake_writer {
        struct content_writer base;
        struct fake *fake;
        struct object *ingest;
        char *namespace_, *key;
};

static void object_free(void *data)
{
        struct object *object = data;
        fd_close(&object->fd);
        g_free(object->name);
        g_free(object);
}

static char *key_of(const struct scope *scope, const char *name)
{
        return g_strconcat(scope->namespace_, "/", name, NULL);
}

static struct object *find(GHashTable *table, const struct scope *scope, const char *name)
{
        g_autofree char *key = key_of(scope, name);
        return g_hash_table_lookup(table, key);
}

static struct object *find_blob(
        struct content_store *store, const struct scope *scope, const char *digest, GError **error)
{
        struct object *object = find(((struct fake *)store)->blobs, scope, digest);
        if (object == NULL)
                error_fail(error, ERROR_NOT_FOUND, "content digest %s: not found", digest);
        return object;
}

static struct blob blob_of(const struct object *object)
{
        return (struct blob){.digest = object->name, .size = object->size, .labels = object->labels};
}

// ---- blobs

static bool fake_info(struct content_store *store, const struct scope *scope, const char *digest, struct arena *arena,
        struct blob *ret, GError **error)
{
        const struct object *object = find_blob(store, scope, digest, error);
        if (object != NULL)
                *ret = blob_of(object);
        return object != NULL;
}

static bool fake_update(struct content_store *store, const struct scope *scope, char *const *paths, size_t n_paths,
        struct arena *arena, struct blob *blob, GError **error)
{
        struct object *object = find_blob(store, scope, blob->digest, error);
        if (object == NULL)
                return false;
        for (size_t i = 0; i < n_paths; i++) {
                const char *key = fieldmask_key(paths[i], "labels");
                if (key == NULL)
                        return error_fail(error, ERROR_INVALID_ARGUMENT, "cannot update \"%s\"", paths[i]);
                labels_set(&object->labels, ((struct fake *)store)->arena, key, labels_get(&blob->labels, key));
        }
        *blob = blob_of(object);
        return true;
}

static bool fake_walk(struct content_store *store, const struct scope *scope, const struct filter *filter,
        struct arena *arena, blob_fn fn, void *data, GError **error)
{
        g_autofree char *prefix = key_of(scope, "");
        g_autoptr(GList) keys = g_hash_table_get_keys(((struct fake *)store)->blobs);
        keys = g_list_sort(keys, (GCompareFunc)strcmp);
        for (const GList *key = keys; key != NULL; key = key->next) {
                if (!g_str_has_prefix(key->data, prefix))
                        continue;
                struct blob blob = blob_of(g_hash_table_lookup(((struct fake *)store)->blobs, key->data));
                if ((filter == NULL || filter_match(filter, content_field, &blob)) && !fn(data, &blob))
                        break;
        }
        return true;
}

static bool fake_remove(struct content_store *store, const struct scope *scope, const char *digest, GError **error)
{
        g_autofree char *key = key_of(scope, digest);
        return find_blob(store, scope, digest, error) != NULL &&
               g_hash_table_remove(((struct fake *)store)->blobs, key);
}

static int fake_open(
        struct content_store *store, const struct scope *scope, const char *digest, int64_t *ret_size, GError **error)
{
        const struct object *object = find_blob(store, scope, digest, error);
        char path[64];
        if (object == NULL)
                return -1;
        *ret_size = object->size;
        snprintf(path, sizeof path, "/proc/self/fd/%d", object->fd);
        return open(path, O_RDONLY | O_CLOEXEC);
}

static bool fake_sweep(
        struct content_store *store, const char *const *digests, const char *const *backends, GError **error)
{
        return true;
}

// ---- ingests

// A writer may have it still, and frees it then.
static void forget(struct fake *fake, const char *key)
{
        struct object *ingest = g_hash_table_lookup(fake->ingests, key);
        if (ingest == NULL || !ingest->locked) {
                g_hash_table_remove(fake->ingests, key);
                return;
        }
        g_autofree void *stolen = NULL;
        g_hash_table_steal_extended(fake->ingests, key, &stolen, NULL);
        ingest->forgotten = true;
}

static struct content_status status_of(const struct object *object)
{
        return (struct content_status){
                .ref = object->name, .offset = object->size, .total = object->total, .expected = ""};
}

static struct object *find_ingest(
        struct content_store *store, const struct scope *scope, const char *ref, GError **error)
{
        struct object *object = find(((struct fake *)store)->ingests, scope, ref);
        if (object == NULL)
                error_fail(error, ERROR_NOT_FOUND, "reference %s: not found", ref);
        return object;
}

static bool fake_status(struct content_store *store, const struct scope *scope, const char *ref, struct arena *arena,
        struct content_status *ret, GError **error)
{
        const struct object *object = find_ingest(store, scope, ref, error);
        if (object != NULL)
                *ret = status_of(object);
        return object != NULL;
}

static bool fake_walk_statuses(struct content_store *store, const struct scope *scope, const struct filter *filter,
        content_status_fn fn, void *data, GError **error)
{
        g_autofree char *prefix = key_of(scope, "");
        GHashTableIter iter;
        void *key, *value;
        g_hash_table_iter_init(&iter, ((struct fake *)store)->ingests);
        while (g_hash_table_iter_next(&iter, &key, &value)) {
                struct content_status status = status_of(value);
                if (g_str_has_prefix(key, prefix) && !fn(data, &status))
                        break;
        }
        return true;
}

static bool fake_abort(struct content_store *store, const struct scope *scope, const char *ref, GError **error)
{
        g_autofree char *key = key_of(scope, ref);
        if (find_ingest(store, scope, ref, error) == NULL)
                return false;
        forget((struct fake *)store, key);
        return true;
}

// ---- writers

static bool writer_write(struct content_writer *base, const void *bytes, size_t n_bytes, GError **error)
{
        struct object *ingest = ((struct fake_writer *)base)->ingest;
        if (pwrite(ingest->fd, bytes, n_bytes, ingest->size) != (ssize_t)n_bytes)
                return error_fail_errno(error, errno, "write");
        ingest->size += (int64_t)n_bytes;
        return true;
}

static bool writer_truncate(struct content_writer *base, int64_t size, GError **error)
{
        struct object *ingest = ((struct fake_writer *)base)->ingest;
        if (size != 0)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "cannot truncate to %" G_GINT64_FORMAT, size);
        ingest->size = 0;
        return true;
}

static void writer_status(struct content_writer *base, struct content_status *ret)
{
        *ret = status_of(((struct fake_writer *)base)->ingest);
}

static char *writer_digest(struct content_writer *base)
{
        const struct object *ingest = ((struct fake_writer *)base)->ingest;
        g_autofree char *bytes = g_malloc((size_t)ingest->size + 1);
        g_assert_cmpint(pread(ingest->fd, bytes, (size_t)ingest->size, 0), ==, ingest->size);
        return digest_of_bytes(DIGEST_SHA256, bytes, (size_t)ingest->size);
}

static int writer_fd(struct content_writer *base)
{
        return ((struct fake_writer *)base)->ingest->fd;
}

static bool writer_commit(struct content_writer *base, const struct content_commit *commit, GError **error)
{
        struct fake_writer *writer = (struct fake_writer *)base;
        struct object *ingest = writer->ingest;
        const struct scope scope = {.namespace_ = writer->namespace_};
        bool named = commit->expected != NULL && commit->expected[0] != '\0';
        g_autofree char *digest = writer_digest(base);
        if (commit->size != 0 && commit->size != ingest->size)
                return error_fail(error, ERROR_FAILED_PRECONDITION,
                        "\"%s\" failed size validation: %" G_GINT64_FORMAT " != %" G_GINT64_FORMAT
                        ": failed precondition",
                        ingest->name, ingest->size, commit->size);
        if (named && strcmp(commit->expected, digest) != 0)
                return error_fail(error, ERROR_FAILED_PRECONDITION,
                        "unexpected commit digest %s, expected %s: failed precondition", digest, commit->expected);
        forget(writer->fake, writer->key);
        if (find(writer->fake->blobs, &scope, digest) != NULL)
                return error_fail(error, ERROR_ALREADY_EXISTS, "content %s: already exists", digest);
        struct object *blob = g_new0(struct object, 1);
        *blob = (struct object){.name = g_strdup(digest), .fd = dup(ingest->fd), .size = ingest->size};
        blob->labels = labels_copy_filled(&commit->labels, writer->fake->arena);
        g_hash_table_insert(writer->fake->blobs, key_of(&scope, digest), blob);
        return true;
}

static void writer_close(struct content_writer *base)
{
        struct fake_writer *writer = (struct fake_writer *)base;
        writer->ingest->locked = false;
        if (writer->ingest->forgotten)
                object_free(writer->ingest);
        g_free(writer->namespace_);
        g_free(writer->key);
        g_free(writer);
}

// What is in memory is what was written.
static bool fake_check(struct content_store *store, struct content_check *check, GError **error)
{
        return true;
}

static struct content_writer *fake_open_writer(
        struct content_store *store, const struct scope *scope, const struct content_expect *expect, GError **error)
{
        static const struct content_writer_ops ops = {
                .write = writer_write,
                .truncate = writer_truncate,
                .status = writer_status,
                .digest = writer_digest,
                .fd = writer_fd,
                .commit = writer_commit,
                .close = writer_close,
        };
        struct fake *fake = (struct fake *)store;
        g_autofree char *key = key_of(scope, expect->ref);
        struct object *ingest = g_hash_table_lookup(fake->ingests, key);
        if (expect->expected != NULL && find(fake->blobs, scope, expect->expected) != NULL) {
                error_fail(error, ERROR_ALREADY_EXISTS, "content %s: already exists", expect->expected);
                return NULL;
        }
        if (ingest != NULL && ingest->locked) {
                error_fail(error, ERROR_UNAVAILABLE, "ref %s/1/%s locked for 0s: unavailable", scope->namespace_,
                        expect->ref);
                return NULL;
        }
        if (ingest == NULL) {
                ingest = g_new0(struct object, 1);
                ingest->name = g_strdup(expect->ref);
                ingest->fd = memfd_create("ingest", MFD_CLOEXEC);
                g_hash_table_insert(fake->ingests, g_strdup(key), ingest);
        }
        if (ingest->total != expect->total)
                ingest->size = 0;
        ingest->total = expect->total;
        ingest->locked = true;
        struct fake_writer *writer = g_new0(struct fake_writer, 1);
        *writer = (struct fake_writer){.base = {&ops},
                .fake = fake,
                .ingest = ingest,
                .namespace_ = g_strdup(scope->namespace_),
                .key = g_steal_pointer(&key)};
        return &writer->base;
}

static struct content_store *fake_new(const char *root, struct metadata *metadata, GError **error)
{
        static const struct content_ops ops = {
                .info = fake_info,
                .update = fake_update,
                .walk = fake_walk,
                .remove = fake_remove,
                .open = fake_open,
                .writer = fake_open_writer,
                .status = fake_status,
                .walk_statuses = fake_walk_statuses,
                .abort = fake_abort,
                .sweep = fake_sweep,
                .check = fake_check,
        };
        struct fake *fake = g_new0(struct fake, 1);
        fake->base.ops = &ops;
        fake->arena = arena_new();
        fake->blobs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, object_free);
        fake->ingests = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, object_free);
        return &fake->base;
}

static void fake_free(struct content_store *store)
{
        struct fake *fake = (struct fake *)store;
        g_hash_table_unref(fake->blobs);
        g_hash_table_unref(fake->ingests);
        arena_free(fake->arena);
        g_free(fake);
}

int main(int argc, char **argv)
{
        static const struct content_implementer implementer = {"fake", fake_new, fake_free};
        g_test_init(&argc, &argv, NULL);
        content_suite_add_tests(&implementer);
        return g_test_run();
}
