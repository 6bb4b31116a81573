// SPDX-License-Identifier: Apache-2.0
//
// Both sides are mounted for the time being, the upper one for reading only; the layer goes into an ingest as it comes.
// The digest of the plain tar becomes the label containerd.io/uncompressed, also of a blob that was there already.
#include "plugins/differ_tar/differ.h"

#include "base/clock.h"
#include "base/identifier.h"
#include "core/content.h"
#include "io/cancel.h"
#include "sys/mounts.h"

#include <string.h>

#define LABEL_UNCOMPRESSED "containerd.io/uncompressed"
#define MEDIA_TYPE_LAYER "application/vnd.oci.image.layer.v1.tar"

struct compare {
        struct differ_tar *differ;
        struct strand *strand;
        struct cancel *cancel;
        struct arena *arena; // all texts
        struct scope scope;
        struct differ_compare_request request;
        GPtrArray *lower, *upper;
        const char *compression;
        differ_compare_fn done;
        void *data;
        char *lower_dir, *upper_dir; // mount points
        struct content_writer *writer;
        bool own_ref, committed;
};

// ---- the end

static void unmount(char **directory)
{
        g_autoptr(GError) error = NULL;
        if (*directory != NULL)
                mount_temp_remove(g_steal_pointer(directory), &error); // what stays goes with the next start
}

static void finish(struct compare *compare, const struct differ_compare_result *result, const GError *error)
{
        struct content_store *content = compare->differ->content;
        unmount(&compare->upper_dir);
        unmount(&compare->lower_dir);
        if (compare->writer != NULL) {
                content_writer_close(compare->writer);
                if (!compare->committed && compare->own_ref)
                        content->ops->abort(content, &compare->scope, compare->request.ref, NULL);
        }
        compare->done(compare->data, result, error);
        g_ptr_array_unref(compare->lower);
        g_ptr_array_unref(compare->upper);
        strand_unref(compare->strand);
        cancel_unref(compare->cancel);
        arena_free(compare->arena);
        g_free(compare);
}

static bool label_blob(struct compare *compare, struct blob *blob, const char *diff_id, GError **error)
{
        struct content_store *content = compare->differ->content;
        if (diff_id == NULL || labels_get(&blob->labels, LABEL_UNCOMPRESSED) != NULL)
                return true;
        char *paths[] = {(char *)"labels." LABEL_UNCOMPRESSED};
        labels_set(&blob->labels, compare->arena, LABEL_UNCOMPRESSED, diff_id);
        if (content->ops->update(content, &compare->scope, paths, 1, compare->arena, blob, error))
                return true;
        g_prefix_error(error, "error setting uncompressed label: ");
        return false;
}

static bool commit(struct compare *compare, const char *diff_id, struct blob *ret_blob, GError **error)
{
        struct content_store *content = compare->differ->content;
        g_autofree char *digest = compare->writer->ops->digest(compare->writer);
        struct content_commit request = {.expected = digest, .labels = compare->request.labels};
        if (diff_id != NULL)
                labels_set(&request.labels, compare->arena, LABEL_UNCOMPRESSED, diff_id);
        g_autoptr(GError) refused = NULL;
        compare->committed = compare->writer->ops->commit(compare->writer, &request, &refused);
        if (!compare->committed && !error_is(refused, ERROR_ALREADY_EXISTS)) {
                g_propagate_prefixed_error(error, g_steal_pointer(&refused), "failed to commit: ");
                return false;
        }
        return content->ops->info(content, &compare->scope, digest, compare->arena, ret_blob, error) &&
               label_blob(compare, ret_blob, diff_id, error);
}

static void on_end(void *data, const char *diff_id, const GError *error)
{
        struct compare *compare = data;
        g_autoptr(GError) failed = NULL;
        struct blob blob;
        bool compressed = *compare->compression != '\0';
        if (error != NULL) {
                failed = g_error_copy(error);
                g_prefix_error(&failed, "failed to write %sdiff: ", compressed ? "compressed " : "");
        } else {
                commit(compare, compressed ? diff_id : NULL, &blob, &failed);
        }
        if (failed != NULL) {
                finish(compare, NULL, failed);
                return;
        }
        struct differ_compare_result result = {compare->request.media_type, blob.digest, blob.size};
        finish(compare, &result, NULL);
}

