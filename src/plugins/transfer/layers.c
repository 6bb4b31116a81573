// SPDX-License-Identifier: Apache-2.0
//
// One layer after the other: take the chain's lock, prepare a snapshot under a made-up key, let the differ fill it from
// the file that still grows, and when both are through (the blob has its digest, the tar stream its diff id), commit
// the snapshot under its chain id. A snapshot that exists already, or that another pull made meanwhile, is taken as it
// is. After a failure the snapshot under way is removed.
#include "plugins/transfer/layers.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/identifier.h"
#include "plugins/transfer/download.h"
#include "plugins/transfer/operation.h"

#include <string.h>

#define LABEL_REF "containerd.io/snapshot.ref"
#define LABEL_PARENT "containerd.io/snapshot/parent-chain-id"
#define LABEL_DIFF_ID "containerd.io/snapshot/diff-id"
#define LABEL_UNCOMPRESSED "containerd.io/uncompressed"
#define LABEL_INHERITED "containerd.io/snapshot/"
#define MAX_PREPARE_ATTEMPTS 3

struct layer {
        const struct node *node;
        const char *diff_id;
        char *chain_id;
        struct download *download; // NULL: it was there
        bool opened, done;
};

struct layers {
        struct operation *operation;
        struct snapshotter *snapshotter;
        const struct node *config;
        struct layers_handler handler;
        void *data;
        struct layer *items;
        size_t n, index;
        bool needed; // on_need was called
        // Of the layer at index:
        char *lock_key, *key;
        GPtrArray *mounts;
        struct differ_apply *apply;
        bool waiting, applied; // for its file; the differ is through
        struct labels labels;
};

struct applied {
        struct layers *layers;
        char *diff_id;
        GError *error;
};

static void next_layer(struct layers *layers);

char *layers_chain_id(const char *const *diff_ids, size_t n)
{
        char *chain = g_strdup(n > 0 ? diff_ids[0] : "");
        for (size_t i = 1; i < n; i++) {
                g_autofree char *pair = g_strconcat(chain, " ", diff_ids[i], NULL);
                g_free(chain);
                chain = digest_of_bytes(DIGEST_SHA256, pair, strlen(pair));
        }
        return chain;
}

void layers_free(struct layers *layers)
{
        for (size_t i = 0; i < layers->n; i++)
                g_free(layers->items[i].chain_id);
        g_free(layers->items);
        g_free(layers);
}

// ---- the end of a layer

static void leave_layer(struct layers *layers)
{
        g_clear_pointer(&layers->mounts, g_ptr_array_unref);
        g_clear_pointer(&layers->key, g_free);
        if (layers->lock_key != NULL)
                locks_release(layers->operation->service->locks, layers->lock_key);
        g_clear_pointer(&layers->lock_key, g_free);
        layers->applied = layers->waiting = false;
}

static void give_up(struct layers *layers)
{
        if (layers->key != NULL)
                snapshotter_remove(layers->snapshotter, &layers->operation->scope, layers->key, NULL);
        leave_layer(layers);
        operation_release(layers->operation);
}

static void fail(struct layers *layers, GError *error)
{
        layers->waiting = layers->applied = false; // the failure's call of layers_stop is not to give up too
        operation_fail(layers->operation, error);
        give_up(layers);
}

// Whether the layer's bytes can be read already: whole, or while they come.
static bool readable(const struct layer *layer)
{
        return layer->done || (layer->opened && download_fd(layer->download) >= 0);
}

static bool set_content_label(
        struct layers *layers, const char *digest, const char *key, const char *value, GError **error)
{
        struct operation *operation = layers->operation;
        struct content_store *content = operation->service->content;
        AUTO(arena) arena = arena_new();
        struct blob blob = {.digest = digest};
        labels_set(&blob.labels, arena, key, value);
        char *path = arena_printf(arena, "labels.%s", key);
        return content->ops->update(content, &operation->scope, &path, 1, arena, &blob, error);
}

static bool commit_snapshot(struct layers *layers, GError **error)
{
        const struct layer *layer = &layers->items[layers->index];
        const struct snapshot_commit commit = {
                .name = layer->chain_id,
                .key = layers->key,
                .labels = layers->labels,
                .blob = layer->node->digest,
                .diff_id = layer->diff_id,
        };
        g_autoptr(GError) failure = NULL;
        if (!snapshotter_commit(layers->snapshotter, &layers->operation->scope, &commit, &failure)) {
                snapshotter_remove(layers->snapshotter, &layers->operation->scope, layers->key, NULL);
                if (!error_is(failure, ERROR_ALREADY_EXISTS)) {
                        g_propagate_prefixed_error(
                                error, g_steal_pointer(&failure), "failed to commit snapshot %s: ", layers->key);
                        g_clear_pointer(&layers->key, g_free);
                        return false;
                }
        }
        g_clear_pointer(&layers->key, g_free);
        return set_content_label(layers, layer->node->digest, LABEL_UNCOMPRESSED, layer->diff_id, error);
}

