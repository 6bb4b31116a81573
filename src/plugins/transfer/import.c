// SPDX-License-Identifier: Apache-2.0
//
// An archive from a client's stream into the image store. The bytes go through a pipe to a worker that takes the
// archive apart; its files come back one after the other and become blobs, whatever they are called. What they mean is
// known at the end: an OCI layout's index.json, or the images of a Docker archive, for which manifests and an index are
// written here. Then the index is walked like that of a pull, with nothing to fetch.
#include "base/digest.h"
#include "base/filter.h"
#include "base/identifier.h"
#include "base/reference.h"
#include "plugins/transfer/compress.h"
#include "plugins/transfer/inflow.h"
#include "plugins/transfer/inspect.h"
#include "plugins/transfer/kinds.h"
#include "plugins/transfer/oci_json.h"
#include "plugins/transfer/progress.h"
#include "plugins/transfer/walk.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define INDEX_TYPE "application/vnd.oci.image.index.v1+json"
#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"

struct archived { // a file of the archive, now a blob
        char *digest;
        int64_t size;
        char *compression;
};

struct import {
        struct operation *operation;
        struct inflow *inflow;
        // The worker's files, on the split's strand until its end:
        struct split *split;
        GHashTable *files; // name → struct archived *
        struct content_writer *writer;
        char *name, *compression, *prefix;
        unsigned n_files;
        // What they mean:
        Worker__ArchiveEnd *end;
        struct inspector *inspector;
        size_t next_image, next_layer; // the latter to be compressed
        GArray *manifests;             // of struct node
        struct node root;
        struct walk *walk;
        struct nodes top; // the index's children
};

static void archived_free(void *data)
{
        struct archived *archived = data;
        g_free(archived->digest);
        g_free(archived->compression);
        g_free(archived);
}

static void import_free(void *data)
{
        struct import *import = data;
        if (import->walk != NULL)
                walk_free(import->walk);
        if (import->inspector != NULL)
                inspector_free(import->inspector);
        if (import->end != NULL)
                worker__archive_end__free_unpacked(import->end, NULL);
        if (import->split != NULL)
                split_unref(import->split);
        if (import->inflow != NULL)
                inflow_free(import->inflow);
        g_hash_table_unref(import->files);
        g_array_unref(import->manifests);
        g_free(import->prefix);
        g_free(import->name);
        g_free(import->compression);
        g_free(import);
}

// ---- files, on the split's strand

static bool on_file(void *data, const char *name, uint64_t size, const char *compression, GError **error)
{
        struct import *import = data;
        struct content_store *content = import->operation->service->content;
        g_autofree char *ref = g_strdup_printf("%s-%u", import->prefix, import->n_files++);
        const struct content_expect expect = {.ref = ref, .total = (int64_t)size};
        import->writer = content->ops->writer(content, &import->operation->scope, &expect, error);
        if (import->writer == NULL)
                return false;
        import->name = g_strdup(name);
        import->compression = g_strdup(compression);
        return true;
}

static bool on_bytes(void *data, const void *bytes, size_t n_bytes, GError **error)
{
        struct import *import = data;
        return import->writer->ops->write(import->writer, bytes, n_bytes, error);
}

static bool on_file_end(void *data, GError **error)
{
        struct import *import = data;
        struct content_status status;
        import->writer->ops->status(import->writer, &status);
        struct archived *archived = g_new0(struct archived, 1);
        archived->digest = import->writer->ops->digest(import->writer);
        archived->size = status.offset;
        archived->compression = g_steal_pointer(&import->compression);
        const struct content_commit commit = {.size = archived->size, .expected = archived->digest};
        g_autoptr(GError) failure = NULL;
        bool good = import->writer->ops->commit(import->writer, &commit, &failure) ||
                    error_is(failure, ERROR_ALREADY_EXISTS);
        content_writer_close(g_steal_pointer(&import->writer));
        if (!good) {
                g_propagate_prefixed_error(error, g_steal_pointer(&failure), "failed to ingest \"%s\": ", import->name);
                archived_free(archived);
                return false;
        }
        g_hash_table_replace(import->files, g_steal_pointer(&import->name), archived);
        return true;
}

struct ended {
        struct import *import;
        Worker__ArchiveEnd *end;
        GError *error;
};

static void on_split_here(void *data);

