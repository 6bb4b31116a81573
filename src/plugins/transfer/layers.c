// SPDX-License-Identifier: Apache-2.0
//
// Each layer takes its chain's lock, prepares a snapshot under a made-up key, and lets the differ fill it from the file
// that still grows. When both are through (the blob has its digest, the tar stream its diff id) and the layers below
// are committed, it is committed under its chain id. Where the snapshotter can put a snapshot on a parent at its
// commit, several layers are filled side by side, all but the first prepared without a parent; elsewhere one after the
// other. A snapshot that exists already, or that another pull made meanwhile, is taken as it is. Locks are taken from
// the bottom up, one at a time, so that two pulls never wait for each other. After a failure the snapshots under way
// are removed.
//
// Bytes are unpacked before they are known to be the right ones. Why a layer could not be unpacked is told only once
// its digest is known to be right.
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

enum state {
        IDLE,
        LOCKING,  // waits for its turn on the chain
        WAITING,  // for its bytes; the snapshot is prepared
        APPLYING, // the differ has it
        APPLIED,
        SPOILT,   // could not be applied; its bytes have not been verified yet
        EXISTING, // somebody else has made it
        COMMITTED,
        GIVEN_UP,
};

struct layer {
        struct layers *layers;
        size_t index;
        const struct node *node;
        const char *diff_id;
        char *chain_id;
        struct download *download; // NULL: it was there
        bool opened, done;         // told of it
        enum state state;
        // From LOCKING to COMMITTED, while which the layer holds the operation:
        char *lock_key, *key;
        bool rebased; // prepared without its parent
        GPtrArray *mounts;
        struct labels labels;
        struct differ_apply *apply;
        GError *error; // of SPOILT
};

struct layers {
        struct operation *operation;
        struct snapshotter *snapshotter;
        const struct node *config;
        struct layers_handler handler;
        void *data;
        struct layer *items;
        size_t n;
        size_t n_begun, n_committed; // from the bottom up
        size_t n_unpacking, limit;   // those that are prepared and not applied
        bool needed;                 // on_need was called
};

struct applied {
        struct layer *layer;
        char *diff_id;
        GError *error;
};

static void begin_layers(struct layers *layers);

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

static void leave_layer(struct layer *layer, enum state state)
{
        struct operation *operation = layer->layers->operation;
        if (layer->state == WAITING || layer->state == APPLYING)
                layer->layers->n_unpacking--;
        layer->state = state;
        if (layer->apply != NULL)
                operation->service->differ->ops->unref(g_steal_pointer(&layer->apply));
        g_clear_error(&layer->error);
        g_clear_pointer(&layer->mounts, g_ptr_array_unref);
        g_clear_pointer(&layer->key, g_free);
        locks_release(operation->service->locks, layer->lock_key);
        g_clear_pointer(&layer->lock_key, g_free);
        operation_release(operation);
}

static void give_up(struct layer *layer)
{
        struct layers *layers = layer->layers;
        if (layer->key != NULL)
                snapshotter_remove(layers->snapshotter, &layers->operation->scope, layer->key, NULL);
        leave_layer(layer, GIVEN_UP);
}

static void fail(struct layer *layer, GError *error)
{
        if (layer->state == WAITING || layer->state == APPLYING)
                layer->layers->n_unpacking--;
        layer->state = GIVEN_UP; // for layers_stop, which the failure calls
        operation_fail(layer->layers->operation, error);
        give_up(layer);
}

// Those that wait for their bytes, or for the layers below, wait in vain; the differ tells of the others.
void layers_stop(struct layers *layers)
{
        for (size_t i = 0; i < layers->n; i++) {
                struct layer *layer = &layers->items[i];
                if (layer->state == WAITING || layer->state == APPLIED || layer->state == SPOILT)
                        give_up(layer);
        }
}

// Whether the layer's bytes can be read already: whole, or while they come.
static bool readable(const struct layer *layer)
{
        return layer->done || (layer->opened && download_fd(layer->download) >= 0);
}

// ---- commits, from the bottom up

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

static const char *parent_of(const struct layer *layer)
{
        return layer->index > 0 ? layer->layers->items[layer->index - 1].chain_id : "";
}

static bool settle(struct layer *layer, GError **error)
{
        struct layers *layers = layer->layers;
        struct differ *differ = layers->operation->service->differ;
        g_autoptr(GPtrArray) mounts = snapshotter_mounts_on(
                layers->snapshotter, &layers->operation->scope, layer->key, parent_of(layer), error);
        return mounts != NULL && differ->ops->settle(layer->apply, mounts, error);
}

