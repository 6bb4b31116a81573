// SPDX-License-Identifier: Apache-2.0
//
// The records of content: blobs that a namespace knows, and ingests on their way to become blobs. The bytes are the
// content store's (core/content.h). Threads: any.
#pragma once

#include "core/labels.h"
#include "core/metadata.h"

#include <stdint.h>

struct blob {
        const char *digest;
        int64_t size;
        struct labels labels;
        int64_t created_ns, updated_ns; // wall clock
};

typedef bool (*blob_fn)(void *data, const struct blob *blob);
typedef bool (*digest_fn)(void *data, const char *digest);

struct blob_ops {
        // NOT_FOUND `content digest sha256:…: not found`.
        bool (*get)(struct tx *tx, const char *namespace_, const char *digest, struct arena *arena, struct blob *ret,
                GError **error);
        // In the order of digests; false from fn ends the walk. The record lives in arena, without one during the call.
        bool (*walk)(
                struct tx *tx, const char *namespace_, struct arena *arena, blob_fn fn, void *data, GError **error);
        // ALREADY_EXISTS `content sha256:…: already exists`.
        bool (*insert)(struct tx *tx, const char *namespace_, const struct blob *blob, GError **error);
        // Labels and time. NOT_FOUND.
        bool (*update)(struct tx *tx, const char *namespace_, const struct blob *blob, GError **error);
        bool (*remove)(struct tx *tx, const char *namespace_, const char *digest, GError **error);
        // Whether the bytes are needed by any namespace: a blob, or an ingest that expects them.
        bool (*is_used)(struct tx *tx, const char *digest, bool *ret_used, GError **error);
        // Whether a namespace that shares its content with all others (label containerd.io/namespace.shareable=true)
        // has it.
        bool (*is_shareable)(struct tx *tx, const char *digest, bool *ret_shareable, GError **error);
        // Each digest that is_used says yes to, some twice.
        bool (*walk_used)(struct tx *tx, digest_fn fn, void *data, GError **error);
};

struct ingest {
        const char *ref;
        const char *backend;  // name in the content store: NS/1/REF
        const char *expected; // digest of bytes that are there already, under another namespace; "": none
        int64_t expires_ns;   // wall clock; 0: never (a lease holds it)
};

typedef bool (*ingest_fn)(void *data, const struct ingest *ingest);

struct ingest_ops {
        // NOT_FOUND `reference x: not found`.
        bool (*get)(struct tx *tx, const char *namespace_, const char *ref, struct arena *arena, struct ingest *ret,
                GError **error);
        bool (*walk)(
                struct tx *tx, const char *namespace_, struct arena *arena, ingest_fn fn, void *data, GError **error);
        // Inserts or replaces.
        bool (*put)(struct tx *tx, const char *namespace_, const struct ingest *ingest, GError **error);
        // It is fine if there is none.
        bool (*remove)(struct tx *tx, const char *namespace_, const char *ref, GError **error);
        // Whether any namespace has it under this name.
        bool (*backend_is_used)(struct tx *tx, const char *backend, bool *ret_used, GError **error);
};
