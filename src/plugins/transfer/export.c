// SPDX-License-Identifier: Apache-2.0
//
// Images as an archive on a client's stream: an OCI layout with docker's manifest.json beside it. First everything is
// collected: the images' trees are walked by a worker that reads their documents, each blob becomes a record, and index
// and manifest.json are written in memory. Then the records go out in the order of their names, each once, as fast as
// the client's window allows, and every blob is hashed on its way.
#include "base/log.h"
#include "base/reference.h"
#include "plugins/transfer/inspect.h"
#include "plugins/transfer/kinds.h"
#include "plugins/transfer/oci_json.h"
#include "plugins/transfer/outflow.h"
#include "plugins/transfer/progress.h"

#include <string.h>

#define INDEX_TYPE "application/vnd.oci.image.index.v1+json"

struct visit { // an object of an image
        struct export *export;
        const struct node *node;
        bool top; // an index that an image points to: its platforms are chosen
        bool manifest;
        struct node config; // of a manifest, once it was read
        struct nodes layers;
        bool read;
};

struct docker_image { // an entry of manifest.json
        struct visit *visit;
        GPtrArray *names;
};

struct export
{
        struct operation *operation;
        const TransferTypes__ImageExportStream *request;
        struct wanted wanted;
        struct inspector *inspector;
        GHashTable *visits;      // digest → struct visit *
        GHashTable *algorithms;  // names
        GPtrArray *records;      // struct outflow_record *
        GArray *targets;         // struct node, of index.json
        GPtrArray *target_names; // beside targets
        GPtrArray *docker;       // struct docker_image *
        struct outflow *outflow;
};

static void docker_image_free(void *data)
{
        struct docker_image *image = data;
        g_ptr_array_unref(image->names);
        g_free(image);
}

static void export_free(void *data)
{
        struct export *export = data;
        inspector_free(export->inspector);
        g_hash_table_unref(export->visits);
        g_hash_table_unref(export->algorithms);
        g_ptr_array_unref(export->records);
        g_array_unref(export->targets);
        g_ptr_array_unref(export->target_names);
        g_ptr_array_unref(export->docker);
        outflow_free(export->outflow);
        g_free(export);
}

// ---- records

static struct outflow_record *add_record(struct export *export, char *name, unsigned mode)
{
        struct outflow_record *record = g_new0(struct outflow_record, 1);
        record->name = name;
        record->mode = mode;
        g_ptr_array_add(export->records, record);
        return record;
}

static void add_document(struct export *export, const char *name, unsigned mode, json_t *document)
{
        size_t n_bytes;
        char *bytes = oci_json_print(document, &n_bytes);
        struct outflow_record *record = add_record(export, g_strdup(name), mode);
        record->bytes = g_bytes_new_take(bytes, n_bytes);
        record->size = (int64_t)n_bytes;
}

static char *blob_name(const char *digest)
{
        size_t n = strcspn(digest, ":");
        return g_strdup_printf("blobs/%.*s/%s", (int)n, digest, digest + n + 1);
}

static void add_blob(struct export *export, const struct node *node)
{
        if (export->request->skip_non_distributable && media_type_is_nondistributable(node->media_type))
                return;
        struct outflow_record *record = add_record(export, blob_name(node->digest), 0444);
        record->size = node->size;
        record->blob = node;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
        return strcmp((*(struct outflow_record *const *)a)->name, (*(struct outflow_record *const *)b)->name);
}

// ---- the images' trees

static struct visit *visit_node(struct export *export, const struct node *node, bool top);

// Of an index that an image points to: the platforms that are asked for, and which of them docker is to see.
static void choose_manifests(struct export *export, struct visit *visit, const struct nodes *children)
{
        const struct node *best = NULL;
        int best_rank = -1;
        for (size_t i = 0; i < children->n; i++) {
                const struct node *child = &children->items[i];
                int rank = child->has_platform ? wanted_match(&export->wanted, &child->platform) : 0;
                bool matches = !child->has_platform || rank > 0;
                if (matches && rank > best_rank) {
                        best = child;
                        best_rank = rank;
                }
                if (matches || export->request->all_platforms)
                        visit_node(export, child, false);
        }
        if (best == NULL) {
                GError *error = NULL;
                error_fail(&error, ERROR_NOT_FOUND, "no manifest found for platform: not found");
                operation_fail(export->operation, error);
                return;
        }
        visit->layers = (struct nodes){arena_new0(export->operation->arena, struct node), 1};
        visit->layers.items[0] = *best;
}