static void on_split(void *data, const Worker__ArchiveEnd *end, const GError *error)
{
        struct import *import = data;
        struct ended *ended = g_new0(struct ended, 1);
        ended->import = import;
        if (import->writer != NULL)
                content_writer_close(g_steal_pointer(&import->writer));
        if (error != NULL) {
                ended->error = g_error_copy(error);
        } else {
                size_t n_bytes = worker__archive_end__get_packed_size(end);
                g_autofree uint8_t *bytes = g_malloc(n_bytes + 1);
                worker__archive_end__pack(end, bytes);
                ended->end = worker__archive_end__unpack(NULL, n_bytes, bytes);
        }
        operation_submit(import->operation, on_split_here, ended);
}

// ---- what the files mean

static struct archived *find_file(struct import *import, const ProtobufCBinaryData *name)
{
        g_autofree char *text = g_strndup((const char *)name->data, name->len);
        return g_hash_table_lookup(import->files, text);
}

static bool write_document(
        struct import *import, json_t *document, const char *media_type, struct node *ret_node, GError **error)
{
        struct operation *operation = import->operation;
        size_t n_bytes;
        g_autofree char *bytes = oci_json_print(document, &n_bytes);
        g_autofree char *digest = digest_of_bytes(DIGEST_SHA256, bytes, n_bytes);
        g_autofree char *ref = g_strconcat("manifest-", digest, NULL);
        const struct content_commit commit = {.size = (int64_t)n_bytes, .expected = digest};
        if (!content_write(operation->service->content, &operation->scope, ref, bytes, n_bytes, &commit, error))
                return false;
        *ret_node = (struct node){
                .media_type = media_type,
                .digest = arena_strdup(operation->arena, digest),
                .size = (int64_t)n_bytes,
                .os_version = "",
                .artifact_type = "",
        };
        return true;
}

static bool take_compressed(void *data, const struct blob *blob)
{
        struct node *layer = data;
        if (strcmp(blob->digest, layer->digest) == 0)
                return true;
        layer->digest = blob->digest;
        layer->size = blob->size;
        layer->media_type = DOCKER_LAYER ".gzip";
        return false;
}

// A plain layer that is there in its compressed form already, from a pull, is used in that form.
static bool find_compressed(struct import *import, struct node *layer, GError **error)
{
        struct operation *operation = import->operation;
        struct content_store *content = operation->service->content;
        g_autofree char *text = g_strdup_printf("labels.\"containerd.io/uncompressed\"==%s", layer->digest);
        char *texts[] = {text};
        AUTO(filter) filter = filter_parse(texts, 1, error);
        if (filter == NULL)
                return false;
        AUTO(arena) arena = arena_new();
        if (!content->ops->walk(content, &operation->scope, filter, arena, take_compressed, layer, error))
                return false;
        layer->digest = arena_strdup(operation->arena, layer->digest);
        return true;
}

static bool layers_of(struct import *import, const Worker__DockerImage *image, struct nodes *ret, GError **error)
{
        struct arena *arena = import->operation->arena;
        struct nodes layers = {arena_array(arena, struct node, image->n_layers + 1), 0};
        for (size_t i = 0; i < image->n_layers; i++) {
                const struct archived *file = find_file(import, &image->layers[i]);
                if (file == NULL)
                        return error_fail(error, ERROR_UNKNOWN, "failed to resolve layers: layer \"%.*s\" not found",
                                (int)image->layers[i].len, (const char *)image->layers[i].data);
                bool plain = file->compression[0] == '\0', zstd = strcmp(file->compression, "zstd") == 0;
                struct node *layer = &layers.items[layers.n++];
                *layer = (struct node){
                        .media_type = plain  ? DOCKER_LAYER
                                      : zstd ? DOCKER_LAYER ".zstd"
                                             : DOCKER_LAYER ".gzip",
                        .digest = arena_strdup(arena, file->digest),
                        .size = file->size,
                };
                if (plain && !find_compressed(import, layer, error))
                        return false;
        }
        *ret = layers;
        return true;
}

