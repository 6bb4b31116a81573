// SPDX-License-Identifier: Apache-2.0
//
// Images as an archive on a client's stream: an OCI layout with docker's manifest.json beside it. First everything is
// collected: the images' trees are walked by a worker that reads their documents, each blob becomes a record, and index
// and manifest.json are written in memory. Then the records go out in the order of their names, each once, as fast as
// the client's window allows, and every blob is hashed on its way.
#include "base/digest.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/reference.h"
#include "plugins/transfer/kinds.h"
#include "plugins/transfer/oci_json.h"
#include "plugins/transfer/progress.h"
#include "plugins/transfer/tar_writer.h"

#include <string.h>
#include <unistd.h>

enum { PIECE_BYTES = 32 * 1024 };
#define INDEX_TYPE "application/vnd.oci.image.index.v1+json"

struct record { // an entry of the archive
        char *name;
        unsigned mode;
        int64_t size;
        bool directory;
        GBytes *bytes; // NULL: a blob, or a directory
        const struct node *blob;
};

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
        GPtrArray *records;      // struct record *
        GArray *targets;         // struct node, of index.json
        GPtrArray *target_names; // beside targets
        GPtrArray *docker;       // struct docker_image *
        // The way out:
        struct stream *stream;
        int64_t window;
        bool blocked, ended;
        GByteArray *header; // what goes out before the body
        size_t n_header, record;
        int fd;
        int64_t left, padding;
        struct digester *digester;
        bool writing, finished;
};

static void record_free(void *data)
{
        struct record *record = data;
        g_free(record->name);
        if (record->bytes != NULL)
                g_bytes_unref(record->bytes);
        g_free(record);
}

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
        g_byte_array_unref(export->header);
        if (export->digester != NULL)
                digester_free(export->digester);
        fd_close(&export->fd);
        g_free(export);
}

// ---- records

static struct record *add_record(struct export *export, char *name, unsigned mode)
{
        struct record *record = g_new0(struct record, 1);
        record->name = name;
        record->mode = mode;
        g_ptr_array_add(export->records, record);
        return record;
}