static bool on_bytes(void *data, const void *bytes, size_t n_bytes, GError **error)
{
        struct compare *compare = data;
        return compare->writer->ops->write(compare->writer, bytes, n_bytes, error);
}

// ---- the beginning

static bool choose_compression(struct compare *compare, GError **error)
{
        const char *media_type = compare->request.media_type;
        if (*media_type == '\0')
                compare->request.media_type = media_type = MEDIA_TYPE_LAYER "+gzip";
        if (strcmp(media_type, MEDIA_TYPE_LAYER) == 0)
                compare->compression = "";
        else if (strcmp(media_type, MEDIA_TYPE_LAYER "+gzip") == 0)
                compare->compression = "gzip";
        else if (strcmp(media_type, MEDIA_TYPE_LAYER "+zstd") == 0)
                compare->compression = "zstd";
        else
                return error_fail(
                        error, ERROR_UNIMPLEMENTED, "unsupported diff media type: %s: not implemented", media_type);
        return true;
}

static bool open_writer(struct compare *compare, GError **error)
{
        struct content_store *content = compare->differ->content;
        compare->own_ref = *compare->request.ref == '\0';
        if (compare->own_ref) {
                g_autofree char *random = identifier_random_hex(3);
                compare->request.ref = arena_printf(compare->arena, "%" G_GINT64_FORMAT "-%s", clock_now_ns(), random);
        }
        struct content_expect expect = {.ref = compare->request.ref};
        compare->writer = content->ops->writer(content, &compare->scope, &expect, error);
        if (compare->writer == NULL) {
                g_prefix_error(error, "failed to open writer: ");
                return false;
        }
        return compare->own_ref || compare->writer->ops->truncate(compare->writer, 0, error);
}

static bool start(struct compare *compare, GError **error)
{
        static const struct pack_handler handler = {on_bytes, on_end};
        const char *dir = compare->differ->mounts_dir;
        if (!choose_compression(compare, error))
                return false;
        if (compare->lower->len > 0 && (compare->lower_dir = mount_temp(compare->lower, dir, true, error)) == NULL)
                return false;
        if ((compare->upper_dir = mount_temp(compare->upper, dir, true, error)) == NULL || !open_writer(compare, error))
                return false;
        struct pack_request request = {
                .lower = compare->lower_dir,
                .upper = compare->upper_dir,
                .compression = compare->compression,
                .has_epoch = compare->request.has_epoch,
                .epoch_seconds = compare->request.epoch_seconds,
                .cancel = compare->cancel,
        };
        pack_unref(pack_start(compare->differ->differ.unpacker, &request, &handler, compare));
        return true;
}

static void begin(void *data)
{
        struct compare *compare = data;
        g_autoptr(GError) error = NULL;
        if (!start(compare, &error))
                finish(compare, NULL, error);
}

void differ_tar_compare(struct differ *differ, const struct scope *scope, const struct differ_compare_request *request,
        differ_compare_fn done, void *data)
{
        struct compare *compare = g_new0(struct compare, 1);
        struct arena *arena = compare->arena = arena_new();
        compare->differ = (struct differ_tar *)differ;
        compare->strand = strand_new(compare->differ->lanes, LANE_SLOW);
        compare->cancel = request->cancel != NULL ? cancel_ref(request->cancel) : NULL;
        compare->scope.namespace_ = arena_strdup(arena, scope->namespace_);
        compare->scope.lease = scope->lease != NULL ? arena_strdup(arena, scope->lease) : NULL;
        compare->request = *request;
        compare->request.media_type = arena_strdup(arena, request->media_type);
        compare->request.ref = arena_strdup(arena, request->ref);
        compare->request.labels = (struct labels){0};
        for (size_t i = 0; i < request->labels.n; i++)
                labels_set(
                        &compare->request.labels, arena, request->labels.items[i].key, request->labels.items[i].value);
        compare->lower = mounts_copy(request->lower);
        compare->upper = mounts_copy(request->upper);
        compare->compression = "";
        compare->done = done;
        compare->data = data;
        strand_submit(compare->strand, begin, compare);
}
