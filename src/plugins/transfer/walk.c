// SPDX-License-Identifier: Apache-2.0
//
// Each object is visited once. One with children is read as soon as it is in the content store, looked into by a
// worker, labelled with its children, and those that are wanted are visited next. A manifest whose platform is to be
// unpacked visits its config first: only the config says under which names the layers' snapshots may be there already,
// and layers whose snapshots are there are not fetched, as containerd has it. All other manifests fetch all at once.
#include "plugins/transfer/walk.h"

#include "base/digest.h"
#include "base/words.h"
#include "core/fetcher.h"
#include "plugins/transfer/download.h"
#include "plugins/transfer/inspect.h"
#include "plugins/transfer/layers.h"
#include "plugins/transfer/progress.h"

#include <string.h>

#define DISTRIBUTION_SOURCE "containerd.io/distribution.source."
#define SCHEMA1 "application/vnd.docker.distribution.manifest.v1+prettyjws"

struct manifest { // a manifest on its way
        struct walk *walk;
        const struct node *node;
        struct nodes layer_nodes;
        const struct node *config;
        struct layers *layers; // NULL: not unpacked
        struct visit **visits; // of the layers
};

struct visit {
        struct walk *walk;
        const struct node *node, *parent;
        struct progress_job *progress;
        struct download *download;
        struct manifest *image; // of a config or layer
        size_t layer;
        bool done;
};

struct walk {
        struct walk_options options;
        struct operation *operation;
        struct wanted wanted;
        struct inspector *inspector;
        struct download_queue queue;
        GHashTable *visits; // digest → struct visit *
        GPtrArray *images;
        bool empty;
};

static struct visit *visit_node(
        struct walk *walk, const struct node *node, const struct node *parent, struct manifest *image, size_t layer);

static void visit_free(void *data)
{
        struct visit *visit = data;
        if (visit->download != NULL)
                download_free(visit->download);
        g_free(visit);
}

static void image_free(void *data)
{
        struct manifest *image = data;
        if (image->layers != NULL)
                layers_free(image->layers);
        g_free(image->visits);
        g_free(image);
}

static struct platform platform_of(const Types__Platform *record)
{
        return platform_normalize((struct platform){record->os, record->architecture, record->variant});
}

struct walk *walk_new(const struct walk_options *options)
{
        struct walk *walk = g_new0(struct walk, 1);
        struct operation *operation = options->operation;
        const TransferTypes__ImageStore *store = options->store;
        walk->options = *options;
        walk->operation = operation;
        walk->queue.limit = operation->service->max_downloads > 0 ? operation->service->max_downloads : G_MAXUINT;
        struct platform *platforms = arena_array(operation->arena, struct platform, store->n_platforms + 1);
        for (size_t i = 0; i < store->n_platforms; i++)
                platforms[i] = platform_of(store->platforms[i]);
        walk->wanted = (struct wanted){platforms, store->n_platforms, store->all_metadata, store->manifest_limit};
        walk->inspector = inspect_new(operation);
        walk->visits = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, visit_free);
        walk->images = g_ptr_array_new_with_free_func(image_free);
        walk->empty = true;
        return walk;
}

void walk_free(struct walk *walk)
{
        inspector_free(walk->inspector);
        g_ptr_array_unref(walk->images);
        g_hash_table_unref(walk->visits);
        g_free(walk);
}

void walk_stop(struct walk *walk)
{
        download_queue_flush(&walk->queue);
        for (size_t i = 0; i < walk->images->len; i++) {
                struct manifest *image = walk->images->pdata[i];
                if (image->layers != NULL)
                        layers_stop(image->layers);
        }
}

bool walk_is_empty(const struct walk *walk)
{
        return walk->empty;
}

// ---- labels

// One update for all labels that an object gets: its children, and where it came from.
static bool label_content(struct walk *walk, const struct node *node, const struct nodes *children, GError **error)
{
        struct operation *operation = walk->operation;
        struct content_store *content = operation->service->content;
        AUTO(arena) arena = arena_new();
        struct labels labels = {0};
        if (children != NULL)
                nodes_gc_labels(children, &labels, arena);
        if (walk->options.source_host != NULL) {
                struct blob known;
                if (!content->ops->info(content, &operation->scope, node->digest, arena, &known, error))
                        return false;
                const char *key = arena_printf(arena, DISTRIBUTION_SOURCE "%s", walk->options.source_host);
                // The repositories that a blob came from.
                g_autofree char *value =
                        words_merge(",", walk->options.source_repository, labels_get(&known.labels, key));
                struct label label = {key, value};
                const struct labels one = {&label, 1};
                if (labels_validate(&one, "", NULL))
                        labels_set(&labels, arena, key, value);
        }
        if (labels.n == 0)
                return true;
        char **paths = arena_array(arena, char *, labels.n);
        for (size_t i = 0; i < labels.n; i++)
                paths[i] = arena_printf(arena, "labels.%s", labels.items[i].key);
        struct blob blob = {.digest = node->digest, .labels = labels};
        return content->ops->update(content, &operation->scope, paths, labels.n, arena, &blob, error);
}