static void try_commit(struct layers *layers)
{
        if (!layers->applied || !layers->items[layers->index].done)
                return;
        GError *error = NULL;
        if (!commit_snapshot(layers, &error)) {
                fail(layers, error);
                return;
        }
        layers->handler.on_extracted(layers->data, layers->index);
        leave_layer(layers);
        layers->index++;
        next_layer(layers);
}

// ---- filling a snapshot

static void on_applied_here(void *data)
{
        struct applied *applied = data;
        struct layers *layers = applied->layers;
        const struct layer *layer = &layers->items[layers->index];
        struct differ *differ = layers->operation->service->differ;
        if (layer->download != NULL)
                download_unfollow(layer->download);
        differ->ops->unref(g_steal_pointer(&layers->apply));
        GError *error = g_steal_pointer(&applied->error);
        if (error != NULL)
                g_prefix_error(&error, "failed to extract layer (%s %s) to %s as \"%s\": ", layer->node->media_type,
                        layer->node->digest, snapshotter_name(layers->snapshotter), layers->key);
        else if (strcmp(applied->diff_id, layer->diff_id) != 0)
                error_fail(&error, ERROR_UNKNOWN, "wrong diff id \"%s\" calculated on extraction \"%s\", desc \"%s\"",
                        applied->diff_id, layer->diff_id, layer->node->digest);
        g_free(applied->diff_id);
        g_free(applied);
        if (error == NULL && operation_failed(layers->operation)) {
                give_up(layers);
                return;
        }
        if (error != NULL) {
                fail(layers, error);
                return;
        }
        layers->applied = true;
        try_commit(layers);
}

static void on_applied(void *data, const struct unpack_result *result, const GError *error)
{
        struct layers *layers = data;
        struct applied *applied = g_new0(struct applied, 1);
        applied->layers = layers;
        if (error != NULL)
                applied->error = g_error_copy(error);
        else
                applied->diff_id = g_strdup(result->diff_id);
        operation_submit(layers->operation, on_applied_here, applied);
}

static void on_growth(void *data, int64_t n_bytes, bool complete)
{
        struct layers *layers = data;
        layers->operation->service->differ->ops->advance(layers->apply, n_bytes, complete);
}

static void apply_layer(struct layers *layers)
{
        struct layer *layer = &layers->items[layers->index];
        struct operation *operation = layers->operation;
        struct content_store *content = operation->service->content;
        struct differ *differ = operation->service->differ;
        bool grows = layer->download != NULL && download_fd(layer->download) >= 0;
        fd_auto int own_fd = -1;
        int64_t size = 0;
        GError *error = NULL;
        if (!grows) {
                own_fd = content->ops->open(content, &operation->scope, layer->node->digest, &size, &error);
                if (own_fd < 0) {
                        fail(layers, error);
                        return;
                }
        }
        layers->waiting = false;
        layers->handler.on_extracting(layers->data, layers->index);
        layers->apply = differ->ops->apply(differ,
                &(struct differ_apply_request){
                        .media_type = layer->node->media_type,
                        .fd = grows ? download_fd(layer->download) : own_fd,
                        .available_bytes = size,
                        .complete = !grows,
                        .mounts = layers->mounts,
                        .cancel = operation->stop,
                },
                on_applied, layers);
        if (grows)
                download_follow(layer->download, on_growth, layers);
}

void layers_opened(struct layers *layers, size_t index, struct download *download)
{
        layers->items[index].download = download;
        layers->items[index].opened = true;
        if (layers->waiting && index == layers->index && readable(&layers->items[index]))
                apply_layer(layers);
}

void layers_done(struct layers *layers, size_t index)
{
        layers->items[index].done = true;
        if (index != layers->index)
                return;
        if (layers->waiting)
                apply_layer(layers);
        else
                try_commit(layers);
}

// A layer that waits for its file, or for the end of its download, will not get it.
void layers_stop(struct layers *layers)
{
        if (layers->waiting || layers->applied)
                give_up(layers);
}

// ---- the snapshot

