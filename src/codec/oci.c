// SPDX-License-Identifier: Apache-2.0
//
// As Go's decoder: what is missing is empty, null is as missing, a value of the wrong type is an error, unknown keys
// are passed over.
#include "codec/oci.h"

#include <jansson.h>
#include <string.h>

enum { MAX_LIST = OCI_MAX_DESCRIPTORS };

struct parser {
        struct arena *arena;
        GError **error;
};

static bool wrong_type(const struct parser *parser, const char *key)
{
        return error_fail(parser->error, ERROR_INVALID_ARGUMENT, "json: wrong type of \"%s\"", key);
}

static json_t *load(const void *bytes, size_t n_bytes, GError **error)
{
        json_error_t failure;
        json_t *root = json_loadb(bytes, n_bytes, JSON_DECODE_ANY, &failure);
        if (root == NULL)
                error_fail(error, ERROR_INVALID_ARGUMENT, "json: %s (line %d)", failure.text, failure.line);
        return root;
}

// The member, NULL if it is missing or null.
static json_t *member(json_t *object, const char *key)
{
        json_t *value = json_object_get(object, key);
        return value == NULL || json_is_null(value) ? NULL : value;
}

static bool get_text(const struct parser *parser, json_t *object, const char *key, char **ret_text)
{
        json_t *value = member(object, key);
        if (value == NULL)
                return true;
        if (!json_is_string(value))
                return wrong_type(parser, key);
        *ret_text = arena_strdup(parser->arena, json_string_value(value));
        return true;
}

// An object or array of a bounded size; *ret_value is NULL if it is missing.
static bool get_container(
        const struct parser *parser, json_t *object, const char *key, json_type type, json_t **ret_value)
{
        json_t *value = member(object, key);
        if (value != NULL && json_typeof(value) != type)
                return wrong_type(parser, key);
        size_t size = value == NULL ? 0 : type == JSON_ARRAY ? json_array_size(value) : json_object_size(value);
        if (size > MAX_LIST)
                return error_fail(parser->error, ERROR_RESOURCE_EXHAUSTED, "json: \"%s\" has too many items", key);
        *ret_value = value;
        return true;
}

static bool get_texts(
        const struct parser *parser, json_t *object, const char *key, char ***ret_texts, size_t *ret_n_texts)
{
        json_t *list;
        if (!get_container(parser, object, key, JSON_ARRAY, &list))
                return false;
        size_t n = list == NULL ? 0 : json_array_size(list);
        char **texts = arena_array(parser->arena, char *, n + 1);
        for (size_t i = 0; i < n; i++) {
                json_t *item = json_array_get(list, i);
                if (!json_is_string(item))
                        return wrong_type(parser, key);
                texts[i] = arena_strdup(parser->arena, json_string_value(item));
        }
        *ret_texts = texts;
        *ret_n_texts = n;
        return true;
}

// ---- platform, annotations, descriptor

static bool parse_platform(const struct parser *parser, json_t *object, Worker__Platform **ret_platform)
{
        Worker__Platform *platform = arena_new0(parser->arena, Worker__Platform);
        worker__platform__init(platform);
        if (!get_text(parser, object, "os", &platform->os) ||
                !get_text(parser, object, "architecture", &platform->architecture) ||
                !get_text(parser, object, "variant", &platform->variant) ||
                !get_text(parser, object, "os.version", &platform->os_version) ||
                !get_texts(parser, object, "os.features", &platform->os_features, &platform->n_os_features))
                return false;
        *ret_platform = platform;
        return true;
}

struct annotation {
        const char *key, *value;
};