// One entry of the index for each tag, or one without a name.
static bool add_manifests(
        struct import *import, const Worker__DockerImage *image, const struct node *manifest, GError **error)
{
        struct arena *arena = import->operation->arena;
        if (image->n_repo_tags == 0)
                g_array_append_val(import->manifests, *manifest);
        for (size_t i = 0; i < image->n_repo_tags; i++) {
                struct node named = *manifest;
                g_autofree char *name = reference_normalize(image->repo_tags[i], error);
                if (name == NULL) {
                        g_prefix_error(error, "normalize image ref \"%s\": ", image->repo_tags[i]);
                        return false;
                }
                g_autofree char *tag = reference_oci_name(name);
                named.annotations = (struct labels){0};
                labels_set(&named.annotations, arena, "io.containerd.image.name", name);
                labels_set(&named.annotations, arena, "org.opencontainers.image.ref.name", tag);
                g_array_append_val(import->manifests, named);
        }
        return true;
}

static bool make_image(struct import *import, const Worker__DockerImage *image, const Worker__Document *config,
        const struct archived *config_file, GError **error)
{
        struct arena *arena = import->operation->arena;
        struct node config_node = {
                .media_type = DOCKER_CONFIG, .digest = config_file->digest, .size = config_file->size};
        struct nodes layers;
        struct node manifest;
        if (!layers_of(import, image, &layers, error))
                return false;
        if (!write_document(
                    import, oci_json_docker_manifest(&config_node, &layers), DOCKER_MANIFEST, &manifest, error)) {
                g_prefix_error(error, "write docker manifest: ");
                return false;
        }
        if (config->platform != NULL && config->platform->os[0] != '\0') {
                manifest.has_platform = true;
                struct platform platform = platform_normalize((struct platform){
                        config->platform->os, config->platform->architecture, config->platform->variant});
                manifest.platform = (struct platform){arena_strdup(arena, platform.os),
                        arena_strdup(arena, platform.architecture), arena_strdup(arena, platform.variant)};
        }
        return add_manifests(import, image, &manifest, error);
}

static void next_image(struct import *import);

static void on_config(void *data, const Worker__Document *document)
{
        struct import *import = data;
        const Worker__DockerImage *image = import->end->images[import->next_image];
        GError *error = NULL;
        if (!make_image(import, image, document, find_file(import, &image->config), &error)) {
                operation_fail(import->operation, error);
                return;
        }
        import->next_image++;
        import->next_layer = 0;
        next_image(import);
}

static void note_children(void *data, const struct node *parent, struct nodes *children)
{
        struct import *import = data;
        if (strcmp(parent->digest, import->root.digest) != 0)
                return;
        struct nodes top = {arena_array(import->operation->arena, struct node, children->n + 1), children->n};
        memcpy(top.items, children->items, children->n * sizeof(struct node));
        import->top = top;
}

static void finish(struct operation *operation);

static void walk_root(struct import *import)
{
        import->operation->next = finish;
        import->walk = walk_new(&(struct walk_options){
                .operation = import->operation,
                .store = import->operation->request->destination.store,
                .root_name = "",
                .on_children = note_children,
                .data = import,
        });
        walk_start(import->walk, &import->root);
}

static void on_compressed(void *data)
{
        next_image(data);
}

// Begins with the next plain layer of the image that is not there in a compressed form; false: there is none, or it
// failed. layers_of finds the compressed ones by their labels.
static bool compress_next(struct import *import, const Worker__DockerImage *image, GError **error)
{
        while (import->operation->request->source.import->force_compress && import->next_layer < image->n_layers) {
                const struct archived *file = find_file(import, &image->layers[import->next_layer++]);
                if (file == NULL || file->compression[0] != '\0')
                        continue;
                struct node layer = {.media_type = DOCKER_LAYER, .digest = file->digest};
                if (!find_compressed(import, &layer, error))
                        return false;
                if (strcmp(layer.media_type, DOCKER_LAYER) != 0)
                        continue;
                compress_layer(import->operation, file->digest, on_compressed, import);
                return true;
        }
        return false;
}