static void make_labels(struct layers *layers)
{
        const struct layer *layer = &layers->items[layers->index];
        struct arena *arena = layers->operation->arena;
        struct labels labels = {0};
        const struct labels *annotations = &layer->node->annotations;
        for (size_t i = 0; i < annotations->n; i++)
                if (g_str_has_prefix(annotations->items[i].key, LABEL_INHERITED) ||
                        strcmp(annotations->items[i].key, LABEL_REF) == 0)
                        labels_set(&labels, arena, annotations->items[i].key, annotations->items[i].value);
        labels_set(&labels, arena, LABEL_REF, layer->chain_id);
        labels_set(&labels, arena, LABEL_DIFF_ID, layer->diff_id);
        if (layers->index > 0)
                labels_set(&labels, arena, LABEL_PARENT, layers->items[layers->index - 1].chain_id);
        layers->labels = labels;
}

// True with layers->mounts set, or NULL if the snapshot is there already.
static bool prepare(struct layers *layers, GError **error)
{
        const struct layer *layer = &layers->items[layers->index];
        const struct scope *scope = &layers->operation->scope;
        const char *parent = layers->index > 0 ? layers->items[layers->index - 1].chain_id : "";
        g_autoptr(GError) failure = NULL;
        make_labels(layers);
        for (int attempt = 0; attempt < MAX_PREPARE_ATTEMPTS; attempt++) {
                g_clear_error(&failure);
                g_autofree char *random = identifier_random_hex(4);
                g_autofree char *key = g_strdup_printf(
                        "extract-%" G_GINT64_FORMAT "-%s %s", clock_now_ns() % NS_PER_SECOND, random, layer->chain_id);
                const struct snapshot_request request = {.key = key, .parent = parent, .labels = layers->labels};
                layers->mounts = snapshotter_prepare(layers->snapshotter, scope, &request, &failure);
                if (layers->mounts != NULL) {
                        layers->key = g_steal_pointer(&key);
                        return true;
                }
                if (!error_is(failure, ERROR_ALREADY_EXISTS)) {
                        g_propagate_prefixed_error(error, g_steal_pointer(&failure),
                                "failed to prepare extraction snapshot \"%s\": ", key);
                        return false;
                }
                AUTO(arena) arena = arena_new();
                struct snapshot found;
                if (snapshotter_stat(layers->snapshotter, scope, layer->chain_id, arena, &found, NULL))
                        return true;
        }
        g_propagate_prefixed_error(error, g_steal_pointer(&failure), "unable to prepare extraction snapshot: ");
        return false;
}

static void on_chain_locked_here(void *data)
{
        struct layers *layers = data;
        GError *error = NULL;
        if (operation_failed(layers->operation)) {
                give_up(layers);
                return;
        }
        if (!prepare(layers, &error)) {
                fail(layers, error);
                return;
        }
        if (layers->mounts == NULL) {
                leave_layer(layers);
                layers->index++;
                next_layer(layers);
                return;
        }
        layers->waiting = true;
        if (!layers->needed) {
                layers->needed = true;
                layers->handler.on_need(layers->data, layers->index);
        } else if (readable(&layers->items[layers->index])) {
                apply_layer(layers);
        }
}

static void on_chain_locked(void *data)
{
        struct layers *layers = data;
        operation_submit(layers->operation, on_chain_locked_here, layers);
}

static void finish(struct layers *layers)
{
        g_autofree char *key =
                g_strconcat("containerd.io/gc.ref.snapshot.", snapshotter_name(layers->snapshotter), NULL);
        GError *error = NULL;
        if (!set_content_label(layers, layers->config->digest, key, layers->items[layers->n - 1].chain_id, &error))
                operation_fail(layers->operation, error);
        operation_release(layers->operation);
}

static void next_layer(struct layers *layers)
{
        if (operation_failed(layers->operation)) {
                give_up(layers);
                return;
        }
        if (layers->index == layers->n) {
                finish(layers);
                return;
        }
        layers->lock_key = g_strdup_printf("snapshot/%s/%s/%s", layers->operation->scope.namespace_,
                snapshotter_name(layers->snapshotter), layers->items[layers->index].chain_id);
        locks_acquire(layers->operation->service->locks, layers->lock_key, on_chain_locked, layers);
}

struct layers *layers_start(const struct layers_options *options)
{
        struct layers *layers = g_new0(struct layers, 1);
        layers->operation = options->operation;
        layers->snapshotter = options->snapshotter;
        layers->config = options->config;
        layers->handler = *options->handler;
        layers->data = options->data;
        layers->n = options->layers->n;
        layers->items = g_new0(struct layer, layers->n);
        for (size_t i = 0; i < layers->n; i++) {
                layers->items[i].node = &options->layers->items[i];
                layers->items[i].diff_id = options->diff_ids[i];
                layers->items[i].chain_id = layers_chain_id(options->diff_ids, i + 1);
        }
        operation_hold(options->operation);
        next_layer(layers);
        return layers;
}
