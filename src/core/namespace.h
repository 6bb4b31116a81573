// SPDX-License-Identifier: Apache-2.0
//
// Namespaces. One comes into being by Create, or with the first record that is inserted into it. Threads: any.
#pragma once

#include "core/labels.h"
#include "core/metadata.h"

struct namespace_record {
        const char *name;
        struct labels labels;
};

// False ends the walk. The record lives as long as the walk's arena, without one during the call.
typedef bool (*namespace_fn)(void *data, const struct namespace_record *record);

struct namespace_ops {
        // False with no error: there is no such namespace.
        bool (*get)(struct tx *tx, const char *name, struct arena *arena, struct namespace_record *ret, GError **error);
        bool (*walk)(struct tx *tx, struct arena *arena, namespace_fn fn, void *data, GError **error);
        // ALREADY_EXISTS `namespace "x": already exists`.
        bool (*insert)(struct tx *tx, const struct namespace_record *record, GError **error);
        // Replaces the labels; makes the namespace if there is none.
        bool (*set_labels)(struct tx *tx, const char *name, const struct labels *labels, GError **error);
        // FAILED_PRECONDITION `namespace "x" must be empty, but it still has images, …: failed precondition` while it
        // has images, blobs, containers or snapshots; leases and ingests go with it. NOT_FOUND `namespace "x": not
        // found`.
        bool (*remove)(struct tx *tx, const char *name, GError **error);
};
