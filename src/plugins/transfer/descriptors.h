// SPDX-License-Identifier: Apache-2.0
//
// The tree of an image: what its objects are by their media types, what they are called while they are fetched, which
// labels keep them, and which of them are wanted. Everything lives in the operation's arena. Threads: any.
#pragma once

#include "base/arena.h"
#include "codec/platform.h"
#include "core/labels.h"

#include "skiff/worker.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

struct node {
        const char *media_type, *digest;
        int64_t size;
        struct labels annotations;
        bool has_platform;
        struct platform platform;
        const char *os_version, *artifact_type;
        const char *const *os_features; // NULL-terminated; NULL: none
        const char *const *urls;
};

enum node_kind { NODE_OTHER, NODE_INDEX, NODE_MANIFEST, NODE_CONFIG, NODE_LAYER };
enum node_kind node_kind(const char *media_type);
bool media_type_is_nondistributable(const char *media_type);

void node_from_record(struct node *node, const Worker__Descriptor *record, struct arena *arena);

// The reference of the ingest: "layer-sha256:…", with the ref name's annotation in front of the digest, as containerd
// has it. Caller frees.
char *node_ref_key(const struct node *node);

// Children of an index (manifests) or a manifest (config, then layers), as the document lists them.
struct nodes {
        struct node *items;
        size_t n;
};
struct nodes nodes_from_document(const Worker__Document *document, struct arena *arena);

// Labels for garbage collection that name the children.
void nodes_gc_labels(const struct nodes *children, struct labels *labels, struct arena *arena);

// Which platforms are asked for. n 0: all of them.
struct wanted {
        const struct platform *platforms;
        size_t n;
        bool all_metadata;
        uint32_t manifest_limit; // 0: none
};
// Leaves those children of parent that are wanted, the best first if they are limited. NOT_FOUND "no match for platform
// in manifest: not found" if a limit leaves nothing.
bool nodes_filter(struct nodes *children, const struct node *parent, const struct wanted *wanted, GError **error);
// 0: it is not asked for; else the better the fit, the higher.
int wanted_match(const struct wanted *wanted, const struct platform *platform);