static bool get_annotations(
        const struct parser *parser, json_t *object, struct annotation **ret_annotations, size_t *ret_n)
{
        json_t *map;
        if (!get_container(parser, object, "annotations", JSON_OBJECT, &map))
                return false;
        size_t n = 0, size = map == NULL ? 0 : json_object_size(map);
        if (size > OCI_MAX_ANNOTATIONS)
                return error_fail(parser->error, ERROR_RESOURCE_EXHAUSTED, "json: too many annotations");
        struct annotation *annotations = arena_array(parser->arena, struct annotation, size + 1);
        const char *key;
        json_t *value;
        json_object_foreach (map, key, value) {
                if (!json_is_string(value))
                        return wrong_type(parser, "annotations");
                annotations[n++] = (struct annotation){
                        arena_strdup(parser->arena, key), arena_strdup(parser->arena, json_string_value(value))};
        }
        *ret_annotations = annotations;
        *ret_n = n;
        return true;
}

static bool parse_descriptor_annotations(const struct parser *parser, json_t *object, Worker__Descriptor *descriptor)
{
        struct annotation *annotations;
        size_t n;
        if (!get_annotations(parser, object, &annotations, &n))
                return false;
        descriptor->annotations = arena_array(parser->arena, Worker__Descriptor__AnnotationsEntry *, n + 1);
        for (size_t i = 0; i < n; i++) {
                Worker__Descriptor__AnnotationsEntry *entry =
                        arena_new0(parser->arena, Worker__Descriptor__AnnotationsEntry);
                worker__descriptor__annotations_entry__init(entry);
                entry->key = (char *)annotations[i].key;
                entry->value = (char *)annotations[i].value;
                descriptor->annotations[i] = entry;
        }
        descriptor->n_annotations = n;
        return true;
}

static bool parse_descriptor(
        const struct parser *parser, json_t *object, const char *key, Worker__Descriptor **ret_descriptor)
{
        if (!json_is_object(object))
                return wrong_type(parser, key);
        Worker__Descriptor *descriptor = arena_new0(parser->arena, Worker__Descriptor);
        worker__descriptor__init(descriptor);
        json_t *size = member(object, "size"), *platform;
        if (size != NULL && !json_is_integer(size))
                return wrong_type(parser, "size");
        descriptor->size = json_integer_value(size);
        if (!get_text(parser, object, "mediaType", &descriptor->media_type) ||
                !get_text(parser, object, "digest", &descriptor->digest) ||
                !get_text(parser, object, "artifactType", &descriptor->artifact_type) ||
                !get_texts(parser, object, "urls", &descriptor->urls, &descriptor->n_urls) ||
                !parse_descriptor_annotations(parser, object, descriptor) ||
                !get_container(parser, object, "platform", JSON_OBJECT, &platform))
                return false;
        if (platform != NULL && !parse_platform(parser, platform, &descriptor->platform))
                return false;
        *ret_descriptor = descriptor;
        return true;
}

static bool get_descriptor(
        const struct parser *parser, json_t *object, const char *key, Worker__Descriptor **ret_descriptor)
{
        json_t *value = member(object, key);
        return value == NULL || parse_descriptor(parser, value, key, ret_descriptor);
}

static bool get_descriptors(const struct parser *parser, json_t *object, const char *key,
        Worker__Descriptor ***ret_descriptors, size_t *ret_n_descriptors)
{
        json_t *list;
        if (!get_container(parser, object, key, JSON_ARRAY, &list))
                return false;
        size_t n = list == NULL ? 0 : json_array_size(list);
        Worker__Descriptor **descriptors = arena_array(parser->arena, Worker__Descriptor *, n + 1);
        for (size_t i = 0; i < n; i++) {
                if (!parse_descriptor(parser, json_array_get(list, i), key, &descriptors[i]))
                        return false;
        }
        *ret_descriptors = descriptors;
        *ret_n_descriptors = n;
        return true;
}

// ---- documents