// ---- manifests and their layers

static void on_need(void *data, size_t first)
{
        struct manifest *image = data;
        for (size_t i = first; i < image->layer_nodes.n; i++) {
                struct visit *visit = visit_node(image->walk, &image->layer_nodes.items[i], image->node, image, i);
                image->visits[i] = visit;
                if (visit->image != image || visit->layer != i) {
                        // The same layer a second time: it is told of when its first visit is through.
                        if (visit->done && image->layers != NULL)
                                layers_done(image->layers, i);
                }
        }
}

static void on_extracting(void *data, size_t index)
{
        struct manifest *image = data;
        if (image->visits[index] != NULL)
                progress_extracting(image->visits[index]->progress);
}

static void on_extracted(void *data, size_t index)
{
        struct manifest *image = data;
        if (image->visits[index] != NULL)
                progress_extracted(image->visits[index]->progress);
}

static bool target_fits(const struct unpack_target *target, const struct platform *platform)
{
        return target->any_architecture ? strcmp(target->platform.os, platform->os) == 0
                                        : platform_match(target->platform, *platform) > 0;
}

// What the configuration and the client agree on for an image of this platform; NULL: it is not unpacked.
static struct snapshotter *choose_snapshotter(struct walk *walk, const struct platform *platform)
{
        const struct transfer_service *service = walk->operation->service;
        const TransferTypes__ImageStore *store = walk->options.store;
        for (size_t i = 0; i < store->n_unpacks; i++) {
                const TransferTypes__UnpackConfiguration *asked = store->unpacks[i];
                if (asked->platform != NULL && asked->platform->os[0] != '\0' &&
                        strcmp(asked->platform->os, platform->os) != 0)
                        continue;
                for (size_t j = 0; j < service->targets->len; j++) {
                        const struct unpack_target *target = service->targets->pdata[j];
                        bool named =
                                asked->snapshotter[0] == '\0' || strcmp(asked->snapshotter, target->snapshotter) == 0;
                        if (named && target_fits(target, platform))
                                return snapshotters_get(service->snapshotters, target->snapshotter, NULL);
                }
        }
        return NULL;
}

static bool check_diff_ids(const struct manifest *image, const Worker__Document *config, GError **error)
{
        if (config->n_diff_ids != image->layer_nodes.n)
                return error_fail(error, ERROR_UNKNOWN, "number of layers and diffIDs don't match: %zu != %zu",
                        image->layer_nodes.n, config->n_diff_ids);
        for (size_t i = 0; i < config->n_diff_ids; i++)
                if (!digest_parse(config->diff_ids[i], NULL, error))
                        return false;
        return true;
}

static void on_config(struct manifest *image, const Worker__Document *config)
{
        static const struct layers_handler handler = {on_need, on_extracting, on_extracted};
        struct walk *walk = image->walk;
        struct operation *operation = walk->operation;
        GError *error = NULL;
        if (image->layer_nodes.n == 0) // of another platform: its metadata alone is wanted
                return;
        if (config->kind != WORKER__DOCUMENT__KIND__KIND_CONFIG || config->platform == NULL) {
                on_need(image, 0);
                return;
        }
        struct platform platform = platform_normalize(
                (struct platform){config->platform->os, config->platform->architecture, config->platform->variant});
        if (!check_diff_ids(image, config, &error)) {
                operation_fail(operation, error);
                return;
        }
        struct snapshotter *snapshotter = choose_snapshotter(walk, &platform);
        if (snapshotter == NULL) {
                on_need(image, 0);
                return;
        }
        const char **diff_ids = arena_array(operation->arena, const char *, config->n_diff_ids);
        for (size_t i = 0; i < config->n_diff_ids; i++)
                diff_ids[i] = arena_strdup(operation->arena, config->diff_ids[i]);
        image->layers = layers_start(&(struct layers_options){
                .operation = operation,
                .snapshotter = snapshotter,
                .layers = &image->layer_nodes,
                .config = image->config,
                .diff_ids = diff_ids,
                .handler = &handler,
                .data = image,
        });
}

static void visit_manifest(struct walk *walk, const struct node *node, const struct nodes *children)
{
        if (walk->options.store->n_unpacks == 0) {
                for (size_t i = 0; i < children->n; i++)
                        visit_node(walk, &children->items[i], node, NULL, 0);
                return;
        }
        struct manifest *image = g_new0(struct manifest, 1);
        struct arena *arena = walk->operation->arena;
        image->walk = walk;
        image->node = node;
        image->layer_nodes.items = arena_array(arena, struct node, children->n + 1);
        g_ptr_array_add(walk->images, image);
        for (size_t i = 0; i < children->n; i++)
                if (node_kind(children->items[i].media_type) == NODE_LAYER)
                        image->layer_nodes.items[image->layer_nodes.n++] = children->items[i];
        image->visits = g_new0(struct visit *, image->layer_nodes.n + 1);
        for (size_t i = 0; i < children->n; i++) {
                const struct node *child = &children->items[i];
                enum node_kind kind = node_kind(child->media_type);
                bool config = kind == NODE_CONFIG && image->config == NULL;
                if (config)
                        image->config = child;
                if (kind != NODE_LAYER)
                        visit_node(walk, child, node, config ? image : NULL, 0);
        }
        if (image->config == NULL)
                on_need(image, 0);
}