static bool commit_snapshot(struct layer *layer, GError **error)
{
        struct layers *layers = layer->layers;
        const struct scope *scope = &layers->operation->scope;
        const struct snapshot_commit commit = {
                .name = layer->chain_id,
                .key = layer->key,
                .parent = layer->rebased ? parent_of(layer) : NULL,
                .labels = layer->labels,
                .blob = layer->node->digest,
                .diff_id = layer->diff_id,
        };
        g_autoptr(GError) failure = NULL;
        if ((!layer->rebased || settle(layer, &failure)) &&
                snapshotter_commit(layers->snapshotter, scope, &commit, &failure)) {
                g_clear_pointer(&layer->key, g_free);
        } else if (!error_is(failure, ERROR_ALREADY_EXISTS)) {
                g_propagate_prefixed_error(
                        error, g_steal_pointer(&failure), "failed to commit snapshot %s: ", layer->key);
                return false;
        } else {
                snapshotter_remove(layers->snapshotter, scope, layer->key, NULL);
                g_clear_pointer(&layer->key, g_free);
        }
        return set_content_label(layers, layer->node->digest, LABEL_UNCOMPRESSED, layer->diff_id, error);
}

static void finish(struct layers *layers)
{
        g_autofree char *key =
                g_strconcat("containerd.io/gc.ref.snapshot.", snapshotter_name(layers->snapshotter), NULL);
        GError *error = NULL;
        if (!set_content_label(layers, layers->config->digest, key, layers->items[layers->n - 1].chain_id, &error))
                operation_fail(layers->operation, error);
}

// While the caller holds the operation.
static void commit_layers(struct layers *layers)
{
        while (layers->n_committed < layers->n) {
                struct layer *layer = &layers->items[layers->n_committed];
                GError *error = NULL;
                bool existing = layer->state == EXISTING;
                if (!existing && (layer->state != APPLIED || !layer->done))
                        return;
                if (!existing && !commit_snapshot(layer, &error)) {
                        fail(layer, error);
                        return;
                }
                layer->state = COMMITTED;
                if (++layers->n_committed == layers->n)
                        finish(layers);
                if (existing)
                        continue;
                layers->handler.on_extracted(layers->data, layer->index);
                leave_layer(layer, COMMITTED);
        }
}

// ---- filling a snapshot

static void on_applied_here(void *data)
{
        struct applied *applied = data;
        struct layer *layer = applied->layer;
        struct layers *layers = layer->layers;
        struct operation *operation = layers->operation;
        GError *error = g_steal_pointer(&applied->error);
        if (layer->download != NULL)
                download_unfollow(layer->download);
        if (error != NULL)
                g_prefix_error(&error, "failed to extract layer (%s %s) to %s as \"%s\": ", layer->node->media_type,
                        layer->node->digest, snapshotter_name(layers->snapshotter), layer->key);
        else if (strcmp(applied->diff_id, layer->diff_id) != 0)
                error_fail(&error, ERROR_UNKNOWN, "wrong diff id \"%s\" calculated on extraction \"%s\", desc \"%s\"",
                        applied->diff_id, layer->diff_id, layer->node->digest);
        g_free(applied->diff_id);
        g_free(applied);
        operation_hold(operation); // beyond the layer's own hold
        if (operation_failed(operation)) {
                g_clear_error(&error);
                give_up(layer);
        } else if (error != NULL && !layer->done) {
                // If the bytes are not what they should be, that is the reason, and the download will say so.
                layer->error = error;
                layer->state = SPOILT;
                layers->n_unpacking--;
        } else if (error != NULL) {
                fail(layer, error);
        } else {
                layer->state = APPLIED;
                layers->n_unpacking--;
                commit_layers(layers);
                begin_layers(layers);
        }
        operation_release(operation);
}

static void on_applied(void *data, const struct unpack_result *result, const GError *error)
{
        struct layer *layer = data;
        struct applied *applied = g_new0(struct applied, 1);
        applied->layer = layer;
        if (error != NULL)
                applied->error = g_error_copy(error);
        else
                applied->diff_id = g_strdup(result->diff_id);
        operation_submit(layer->layers->operation, on_applied_here, applied);
}

static void on_growth(void *data, int64_t n_bytes, bool complete)
{
        struct layer *layer = data;
        layer->layers->operation->service->differ->ops->advance(layer->apply, n_bytes, complete);
}

static void apply_layer(struct layer *layer)
{
        struct layers *layers = layer->layers;
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
                        fail(layer, error);
                        return;
                }
        }
        layer->state = APPLYING;
        layers->handler.on_extracting(layers->data, layer->index);
        layer->apply = differ->ops->apply(differ,
                &(struct differ_apply_request){
                        .media_type = layer->node->media_type,
                        .fd = grows ? download_fd(layer->download) : own_fd,
                        .available_bytes = size,
                        .complete = !grows,
                        .mounts = layer->mounts,
                        .rebased = layer->rebased,
                        .cancel = operation->stop,
                },
                on_applied, layer);
        if (grows)
                download_follow(layer->download, on_growth, layer);
}

void layers_opened(struct layers *layers, size_t index, struct download *download)
{
        struct layer *layer = &layers->items[index];
        layer->download = download;
        layer->opened = true;
        if (layer->state == WAITING && readable(layer))
                apply_layer(layer);
}