Worker__Document__Kind oci_kind(const char *media_type)
{
        if (strcmp(media_type, OCI_MEDIA_TYPE_INDEX) == 0 || strcmp(media_type, DOCKER_MEDIA_TYPE_LIST) == 0)
                return WORKER__DOCUMENT__KIND__KIND_INDEX;
        if (strcmp(media_type, OCI_MEDIA_TYPE_MANIFEST) == 0 || strcmp(media_type, DOCKER_MEDIA_TYPE_MANIFEST) == 0)
                return WORKER__DOCUMENT__KIND__KIND_MANIFEST;
        if (strcmp(media_type, OCI_MEDIA_TYPE_CONFIG) == 0 || strcmp(media_type, DOCKER_MEDIA_TYPE_CONFIG) == 0)
                return WORKER__DOCUMENT__KIND__KIND_CONFIG;
        return WORKER__DOCUMENT__KIND__KIND_OTHER;
}

static Worker__Document__Kind guess_kind(json_t *root, const char *own_media_type)
{
        Worker__Document__Kind kind = oci_kind(own_media_type);
        if (kind != WORKER__DOCUMENT__KIND__KIND_OTHER)
                return kind;
        if (member(root, "manifests") != NULL)
                return WORKER__DOCUMENT__KIND__KIND_INDEX;
        if (member(root, "layers") != NULL && member(root, "config") != NULL)
                return WORKER__DOCUMENT__KIND__KIND_MANIFEST;
        return member(root, "rootfs") != NULL ? WORKER__DOCUMENT__KIND__KIND_CONFIG
                                              : WORKER__DOCUMENT__KIND__KIND_OTHER;
}

// One kind that pretends to be the other would be read differently by different programs.
static bool check_disguise(
        const struct parser *parser, json_t *root, Worker__Document__Kind kind, const char *own, const char *media_type)
{
        Worker__Document__Kind own_kind = oci_kind(own);
        if (json_object_get(root, "fsLayers") != NULL)
                return error_fail(parser->error, ERROR_INVALID_ARGUMENT, "media-type: schema 1 not supported");
        if (kind == WORKER__DOCUMENT__KIND__KIND_MANIFEST &&
                (json_object_get(root, "manifests") != NULL || own_kind == WORKER__DOCUMENT__KIND__KIND_INDEX))
                return error_fail(parser->error, ERROR_INVALID_ARGUMENT,
                        "media-type: expected manifest but found index (%s)", media_type);
        if (kind == WORKER__DOCUMENT__KIND__KIND_INDEX &&
                (json_object_get(root, "config") != NULL || json_object_get(root, "layers") != NULL ||
                        own_kind == WORKER__DOCUMENT__KIND__KIND_MANIFEST))
                return error_fail(parser->error, ERROR_INVALID_ARGUMENT,
                        "media-type: expected index but found manifest (%s)", media_type);
        return true;
}

static bool parse_document_annotations(const struct parser *parser, json_t *root, Worker__Document *document)
{
        struct annotation *annotations;
        size_t n;
        if (!get_annotations(parser, root, &annotations, &n))
                return false;
        document->annotations = arena_array(parser->arena, Worker__Document__AnnotationsEntry *, n + 1);
        for (size_t i = 0; i < n; i++) {
                Worker__Document__AnnotationsEntry *entry =
                        arena_new0(parser->arena, Worker__Document__AnnotationsEntry);
                worker__document__annotations_entry__init(entry);
                entry->key = (char *)annotations[i].key;
                entry->value = (char *)annotations[i].value;
                document->annotations[i] = entry;
        }
        document->n_annotations = n;
        return true;
}

static bool parse_config(const struct parser *parser, json_t *root, Worker__Document *document)
{
        json_t *rootfs;
        if (!parse_platform(parser, root, &document->platform) ||
                !get_container(parser, root, "rootfs", JSON_OBJECT, &rootfs))
                return false;
        return rootfs == NULL || get_texts(parser, rootfs, "diff_ids", &document->diff_ids, &document->n_diff_ids);
}