static void add_document(struct export *export, const char *name, unsigned mode, json_t *document)
{
        size_t n_bytes;
        char *bytes = oci_json_print(document, &n_bytes);
        struct record *record = add_record(export, g_strdup(name), mode);
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
        struct record *record = add_record(export, blob_name(node->digest), 0444);
        record->size = node->size;
        record->blob = node;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
        return strcmp((*(struct record *const *)a)->name, (*(struct record *const *)b)->name);
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

static void take_document(struct visit *visit, const Worker__Document *document)
{
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

struct inspected {
        struct visit *visit;
        Worker__Document *document;
        GError *error;
};

static void on_inspected_here(void *data)
{
        struct inspected *inspected = data;
        struct operation *operation = inspected->visit->export->operation;
        if (inspected->error != NULL)
                operation_fail(operation, g_steal_pointer(&inspected->error));
        else if (!operation_failed(operation))
                take_document(inspected->visit, inspected->document);
        if (inspected->document != NULL)
                worker__document__free_unpacked(inspected->document, NULL);
        g_free(inspected);
        operation_release(operation);
}

static void on_inspected(void *data, const Worker__Document *document, const GError *error)
{
        struct inspected *inspected = g_new0(struct inspected, 1);
        inspected->visit = data;
        if (error != NULL) {
                inspected->error = g_error_copy(error);
        } else {
                size_t n_bytes = worker__document__get_packed_size(document);
                g_autofree uint8_t *bytes = g_malloc(n_bytes + 1);
                worker__document__pack(document, bytes);
                inspected->document = worker__document__unpack(NULL, n_bytes, bytes);
        }
        operation_submit(inspected->visit->export->operation, on_inspected_here, inspected);
}

static void inspect(struct visit *visit)
{
        struct operation *operation = visit->export->operation;
        AUTO(arena) arena = arena_new();
        const char *bytes;
        size_t n_bytes;
        GError *error = NULL;
        if (!content_read(operation->service->content, &operation->scope, visit->node->digest, INSPECT_MAX_BYTES, arena,
                    &bytes, &n_bytes, &error)) {
                operation_fail(operation, error);
                return;
        }
        operation_hold(operation);
        inspector_inspect(visit->export->inspector, visit->node->media_type, bytes, n_bytes, on_inspected, visit);
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
                const struct record *one = export->records->pdata[i - 1], *two = export->records->pdata[i];
                if (strcmp(one->name, two->name) == 0)
                        g_ptr_array_remove_index(export->records, (guint)i);
        }
        return true;
}

// ---- the way out

static void send_on(struct export *export);

static bool open_record(struct export *export, GError **error)
{
        const struct record *record = export->records->pdata[export->record];
        struct operation *operation = export->operation;
        struct content_store *content = operation->service->content;
        export->left = export->padding = 0;
        if (record->blob != NULL) {
                int64_t size;
                export->fd = content->ops->open(content, &operation->scope, record->blob->digest, &size, error);
                if (export->fd < 0) {
                        g_prefix_error(error, "failed to get reader: ");
                        return false;
                }
                if (size != record->size)
                        return error_fail(error, ERROR_UNKNOWN, "unexpected copy size for %s", record->name);
                enum digest_algorithm algorithm;
                if (!digest_parse(record->blob->digest, &algorithm, error))
                        return false;
                export->digester = digester_new(algorithm);
                export->left = record->size;
                export->padding = (int64_t)tar_padding(record->size);
        }
        tar_append_header(export->header, record->name, record->mode, record->size, record->directory);
        if (record->bytes != NULL) {
                static const guint8 zeros[TAR_BLOCK];
                gsize n;
                const guint8 *bytes = g_bytes_get_data(record->bytes, &n);
                g_byte_array_append(export->header, bytes, (guint)n);
                g_byte_array_append(export->header, zeros, (guint)tar_padding((int64_t)n));
        }
        return true;
}

static bool close_record(struct export *export, GError **error)
{
        const struct record *record = export->records->pdata[export->record++];
        fd_close(&export->fd);
        if (export->digester == NULL)
                return true;
        g_autofree char *digest = digester_digest(export->digester);
        g_clear_pointer(&export->digester, digester_free);
        return strcmp(digest, record->blob->digest) == 0 ||
               error_fail(error, ERROR_DATA_LOSS, "unexpected digest %s copied", digest);
}

// The next bytes of the archive, at most n_wanted. 0: it has ended; -1: failure.
static ssize_t next_bytes(struct export *export, uint8_t *to, size_t n_wanted, GError **error)
{
        for (;;) {
                size_t n_header = export->header->len - export->n_header;
                if (n_header > 0) {
                        size_t n = MIN(n_header, n_wanted);
                        memcpy(to, export->header->data + export->n_header, n);
                        export->n_header += n;
                        return (ssize_t)n;
                }
                g_byte_array_set_size(export->header, 0);
                export->n_header = 0;
                if (export->left > 0) {
                        ssize_t n = read(export->fd, to, (size_t)MIN((int64_t)n_wanted, export->left));
                        if (n < 0 && errno == EINTR)
                                continue;
                        if (n <= 0) {
                                error_fail_errno(error, n < 0 ? errno : EIO, "failed to copy to tar");
                                return -1;
                        }
                        digester_update(export->digester, to, (size_t)n);
                        export->left -= n;
                        return n;
                }
                static const guint8 zeros[2 * TAR_BLOCK];
                if (export->padding > 0) {
                        g_byte_array_append(export->header, zeros, (guint) export->padding);
                        export->padding = 0;
                        continue;
                }
                if (export->writing && !close_record(export, error))
                        return -1;
                export->writing = export->record < export->records->len;
                if (export->writing) {
                        if (!open_record(export, error))
                                return -1;
                } else if (!export->finished) {
                        export->finished = true;
                        g_byte_array_append(export->header, zeros, sizeof(zeros));
                } else {
                        return 0;
                }
        }
}

static void send_on(struct export *export)
{
        uint8_t piece[PIECE_BYTES];
        GError *error = NULL;
        while (export->window > 0 && !export->blocked) {
                ssize_t n = next_bytes(export, piece, (size_t)MIN(export->window, PIECE_BYTES), &error);
                if (n < 0)
                        operation_fail(export->operation, error);
                if (n <= 0) {
                        export->ended = true;
                        if (n == 0)
                                progress_event(export->operation->progress, "Completed export", NULL, NULL);
                        operation_release(export->operation);
                        return;
                }
                TransferTypes__Data data = TRANSFER_TYPES__DATA__INIT;
                data.data = (ProtobufCBinaryData){(size_t)n, piece};
                export->window -= n;
                export->blocked = !stream_send(export->stream, &data.base);
        }
}

struct event {
        struct export *export;
        int64_t update; // 0: writable; -1: the client is gone
};

static void on_event_here(void *data)
{
        struct event *event = data;
        struct export *export = event->export;
        if (!export->ended && event->update < 0 && stream_is_ended(export->stream)) {
                GError *error = NULL;
                error_fail(&error, ERROR_CANCELED, "the export stream has ended");
                operation_fail(export->operation, error);
        }
        if (event->update > 0)
                export->window += event->update;
        if (event->update == 0)
                export->blocked = false;
        if (!export->ended && operation_failed(export->operation)) {
                export->ended = true;
                operation_release(export->operation);
        } else if (!export->ended && export->records->len > 0 && export->operation->next == NULL) {
                send_on(export);
        }
        operation_unref(export->operation);
        g_free(event);
}

static void submit_event(struct export *export, int64_t update)
{
        struct event *event = g_new(struct event, 1);
        *event = (struct event){export, update};
        operation_ref(export->operation);
        operation_submit(export->operation, on_event_here, event);
}

static void on_message(void *data, const char *type_url, const void *value, size_t n_value)
{
        TransferTypes__WindowUpdate *update = transfer_types__window_update__unpack(NULL, n_value, value);
        if (update != NULL && update->update > 0)
                submit_event(data, update->update);
        if (update != NULL)
                transfer_types__window_update__free_unpacked(update, NULL);
}

static void on_writable(void *data)
{
        submit_event(data, 0);
}

static void on_stream_end(void *data)
{
        submit_event(data, -1);
}

static void on_stream_free(void *data)
{
        operation_unref(((struct export *)data)->operation);
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
        operation_hold(operation); // until the archive has gone out
        export->ended = false;
        send_on(export);
}

static void on_fail(struct operation *operation)
{
        submit_event(operation->state, -1);
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
        static const struct stream_reader reader = {.on_message = on_message,
                .on_end = on_stream_end,
                .on_writable = on_writable,
                .on_free = on_stream_free};
        struct export *export = g_new0(struct export, 1);
        export->operation = operation;
        export->request = operation->request->destination.export;
        export->stream = operation->request->destination.stream;
        export->visits = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
        export->algorithms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        export->records = g_ptr_array_new_with_free_func(record_free);
        export->targets = g_array_new(FALSE, FALSE, sizeof(struct node));
        export->target_names = g_ptr_array_new();
        export->docker = g_ptr_array_new_with_free_func(docker_image_free);
        export->header = g_byte_array_new();
        export->fd = -1;
        export->ended = true; // nothing is sent yet
        export->inspector = inspector_new(operation->service->differ->unpacker, operation->stop);
        operation->state = export;
        operation->state_free = export_free;
        operation->on_fail = on_fail;
        operation->next = on_collected;
        choose_platforms(export);
        progress_event(operation->progress, "Exporting", NULL, NULL);
        operation_ref(operation); // on_stream_free gives it back
        stream_attach(export->stream, &reader, export);
        GError *error = NULL;
        if (!add_targets(export, &error))
                operation_fail(operation, error);
}
