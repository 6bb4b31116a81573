// SPDX-License-Identifier: Apache-2.0
//
// Reads blobs of the daemon's content store, and follows an image from its index to the manifest for this machine and
// to the config. What comes was checked against its digest by the daemon when it was stored; its form was not.
#include "client/internal.h"

#include "base/digest.h"
#include "codec/platform.h"

#include "containerd/content.pb-c.h"

#include <jansson.h>
#include <string.h>

enum { MAX_BLOB_BYTES = 8 * 1024 * 1024, MAX_INDEXES = 4 };

// ---- blobs

struct reading {
        GString *text;
        GError *error;
        struct waiter *ended;
};

static void on_message(void *data, struct rpc_client_stream *stream, const ProtobufCMessage *message)
{
        struct reading *reading = data;
        const Content__ReadContentResponse *part = (const Content__ReadContentResponse *)message;
        if (reading->error != NULL)
                return;
        if (reading->text->len + part->data.len > MAX_BLOB_BYTES) {
                error_fail(&reading->error, ERROR_RESOURCE_EXHAUSTED, "larger than %d bytes", MAX_BLOB_BYTES);
                rpc_client_stream_cancel(stream);
                return;
        }
        g_string_append_len(reading->text, (const char *)part->data.data, (gssize)part->data.len);
}

static void on_end(void *data, struct rpc_client_stream *stream, const GError *error)
{
        struct reading *reading = data;
        if (error != NULL && reading->error == NULL)
                reading->error = g_error_copy(error);
        waiter_signal(reading->ended);
}

static const struct rpc_client_stream_handler handler = {
        .on_message = on_message,
        .on_end = on_end,
};

GString *content_read(struct skiff_client *client, const char *digest, GError **error)
{
        struct reading reading = {.text = g_string_new(NULL), .ended = waiter_new()};
        Content__ReadContentRequest message = CONTENT__READ_CONTENT_REQUEST__INIT;
        message.digest = (char *)digest;
        const char *metadata[5];
        struct rpc_request request = client_request(client,
                CLIENT_METHOD("containerd.services.content.v1.Content", "Read", content__read_content_response),
                metadata, NULL);
        request.message = &message.base;
        struct rpc_client_stream *stream =
                rpc_client_stream_open(client->rpc, &request, RPC_SERVER_STREAM, &handler, &reading);
        waiter_wait(reading.ended, -1);
        rpc_client_stream_unref(stream);
        waiter_free(reading.ended);
        if (reading.error == NULL)
                return reading.text;
        g_string_free(reading.text, TRUE);
        g_propagate_prefixed_error(error, reading.error, "content %s: ", digest);
        return NULL;
}

// ---- JSON

static json_t *read_json(struct skiff_client *client, const char *digest, GError **error)
{
        GString *text = content_read(client, digest, error);
        if (text == NULL)
                return NULL;
        json_error_t where;
        json_t *json = json_loadb(text->str, text->len, JSON_REJECT_DUPLICATES, &where);
        g_string_free(text, TRUE);
        if (json == NULL || !json_is_object(json)) {
                json_decref(json);
                error_fail(error, ERROR_INVALID_ARGUMENT, "content %s is not a JSON object", digest);
                return NULL;
        }
        return json;
}

static const char *text_of(json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));
        return text != NULL ? text : "";
}

static const char *keep_text(json_t *object, const char *key, struct arena *arena)
{
        const char *text = text_of(object, key);
        return *text == '\0' ? NULL : arena_strdup(arena, text);
}

static const char *const *keep_texts(json_t *array, struct arena *arena)
{
        size_t n = 0;
        const char **texts = arena_array(arena, const char *, json_array_size(array) + 1);
        for (size_t i = 0; i < json_array_size(array); i++) {
                const char *text = json_string_value(json_array_get(array, i));
                if (text != NULL)
                        texts[n++] = arena_strdup(arena, text);
        }
        return texts;
}

// ---- from a name's target to the config

static bool is_index(json_t *document, const char *media_type)
{
        return strstr(media_type, "image.index") != NULL || strstr(media_type, "manifest.list") != NULL ||
               json_is_array(json_object_get(document, "manifests"));
}

// The digest of the best manifest of an index for this machine; NULL: none.
static const char *choose_manifest(json_t *index)
{
        const char *best = NULL;
        int best_match = 0;
        size_t i;
        json_t *entry;
        json_array_foreach (json_object_get(index, "manifests"), i, entry) {
                json_t *given = json_object_get(entry, "platform");
                struct platform image = given == NULL ? platform_host()
                                                      : platform_normalize((struct platform){
                                                                .os = text_of(given, "os"),
                                                                .architecture = text_of(given, "architecture"),
                                                                .variant = text_of(given, "variant"),
                                                        });
                int match = platform_match(platform_host(), image);
                if (match > best_match && *text_of(entry, "digest") != '\0') {
                        best = text_of(entry, "digest");
                        best_match = match;
                }
        }
        return best;
}