static bool parse_root(const struct parser *parser, json_t *root, const char *media_type, Worker__Document *document)
{
        if (!json_is_object(root))
                return error_fail(parser->error, ERROR_INVALID_ARGUMENT, "json: not an object");
        if (!get_text(parser, root, "mediaType", &document->media_type))
                return false;
        document->kind = *media_type == '\0' ? guess_kind(root, document->media_type) : oci_kind(media_type);
        if (document->kind == WORKER__DOCUMENT__KIND__KIND_CONFIG)
                return parse_config(parser, root, document);
        if (document->kind == WORKER__DOCUMENT__KIND__KIND_OTHER)
                return true;
        return check_disguise(parser, root, document->kind, document->media_type, media_type) &&
               get_text(parser, root, "artifactType", &document->artifact_type) &&
               get_descriptors(parser, root, "manifests", &document->manifests, &document->n_manifests) &&
               get_descriptor(parser, root, "config", &document->config) &&
               get_descriptors(parser, root, "layers", &document->layers, &document->n_layers) &&
               get_descriptor(parser, root, "subject", &document->subject) &&
               parse_document_annotations(parser, root, document);
}

const Worker__Document *oci_parse(
        const char *media_type, const void *bytes, size_t n_bytes, struct arena *arena, GError **error)
{
        Worker__Document *document = arena_new0(arena, Worker__Document);
        worker__document__init(document);
        if (*media_type != '\0' && oci_kind(media_type) == WORKER__DOCUMENT__KIND__KIND_OTHER)
                return document;
        json_t *root = load(bytes, n_bytes, error);
        if (root == NULL)
                return NULL;
        struct parser parser = {arena, error};
        bool good = parse_root(&parser, root, media_type, document);
        json_decref(root);
        return good ? document : NULL;
}

// ---- archives

static bool parse_docker_image(const struct parser *parser, json_t *object, Worker__DockerImage *image)
{
        char *config = arena_strdup(parser->arena, ""), **layers;
        size_t n_layers;
        if (!json_is_object(object))
                return wrong_type(parser, "manifest.json");
        if (!get_text(parser, object, "Config", &config) ||
                !get_texts(parser, object, "RepoTags", &image->repo_tags, &image->n_repo_tags) ||
                !get_texts(parser, object, "Layers", &layers, &n_layers))
                return false;
        image->config = (ProtobufCBinaryData){strlen(config), (uint8_t *)config};
        image->layers = arena_array(parser->arena, ProtobufCBinaryData, n_layers + 1);
        for (size_t i = 0; i < n_layers; i++)
                image->layers[i] = (ProtobufCBinaryData){strlen(layers[i]), (uint8_t *)layers[i]};
        image->n_layers = n_layers;
        return true;
}

bool oci_parse_docker_images(const void *bytes, size_t n_bytes, struct arena *arena, Worker__DockerImage ***ret_images,
        size_t *ret_n_images, GError **error)
{
        json_t *root = load(bytes, n_bytes, error);
        if (root == NULL)
                return false;
        struct parser parser = {arena, error};
        size_t n = json_array_size(root);
        bool good = json_is_array(root) || wrong_type(&parser, "manifest.json");
        if (good && n > MAX_LIST)
                good = error_fail(error, ERROR_RESOURCE_EXHAUSTED, "manifest.json: too many images");
        Worker__DockerImage **images = arena_array(arena, Worker__DockerImage *, n + 1);
        for (size_t i = 0; good && i < n; i++) {
                images[i] = arena_new0(arena, Worker__DockerImage);
                worker__docker_image__init(images[i]);
                good = parse_docker_image(&parser, json_array_get(root, i), images[i]);
        }
        json_decref(root);
        if (good) {
                *ret_images = images;
                *ret_n_images = n;
        }
        return good;
}

const char *oci_parse_layout(const void *bytes, size_t n_bytes, struct arena *arena, GError **error)
{
        json_t *root = load(bytes, n_bytes, error);
        if (root == NULL)
                return NULL;
        struct parser parser = {arena, error};
        char *version = arena_strdup(arena, "");
        bool good = json_is_object(root) ? get_text(&parser, root, "imageLayoutVersion", &version)
                                         : wrong_type(&parser, "oci-layout");
        json_decref(root);
        return good ? version : NULL;
}
