// SPDX-License-Identifier: Apache-2.0
//
// The members come in the order in which Go's encoder writes them, and "<", ">" and "&" are escaped as it does.
#include "plugins/transfer/oci_json.h"

#include <string.h>

static json_t *texts(const char *const *values)
{
        json_t *list = json_array();
        for (size_t i = 0; values[i] != NULL; i++)
                json_array_append_new(list, json_string(values[i]));
        return list;
}

static json_t *platform(const struct node *node)
{
        json_t *object = json_object();
        json_object_set_new(object, "architecture", json_string(node->platform.architecture));
        json_object_set_new(object, "os", json_string(node->platform.os));
        if (node->os_version != NULL && node->os_version[0] != '\0')
                json_object_set_new(object, "os.version", json_string(node->os_version));
        if (node->os_features != NULL)
                json_object_set_new(object, "os.features", texts(node->os_features));
        if (node->platform.variant[0] != '\0')
                json_object_set_new(object, "variant", json_string(node->platform.variant));
        return object;
}

json_t *oci_json_descriptor(const struct node *node)
{
        json_t *object = json_object();
        json_object_set_new(object, "mediaType", json_string(node->media_type));
        json_object_set_new(object, "digest", json_string(node->digest));
        json_object_set_new(object, "size", json_integer(node->size));
        if (node->urls != NULL)
                json_object_set_new(object, "urls", texts(node->urls));
        if (node->annotations.n > 0) {
                json_t *annotations = json_object();
                for (size_t i = 0; i < node->annotations.n; i++)
                        json_object_set_new(annotations, node->annotations.items[i].key,
                                json_string(node->annotations.items[i].value));
                json_object_set_new(object, "annotations", annotations);
        }
        if (node->has_platform)
                json_object_set_new(object, "platform", platform(node));
        if (node->artifact_type != NULL && node->artifact_type[0] != '\0')
                json_object_set_new(object, "artifactType", json_string(node->artifact_type));
        return object;
}

static json_t *descriptors(const struct nodes *nodes)
{
        json_t *list = json_array();
        for (size_t i = 0; i < nodes->n; i++)
                json_array_append_new(list, oci_json_descriptor(&nodes->items[i]));
        return list;
}

json_t *oci_json_index(const char *media_type, const struct nodes *manifests)
{
        json_t *root = json_object();
        json_object_set_new(root, "schemaVersion", json_integer(2));
        if (media_type != NULL)
                json_object_set_new(root, "mediaType", json_string(media_type));
        json_object_set_new(root, "manifests", manifests->n > 0 ? descriptors(manifests) : json_null());
        return root;
}

json_t *oci_json_docker_manifest(const struct node *config, const struct nodes *layers)
{
        json_t *root = json_object();
        json_object_set_new(root, "schemaVersion", json_integer(2));
        json_object_set_new(root, "mediaType", json_string("application/vnd.docker.distribution.manifest.v2+json"));
        json_object_set_new(root, "config", oci_json_descriptor(config));
        json_object_set_new(root, "layers", descriptors(layers));
        return root;
}

char *oci_json_print(json_t *root, size_t *ret_n)
{
        g_autofree char *plain = json_dumps(root, JSON_COMPACT | JSON_ENCODE_ANY);
        json_decref(root);
        g_autoptr(GString) text = g_string_new(NULL);
        for (const char *c = plain; *c != '\0'; c++) {
                if (strchr("<>&", *c) != NULL)
                        g_string_append_printf(text, "\\u%04x", (unsigned)*c);
                else
                        g_string_append_c(text, *c);
        }
        *ret_n = text->len;
        return g_string_free(g_steal_pointer(&text), FALSE);
}