static json_t *read_manifest(struct skiff_client *client, const char *digest, const char *media_type, GError **error)
{
        g_autofree char *at = g_strdup(digest);
        for (unsigned depth = 0; depth < MAX_INDEXES; depth++) {
                json_t *document = read_json(client, at, error);
                if (document == NULL || !is_index(document, depth == 0 ? media_type : ""))
                        return document;
                const char *next = choose_manifest(document);
                g_free(at);
                at = g_strdup(next);
                json_decref(document);
                if (at == NULL) {
                        g_autofree char *platform = platform_format(platform_host());
                        error_fail(error, ERROR_NOT_FOUND, "no image for platform %s", platform);
                        return NULL;
                }
        }
        error_fail(error, ERROR_INVALID_ARGUMENT, "indexes within indexes, more than %d deep", MAX_INDEXES);
        return NULL;
}

// image-spec config.md, "Layer ChainID".
static const char *chain_id(json_t *config, struct arena *arena)
{
        json_t *diff_ids = json_object_get(json_object_get(config, "rootfs"), "diff_ids");
        g_autofree char *chain = NULL;
        size_t i;
        json_t *entry;
        json_array_foreach (diff_ids, i, entry) {
                const char *diff_id = json_is_string(entry) ? json_string_value(entry) : "";
                if (chain == NULL) {
                        chain = g_strdup(diff_id);
                        continue;
                }
                g_autofree char *both = g_strconcat(chain, " ", diff_id, NULL);
                g_free(chain);
                chain = digest_of_bytes(DIGEST_SHA256, both, strlen(both));
        }
        return arena_strdup(arena, chain != NULL ? chain : "");
}

static struct image_config *parse_config(json_t *document, struct arena *arena)
{
        struct image_config *config = arena_new0(arena, struct image_config);
        json_t *run = json_object_get(document, "config");
        config->env = keep_texts(json_object_get(run, "Env"), arena);
        config->entrypoint = keep_texts(json_object_get(run, "Entrypoint"), arena);
        config->cmd = keep_texts(json_object_get(run, "Cmd"), arena);
        config->cwd = keep_text(run, "WorkingDir", arena);
        config->user = keep_text(run, "User", arena);
        config->stop_signal = keep_text(run, "StopSignal", arena);
        config->chain_id = chain_id(document, arena);

        json_t *labels = json_object_get(run, "Labels");
        struct skiff_pair *pairs = arena_array(arena, struct skiff_pair, json_object_size(labels) + 1);
        const char *key;
        json_t *value;
        json_object_foreach (labels, key, value) {
                if (json_is_string(value))
                        pairs[config->n_labels++] = (struct skiff_pair){
                                arena_strdup(arena, key), arena_strdup(arena, json_string_value(value))};
        }
        config->labels = pairs;
        return config;
}

static int64_t manifest_size(json_t *manifest)
{
        int64_t size = json_integer_value(json_object_get(json_object_get(manifest, "config"), "size"));
        size_t i;
        json_t *layer;
        json_array_foreach (json_object_get(manifest, "layers"), i, layer)
                size += json_integer_value(json_object_get(layer, "size"));
        return size;
}

int64_t image_size_read(struct skiff_client *client, const char *digest, const char *media_type, GError **error)
{
        json_t *manifest = read_manifest(client, digest, media_type, error);
        if (manifest == NULL)
                return -1;
        int64_t size = manifest_size(manifest);
        json_decref(manifest);
        return size;
}

const struct image_config *image_config_read(
        struct skiff_client *client, const char *digest, const char *media_type, struct arena *arena, GError **error)
{
        json_t *manifest = read_manifest(client, digest, media_type, error);
        if (manifest == NULL)
                return NULL;
        g_autofree char *at = g_strdup(text_of(json_object_get(manifest, "config"), "digest"));
        json_decref(manifest);
        json_t *document = *at == '\0' ? NULL : read_json(client, at, error);
        if (document == NULL) {
                if (*at == '\0')
                        error_fail(error, ERROR_INVALID_ARGUMENT, "manifest of %s has no config", digest);
                return NULL;
        }
        const struct image_config *config = parse_config(document, arena);
        json_decref(document);
        return config;
}