static void take_document(void *data, const Worker__Document *document)
{
        struct visit *visit = data;
        struct export *export = visit->export;
        struct nodes children = nodes_from_document(document, export->operation->arena);
        visit->read = true;
        if (visit->top) {
                choose_manifests(export, visit, &children);
                return;
        }
        visit->manifest = document->kind == WORKER__DOCUMENT__KIND__KIND_MANIFEST;
        if (visit->manifest && document->config != NULL) {
                visit->config = children.items[0];
                visit->layers = (struct nodes){children.items + 1, children.n - 1};
        }
        for (size_t i = 0; i < children.n; i++)
                visit_node(export, &children.items[i], false);
}

static void inspect(struct visit *visit)
{
        inspect_blob(visit->export->operation, &(const struct inspect_request){
                                                       .inspector = visit->export->inspector,
                                                       .digest = visit->node->digest,
                                                       .media_type = visit->node->media_type,
                                                       .fn = take_document,
                                                       .data = visit,
                                               });
}

static struct visit *visit_node(struct export *export, const struct node *node, bool top)
{
        struct visit *visit = g_hash_table_lookup(export->visits, node->digest);
        if (visit != NULL)
                return visit;
        visit = g_new0(struct visit, 1);
        *visit = (struct visit){.export = export, .node = node, .top = top};
        g_hash_table_insert(export->visits, (char *)node->digest, visit);
        add_blob(export, node);
        if (!top)
                g_hash_table_add(export->algorithms, g_strndup(node->digest, strcspn(node->digest, ":")));
        enum node_kind kind = node_kind(node->media_type);
        if (kind == NODE_INDEX || kind == NODE_MANIFEST)
                inspect(visit);
        return visit;
}

// ---- the documents of the archive

static struct docker_image *docker_image_of(struct export *export, struct visit *visit)
{
        for (size_t i = 0; i < export->docker->len; i++) {
                struct docker_image *known = export->docker->pdata[i];
                if (known->visit == visit)
                        return known;
        }
        struct docker_image *image = g_new0(struct docker_image, 1);
        image->visit = visit;
        image->names = g_ptr_array_new();
        g_ptr_array_add(export->docker, image);
        return image;
}

static void collect_docker_images(struct export *export)
{
        for (size_t i = 0; i < export->targets->len; i++) {
                const struct node *target = &g_array_index(export->targets, struct node, i);
                struct visit *visit = g_hash_table_lookup(export->visits, target->digest);
                if (visit->top)
                        visit = visit->layers.n > 0 ? g_hash_table_lookup(export->visits, visit->layers.items[0].digest)
                                                    : NULL;
                if (visit == NULL || !visit->manifest || visit->config.digest == NULL)
                        continue;
                g_ptr_array_add(docker_image_of(export, visit)->names, export->target_names->pdata[i]);
        }
}

static json_t *docker_names(const struct docker_image *image, GError **error)
{
        json_t *list = json_array();
        for (size_t i = 0; i < image->names->len; i++) {
                g_autofree char *familiar = reference_familiar(image->names->pdata[i], error);
                if (familiar == NULL) {
                        g_prefix_error(error, "unable to create manifests file: ");
                        json_decref(list);
                        return NULL;
                }
                json_array_append_new(list, json_string(familiar));
        }
        return list;
}

static bool add_docker_manifest(struct export *export, GError **error)
{
        json_t *list = json_array();
        for (size_t i = 0; i < export->docker->len; i++) {
                const struct docker_image *image = export->docker->pdata[i];
                json_t *names = docker_names(image, error);
                if (names == NULL) {
                        json_decref(list);
                        return false;
                }
                json_t *entry = json_object(), *layers = json_array();
                g_autofree char *config = blob_name(image->visit->config.digest);
                for (size_t j = 0; j < image->visit->layers.n; j++) {
                        g_autofree char *layer = blob_name(image->visit->layers.items[j].digest);
                        json_array_append_new(layers, json_string(layer));
                }
                json_object_set_new(entry, "Config", json_string(config));
                json_object_set_new(entry, "RepoTags", names);
                json_object_set_new(entry, "Layers", layers);
                json_array_append_new(list, entry);
        }
        add_document(export, "manifest.json", 0644, list);
        return true;
}

static bool add_documents(struct export *export, GError **error)
{
        json_t *layout = json_object();
        json_object_set_new(layout, "imageLayoutVersion", json_string("1.0.0"));
        add_document(export, "oci-layout", 0444, layout);
        struct nodes targets = {(struct node *)export->targets->data, export->targets->len};
        add_document(export, "index.json", 0644, oci_json_index(INDEX_TYPE, &targets));
        collect_docker_images(export);
        if (!export->request->skip_compatibility_manifest && export->docker->len > 0 &&
                !add_docker_manifest(export, error))
                return false;
        GHashTableIter iter;
        gpointer algorithm;
        if (g_hash_table_size(export->algorithms) > 0)
                add_record(export, g_strdup("blobs/"), 0755)->directory = true;
        g_hash_table_iter_init(&iter, export->algorithms);
        while (g_hash_table_iter_next(&iter, &algorithm, NULL))
                add_record(export, g_strdup_printf("blobs/%s/", (char *)algorithm), 0755)->directory = true;
        g_ptr_array_sort(export->records, by_name);
        for (size_t i = export->records->len; i-- > 1;) {
                const struct outflow_record *one = export->records->pdata[i - 1], *two = export->records->pdata[i];
                if (strcmp(one->name, two->name) == 0)
                        g_ptr_array_remove_index(export->records, (guint)i);
        }
        return true;
}

