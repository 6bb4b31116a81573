// SPDX-License-Identifier: Apache-2.0
//
// containerd's rules for the objects of an image, as tables and small functions without state.
#include "plugins/transfer/descriptors.h"

#include "base/digest.h"
#include "base/error.h"

#include <string.h>

#define DOCKER "application/vnd.docker."
#define OCI "application/vnd.oci.image."
#define ANNOTATION_REF_NAME "org.opencontainers.image.ref.name"

static bool is_layer(const char *media_type)
{
        if (g_str_has_prefix(media_type, OCI "layer."))
                return true;
        g_autofree char *base = g_strndup(media_type, strcspn(media_type, "+"));
        static const char *const docker[] = {DOCKER "image.rootfs.diff.tar", DOCKER "image.rootfs.diff.tar.gzip",
                DOCKER "image.rootfs.diff.tar.zstd", DOCKER "image.rootfs.foreign.diff.tar",
                DOCKER "image.rootfs.foreign.diff.tar.gzip"};
        for (size_t i = 0; i < G_N_ELEMENTS(docker); i++)
                if (strcmp(base, docker[i]) == 0)
                        return true;
        return false;
}

enum node_kind node_kind(const char *media_type)
{
        static const struct {
                const char *media_type;
                enum node_kind kind;
        } known[] = {
                {OCI "index.v1+json", NODE_INDEX},
                {DOCKER "distribution.manifest.list.v2+json", NODE_INDEX},
                {OCI "manifest.v1+json", NODE_MANIFEST},
                {DOCKER "distribution.manifest.v2+json", NODE_MANIFEST},
                {OCI "config.v1+json", NODE_CONFIG},
                {DOCKER "container.image.v1+json", NODE_CONFIG},
                {"application/vnd.containerd.container.checkpoint.config.v1+proto", NODE_CONFIG},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
                if (strcmp(media_type, known[i].media_type) == 0)
                        return known[i].kind;
        return is_layer(media_type) ? NODE_LAYER : NODE_OTHER;
}

bool media_type_is_nondistributable(const char *media_type)
{
        return g_str_has_prefix(media_type, OCI "layer.nondistributable.") ||
               g_str_has_prefix(media_type, DOCKER "image.rootfs.foreign.");
}

static const char *const *copy_texts(char *const *texts, size_t n, struct arena *arena)
{
        if (n == 0)
                return NULL;
        const char **copy = arena_array(arena, const char *, n + 1);
        for (size_t i = 0; i < n; i++)
                copy[i] = arena_strdup(arena, texts[i]);
        return copy;
}

void node_from_record(struct node *node, const Worker__Descriptor *record, struct arena *arena)
{
        *node = (struct node){
                .media_type = arena_strdup(arena, record->media_type),
                .digest = arena_strdup(arena, record->digest),
                .size = record->size,
                .artifact_type = arena_strdup(arena, record->artifact_type),
                .urls = copy_texts(record->urls, record->n_urls, arena),
                .os_version = "",
        };
        for (size_t i = 0; i < record->n_annotations; i++)
                labels_set(&node->annotations, arena, record->annotations[i]->key, record->annotations[i]->value);
        if (record->platform == NULL)
                return;
        node->has_platform = true;
        node->platform.os = arena_strdup(arena, record->platform->os);
        node->platform.architecture = arena_strdup(arena, record->platform->architecture);
        node->platform.variant = arena_strdup(arena, record->platform->variant);
        node->os_version = arena_strdup(arena, record->platform->os_version);
        node->os_features = copy_texts(record->platform->os_features, record->platform->n_os_features, arena);
}

char *node_ref_key(const struct node *node)
{
        static const char *const prefixes[] = {[NODE_OTHER] = "unknown",
                [NODE_INDEX] = "index",
                [NODE_MANIFEST] = "manifest",
                [NODE_CONFIG] = "config",
                [NODE_LAYER] = "layer"};
        const char *prefix = prefixes[node_kind(node->media_type)];
        if (strcmp(node->media_type, "application/vnd.in-toto+json") == 0)
                prefix = "attestation";
        const char *name = labels_get(&node->annotations, ANNOTATION_REF_NAME);
        if (name != NULL)
                return g_strdup_printf("%s-%s@%s", prefix, name, node->digest);
        return g_strdup_printf("%s-%s", prefix, node->digest);
}

struct nodes nodes_from_document(const Worker__Document *document, struct arena *arena)
{
        bool index = document->kind == WORKER__DOCUMENT__KIND__KIND_INDEX;
        bool manifest = document->kind == WORKER__DOCUMENT__KIND__KIND_MANIFEST;
        size_t n = index ? document->n_manifests : manifest ? document->n_layers + (document->config != NULL) : 0;
        struct nodes nodes = {arena_array(arena, struct node, n + 1), 0};
        if (manifest && document->config != NULL)
                node_from_record(&nodes.items[nodes.n++], document->config, arena);
        for (size_t i = 0; manifest && i < document->n_layers; i++)
                node_from_record(&nodes.items[nodes.n++], document->layers[i], arena);
        for (size_t i = 0; index && i < document->n_manifests; i++)
                node_from_record(&nodes.items[nodes.n++], document->manifests[i], arena);
        return nodes;
}

void nodes_gc_labels(const struct nodes *children, struct labels *labels, struct arena *arena)
{
        static const char *const keys[] = {[NODE_OTHER] = "",
                [NODE_INDEX] = "m.",
                [NODE_MANIFEST] = "m.",
                [NODE_CONFIG] = "config",
                [NODE_LAYER] = "l."};
        unsigned counts[G_N_ELEMENTS(keys)] = {0};
        for (size_t i = 0; i < children->n; i++) {
                enum node_kind kind = node_kind(children->items[i].media_type);
                enum node_kind slot = kind == NODE_INDEX ? NODE_MANIFEST : kind;
                unsigned index = counts[slot]++;
                const char *key = slot == NODE_CONFIG && index == 0
                                          ? "containerd.io/gc.ref.content.config"
                                          : arena_printf(arena, "containerd.io/gc.ref.content.%s%u", keys[slot], index);
                labels_set(labels, arena, key, children->items[i].digest);
        }
}

int wanted_match(const struct wanted *wanted, const struct platform *platform)
{
        if (wanted->n == 0)
                return 1;
        // What is asked for first wins over what fits better.
        for (size_t i = 0; i < wanted->n; i++) {
                int fit = platform_match(wanted->platforms[i], *platform);
                if (fit > 0)
                        return (int)(wanted->n - i) * 1000 + MIN(fit, 999);
        }
        return 0;
}

static int rank(const struct wanted *wanted, const struct node *node)
{
        return node->has_platform ? wanted_match(wanted, &node->platform) : 0;
}

// Stable: equal fits stay in the order of the index.
static void sort_by_rank(struct nodes *nodes, const struct wanted *wanted)
{
        for (size_t i = 1; i < nodes->n; i++) {
                struct node moved = nodes->items[i];
                size_t to = i;
                for (; to > 0 && rank(wanted, &nodes->items[to - 1]) < rank(wanted, &moved); to--)
                        nodes->items[to] = nodes->items[to - 1];
                nodes->items[to] = moved;
        }
}

bool nodes_filter(struct nodes *children, const struct node *parent, const struct wanted *wanted, GError **error)
{
        enum node_kind kind = node_kind(parent->media_type);
        bool unwanted_parent = parent->has_platform && wanted_match(wanted, &parent->platform) == 0;
        size_t kept = 0;
        for (size_t i = 0; i < children->n; i++) {
                const struct node *child = &children->items[i];
                bool keep = !child->has_platform || wanted_match(wanted, &child->platform) > 0;
                if (wanted->all_metadata)
                        keep = kind != NODE_MANIFEST || !unwanted_parent || node_kind(child->media_type) == NODE_CONFIG;
                if (keep)
                        children->items[kept++] = *child;
        }
        children->n = kept;
        if (kind != NODE_INDEX || wanted->manifest_limit == 0)
                return true;
        sort_by_rank(children, wanted);
        if (children->n == 0)
                return error_fail(error, ERROR_NOT_FOUND, "no match for platform in manifest: not found");
        children->n = MIN(children->n, wanted->manifest_limit);
        return true;
}