// ---- documents

static void take_document(void *data, const Worker__Document *document)
{
        struct visit *visit = data;
        struct walk *walk = visit->walk;
        struct operation *operation = walk->operation;
        GError *error = NULL;
        if (node_kind(visit->node->media_type) == NODE_CONFIG) {
                if (visit->image != NULL)
                        on_config(visit->image, document);
                return;
        }
        struct nodes children = nodes_from_document(document, operation->arena);
        if (walk->options.on_children != NULL)
                walk->options.on_children(walk->options.data, visit->node, &children);
        if (!label_content(walk, visit->node, &children, &error) ||
                !nodes_filter(&children, visit->node, &walk->wanted, &error)) {
                operation_fail(operation, error);
                return;
        }
        if (children.n > 0)
                walk->empty = false;
        if (node_kind(visit->node->media_type) == NODE_MANIFEST) {
                visit_manifest(walk, visit->node, &children);
                return;
        }
        for (size_t i = 0; i < children.n; i++)
                visit_node(walk, &children.items[i], visit->node, NULL, 0);
}

static void inspect(struct visit *visit)
{
        inspect_blob(visit->walk->operation, &(const struct inspect_request){
                                                     .inspector = visit->walk->inspector,
                                                     .digest = visit->node->digest,
                                                     .media_type = visit->node->media_type,
                                                     .fn = take_document,
                                                     .data = visit,
                                             });
}

// ---- one object

// Every place that wants this layer, as some images have one layer several times.
static void tell_layer_done(struct visit *visit)
{
        for (size_t i = 0; i < visit->walk->images->len; i++) {
                struct manifest *image = visit->walk->images->pdata[i];
                for (size_t j = 0; image->layers != NULL && j < image->layer_nodes.n; j++)
                        if (image->visits[j] == visit)
                                layers_done(image->layers, j);
        }
}

static void on_there(void *data)
{
        struct visit *visit = data;
        struct walk *walk = visit->walk;
        GError *error = NULL;
        enum node_kind kind = node_kind(visit->node->media_type);
        visit->done = true;
        if (kind == NODE_INDEX || kind == NODE_MANIFEST) {
                inspect(visit);
                return;
        }
        if (!label_content(walk, visit->node, NULL, &error)) {
                operation_fail(walk->operation, error);
                return;
        }
        if (kind == NODE_CONFIG && visit->image != NULL)
                inspect(visit);
        else if (kind == NODE_LAYER)
                tell_layer_done(visit);
}

static void on_open(void *data)
{
        struct visit *visit = data;
        if (visit->image != NULL && visit->image->layers != NULL)
                layers_opened(visit->image->layers, visit->layer, visit->download);
}

static void on_there_later(void *data)
{
        struct visit *visit = data;
        struct operation *operation = visit->walk->operation;
        if (!operation_failed(operation))
                on_there(visit);
        operation_release(operation);
}

static void start_download(struct visit *visit)
{
        static const struct download_handler handler = {on_open, on_there};
        struct walk *walk = visit->walk;
        GError *error = NULL;
        if (visit->node->size == 0) {
                error_fail(&error, ERROR_INVALID_ARGUMENT,
                        "unable to fetch descriptor (%s) which reports content size of zero: invalid argument",
                        visit->node->digest);
                operation_fail(walk->operation, error);
                return;
        }
        visit->download = download_start(&(struct download_options){
                .operation = walk->operation,
                .queue = &walk->queue,
                .fetcher = walk->options.fetcher,
                .node = visit->node,
                .progress = visit->progress,
                .handler = &handler,
                .data = visit,
        });
}

static struct visit *visit_node(
        struct walk *walk, const struct node *node, const struct node *parent, struct manifest *image, size_t layer)
{
        struct visit *visit = g_hash_table_lookup(walk->visits, node->digest);
        if (visit != NULL)
                return visit;
        visit = g_new0(struct visit, 1);
        *visit = (struct visit){.walk = walk, .node = node, .parent = parent, .image = image, .layer = layer};
        g_hash_table_insert(walk->visits, (char *)node->digest, visit);
        if (operation_failed(walk->operation))
                return visit;
        if (walk->options.fetcher != NULL) {
                visit->progress = progress_add(walk->operation->progress, node, parent, walk->options.root_name);
                start_download(visit);
        } else {
                operation_hold(walk->operation);
                operation_submit(walk->operation, on_there_later, visit);
        }
        return visit;
}

void walk_start(struct walk *walk, const struct node *root)
{
        visit_node(walk, root, NULL, NULL, 0);
}