// The images of a Docker archive, one after the other: each config tells the platform.
static void next_image(struct import *import)
{
        struct operation *operation = import->operation;
        GError *error = NULL;
        if (import->next_image == import->end->n_images) {
                struct nodes manifests = {(struct node *)import->manifests->data, import->manifests->len};
                if (write_document(import, oci_json_index(NULL, &manifests), INDEX_TYPE, &import->root, &error))
                        walk_root(import);
                else
                        operation_fail(operation, error);
                return;
        }
        const Worker__DockerImage *image = import->end->images[import->next_image];
        const struct archived *config = find_file(import, &image->config);
        if (compress_next(import, image, &error))
                return;
        if (error == NULL && config == NULL)
                error_fail(&error, ERROR_UNKNOWN, "image config \"%.*s\" not found", (int)image->config.len,
                        (const char *)image->config.data);
        if (error != NULL) {
                operation_fail(operation, error);
                return;
        }
        inspect_blob(operation, &(const struct inspect_request){
                                        .inspector = import->inspector,
                                        .digest = config->digest,
                                        .media_type = DOCKER_CONFIG,
                                        .prefix = "unable to resolve platform: ",
                                        .fn = on_config,
                                        .data = import,
                                });
}

static void understand(struct import *import)
{
        struct operation *operation = import->operation;
        GError *error = NULL;
        if (import->end->oci_layout_version[0] == '\0') {
                next_image(import);
                return;
        }
        const struct archived *index = g_hash_table_lookup(import->files, "index.json");
        if (strcmp(import->end->oci_layout_version, "1.0.0") != 0)
                error_fail(&error, ERROR_UNKNOWN, "unsupported OCI version %s", import->end->oci_layout_version);
        else if (index == NULL)
                error_fail(&error, ERROR_UNKNOWN, "missing index.json in OCI layout 1.0.0");
        if (error != NULL) {
                operation_fail(operation, error);
                return;
        }
        import->root = (struct node){.media_type = INDEX_TYPE,
                .digest = index->digest,
                .size = index->size,
                .os_version = "",
                .artifact_type = ""};
        walk_root(import);
}

static void on_split_here(void *data)
{
        struct ended *ended = data;
        struct import *import = ended->import;
        if (ended->error != NULL) {
                operation_fail(import->operation, g_steal_pointer(&ended->error));
        } else {
                import->end = g_steal_pointer(&ended->end);
                if (!operation_failed(import->operation))
                        understand(import);
        }
        g_free(ended);
        operation_release(import->operation);
}

static void finish(struct operation *operation)
{
        struct import *import = operation->state;
        const TransferTypes__ImageStore *store = operation->request->destination.store;
        g_autoptr(GError) error = NULL;
        if (walk_is_empty(import->walk)) {
                error_fail(&error, ERROR_UNKNOWN, "image might be filtered out");
                operation_fail(operation, g_steal_pointer(&error));
                return;
        }
        // The index itself, then what it lists; that one of them has no name is no failure.
        for (size_t i = 0; i <= import->top.n; i++) {
                const struct node *node = i == 0 ? &import->root : &import->top.items[i - 1];
                g_clear_error(&error);
                if (!names_store(operation, store, node, i > 0, &error) && !error_is(error, ERROR_NOT_FOUND)) {
                        operation_fail(operation, g_steal_pointer(&error));
                        return;
                }
        }
        progress_event(operation->progress, "Completed import", NULL, NULL);
}

static void on_fail(struct operation *operation)
{
        struct import *import = operation->state;
        if (import->walk != NULL)
                walk_stop(import->walk);
        if (import->split != NULL)
                split_abort(import->split, operation->error);
        if (import->inflow != NULL)
                inflow_stop(import->inflow);
}

static bool start_split(struct import *import, GError **error)
{
        static const struct split_handler handler = {on_file, on_bytes, on_file_end, on_split};
        struct operation *operation = import->operation;
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
                return error_fail_errno(error, errno, "make a pipe");
        operation_hold(operation); // on_split_here gives it back
        import->split = split_start(operation->service->differ->unpacker, fds[0], operation->stop, &handler, import);
        close(fds[0]);
        import->inflow = inflow_start(operation, operation->request->source.stream, fds[1]);
        return true;
}

void import_begin(struct operation *operation)
{
        struct import *import = g_new0(struct import, 1);
        g_autofree char *random = identifier_random_hex(6);
        import->operation = operation;
        import->files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, archived_free);
        import->manifests = g_array_new(FALSE, FALSE, sizeof(struct node));
        import->prefix = g_strconcat("import-", random, NULL);
        operation->state = import;
        operation->state_free = import_free;
        operation->on_fail = on_fail;
        progress_event(operation->progress, "Importing", NULL, NULL);
        GError *error = NULL;
        import->inspector = inspect_new(operation);
        if (!start_split(import, &error))
                operation_fail(operation, error);
}
