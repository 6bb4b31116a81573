// SPDX-License-Identifier: Apache-2.0
//
// Containers: what to run, not that it runs. Record operations and the checks of clients' changes. Threads: any.
#pragma once

#include "core/any.h"
#include "core/labels.h"
#include "core/metadata.h"

#include <stdint.h>

struct container {
        const char *id;
        struct labels labels;
        const char *image;
        const char *runtime_name;
        struct any runtime_options;
        struct any spec;
        const char *snapshotter, *snapshot_key;
        struct extensions extensions;
        const char *sandbox;
        int64_t created_ns, updated_ns; // wall clock
};

typedef bool (*container_fn)(void *data, const struct container *container);

struct container_ops {
        // NOT_FOUND `container "x" in namespace "y": not found`.
        bool (*get)(struct tx *tx, const char *namespace_, const char *id, struct arena *arena, struct container *ret,
                GError **error);
        // In the order of ids; false from fn ends the walk. The record lives in arena, without one during the call.
        bool (*walk)(struct tx *tx, const char *namespace_, struct arena *arena, container_fn fn, void *data,
                GError **error);
        // ALREADY_EXISTS `container "x": already exists`.
        bool (*insert)(struct tx *tx, const char *namespace_, const struct container *container, GError **error);
        // NOT_FOUND `container "x": not found`.
        bool (*update)(struct tx *tx, const char *namespace_, const struct container *container, GError **error);
        // NOT_FOUND `container x: not found`.
        bool (*remove)(struct tx *tx, const char *namespace_, const char *id, GError **error);
};

// A filter_field (base/filter.h) on a struct container.
const char *container_field(void *container, const char *const *path, size_t n, bool *ret_present);
// INVALID_ARGUMENT with containerd's texts.
bool container_validate(const struct container *container, GError **error);
// Changes of *container the fields of change that the mask names; with an empty mask all that may change, and
// INVALID_ARGUMENT where one that may not does. INVALID_ARGUMENT for unknown fields.
bool container_apply(struct container *container, const struct container *change, char *const *paths, size_t n_paths,
        struct arena *arena, GError **error);

// NOT_FOUND. One read transaction.
bool container_get(struct metadata *metadata, const char *namespace_, const char *id, struct arena *arena,
        struct container *ret, GError **error);