// ---- the steps

static void on_collected(struct operation *operation)
{
        struct export *export = operation->state;
        GError *error = NULL;
        if (!add_documents(export, &error)) {
                operation_fail(operation, error);
                return;
        }
        outflow_start(export->outflow, export->records);
}

static void on_fail(struct operation *operation)
{
        struct export *export = operation->state;
        outflow_stop(export->outflow);
}

// An image's target with the annotations that name it, and where its content came from.
static bool add_target(struct export *export, const char *name, GError **error)
{
        struct operation *operation = export->operation;
        struct content_store *content = operation->service->content;
        struct image image;
        if (!image_get(&operation->service->images, operation->scope.namespace_, name, operation->arena, &image, error))
                return false;
        struct node target = {
                .media_type = image.target.media_type,
                .digest = image.target.digest,
                .size = image.target.size,
                .annotations = labels_copy(&image.target.annotations, operation->arena),
                .os_version = "",
                .artifact_type = "",
        };
        g_autofree char *tag = reference_oci_name(name);
        labels_set(&target.annotations, operation->arena, "io.containerd.image.name", name);
        labels_set(&target.annotations, operation->arena, "org.opencontainers.image.ref.name", tag);
        struct blob info;
        g_autoptr(GError) failure = NULL;
        if (!content->ops->info(content, &operation->scope, target.digest, operation->arena, &info, &failure)) {
                log_warn("failed to copy distribution.source labels", "digest", target.digest, "error",
                        failure->message);
                return true;
        }
        for (size_t i = 0; i < info.labels.n; i++)
                if (g_str_has_prefix(info.labels.items[i].key, "containerd.io/distribution.source"))
                        labels_set(&target.annotations, operation->arena, info.labels.items[i].key,
                                info.labels.items[i].value);
        g_array_append_val(export->targets, target);
        g_ptr_array_add(export->target_names, (char *)name);
        return true;
}

static bool add_targets(struct export *export, GError **error)
{
        const TransferTypes__ImageStore *store = export->operation->request->source.store;
        if (store->name[0] != '\0' && !add_target(export, store->name, error))
                return false;
        for (size_t i = 0; i < store->n_extra_references; i++) {
                if (store->extra_references[i]->is_prefix)
                        return error_fail(
                                error, ERROR_UNIMPLEMENTED, "prefix lookup on export not implemented: not implemented");
                if (!add_target(export, store->extra_references[i]->name, error))
                        return false;
        }
        for (size_t i = 0; i < export->targets->len; i++) {
                const struct node *target = &g_array_index(export->targets, struct node, i);
                enum node_kind kind = node_kind(target->media_type);
                if (kind != NODE_MANIFEST && kind != NODE_INDEX)
                        return error_fail(
                                error, ERROR_INVALID_ARGUMENT, "only manifests may be exported: invalid argument");
                visit_node(export, target, kind == NODE_INDEX);
        }
        return true;
}

static void choose_platforms(struct export *export)
{
        struct arena *arena = export->operation->arena;
        size_t n = export->request->n_platforms;
        struct platform *platforms = arena_array(arena, struct platform, n + 1);
        for (size_t i = 0; i < n; i++) {
                const Types__Platform *asked = export->request->platforms[i];
                platforms[i] = platform_normalize((struct platform){asked->os, asked->architecture, asked->variant});
        }
        if (n == 0)
                platforms[n++] = platform_host();
        export->wanted = (struct wanted){.platforms = platforms, .n = n};
}

void export_begin(struct operation *operation)
{
        struct export *export = g_new0(struct export, 1);
        export->operation = operation;
        export->request = operation->request->destination.export;
        export->visits = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
        export->algorithms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        export->records = g_ptr_array_new_with_free_func(outflow_record_free);
        export->targets = g_array_new(FALSE, FALSE, sizeof(struct node));
        export->target_names = g_ptr_array_new();
        export->docker = g_ptr_array_new_with_free_func(docker_image_free);
        export->inspector = inspect_new(operation);
        operation->state = export;
        operation->state_free = export_free;
        operation->on_fail = on_fail;
        operation->next = on_collected;
        choose_platforms(export);
        progress_event(operation->progress, "Exporting", NULL, NULL);
        export->outflow = outflow_new(operation, operation->request->destination.stream);
        GError *error = NULL;
        if (!add_targets(export, &error))
                operation_fail(operation, error);
}