void layers_done(struct layers *layers, size_t index)
{
        struct layer *layer = &layers->items[index];
        struct operation *operation = layers->operation;
        layer->done = true;
        operation_hold(operation); // beyond the layer's own hold
        if (layer->state == WAITING) {
                apply_layer(layer);
        } else if (layer->state == SPOILT) {
                fail(layer, g_steal_pointer(&layer->error));
        } else if (layer->state == APPLIED) {
                commit_layers(layers);
                begin_layers(layers);
        }
        operation_release(operation);
}

// ---- the snapshot

static void make_labels(struct layer *layer)
{
        struct arena *arena = layer->layers->operation->arena;
        struct labels labels = {0};
        const struct labels *annotations = &layer->node->annotations;
        for (size_t i = 0; i < annotations->n; i++)
                if (g_str_has_prefix(annotations->items[i].key, LABEL_INHERITED) ||
                        strcmp(annotations->items[i].key, LABEL_REF) == 0)
                        labels_set(&labels, arena, annotations->items[i].key, annotations->items[i].value);
        labels_set(&labels, arena, LABEL_REF, layer->chain_id);
        labels_set(&labels, arena, LABEL_DIFF_ID, layer->diff_id);
        if (layer->index > 0)
                labels_set(&labels, arena, LABEL_PARENT, parent_of(layer));
        layer->labels = labels;
}

// True with layer->mounts set, or NULL if the snapshot is there already.
static bool prepare(struct layer *layer, GError **error)
{
        struct layers *layers = layer->layers;
        const struct scope *scope = &layers->operation->scope;
        g_autoptr(GError) failure = NULL;
        make_labels(layer);
        layer->rebased = layer->index > layers->n_committed;
        for (int attempt = 0; attempt < MAX_PREPARE_ATTEMPTS; attempt++) {
                g_clear_error(&failure);
                g_autofree char *random = identifier_random_hex(4);
                g_autofree char *key = g_strdup_printf(
                        "extract-%" G_GINT64_FORMAT "-%s %s", clock_now_ns() % NS_PER_SECOND, random, layer->chain_id);
                const struct snapshot_request request = {
                        .key = key, .parent = layer->rebased ? "" : parent_of(layer), .labels = layer->labels};
                layer->mounts = snapshotter_prepare(layers->snapshotter, scope, &request, &failure);
                if (layer->mounts != NULL) {
                        layer->key = g_steal_pointer(&key);
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
        struct layer *layer = data;
        struct layers *layers = layer->layers;
        struct operation *operation = layers->operation;
        GError *error = NULL;
        operation_hold(operation); // beyond the layer's own hold
        if (operation_failed(operation)) {
                give_up(layer);
        } else if (!prepare(layer, &error)) {
                fail(layer, error);
        } else if (layer->mounts == NULL) {
                leave_layer(layer, EXISTING);
                commit_layers(layers);
        } else {
                layer->state = WAITING;
                layers->n_unpacking++;
                if (!layers->needed) {
                        layers->needed = true;
                        layers->handler.on_need(layers->data, layer->index);
                } else if (readable(layer)) {
                        apply_layer(layer);
                }
        }
        begin_layers(layers);
        operation_release(operation);
}

static void on_chain_locked(void *data)
{
        struct layer *layer = data;
        operation_submit(layer->layers->operation, on_chain_locked_here, layer);
}

static bool may_begin(const struct layers *layers)
{
        size_t next = layers->n_begun;
        if (next == layers->n || operation_failed(layers->operation))
                return false;
        if (next == layers->n_committed)
                return true;
        bool side_by_side = layers->needed && layers->limit > 1;
        return side_by_side && layers->n_unpacking < layers->limit && layers->items[next - 1].state != LOCKING;
}

static void begin_layers(struct layers *layers)
{
        struct operation *operation = layers->operation;
        while (may_begin(layers)) {
                struct layer *layer = &layers->items[layers->n_begun++];
                operation_hold(operation);
                layer->state = LOCKING;
                layer->lock_key = g_strdup_printf("snapshot/%s/%s/%s", operation->scope.namespace_,
                        snapshotter_name(layers->snapshotter), layer->chain_id);
                locks_acquire(operation->service->locks, layer->lock_key, on_chain_locked, layer);
        }
}

struct layers *layers_start(const struct layers_options *options)
{
        struct layers *layers = g_new0(struct layers, 1);
        layers->operation = options->operation;
        layers->snapshotter = options->snapshotter;
        layers->config = options->config;
        layers->handler = *options->handler;
        layers->data = options->data;
        layers->limit = snapshotter_can_rebase(options->snapshotter) ? options->operation->service->max_unpacks : 1;
        layers->n = options->layers->n;
        layers->items = g_new0(struct layer, layers->n);
        for (size_t i = 0; i < layers->n; i++)
                layers->items[i] = (struct layer){
                        .layers = layers,
                        .index = i,
                        .node = &options->layers->items[i],
                        .diff_id = options->diff_ids[i],
                        .chain_id = layers_chain_id(options->diff_ids, i + 1),
                };
        begin_layers(layers);
        return layers;
}
