// SPDX-License-Identifier: Apache-2.0
//
// The records of sandboxes (pods). Threads: any.
#pragma once

#include "core/any.h"
#include "core/labels.h"
#include "core/metadata.h"

#include <stdint.h>

struct sandbox {
        const char *id;
        struct labels labels;
        const char *sandboxer;
        const char *runtime_name;
        struct any runtime_options;
        struct any spec;
        struct extensions extensions;
        int64_t created_ns, updated_ns; // wall clock
};

typedef bool (*sandbox_fn)(void *data, const struct sandbox *sandbox);

struct sandbox_ops {
        // NOT_FOUND `bucket "x" not found: not found`, which is containerd's text.
        bool (*get)(struct tx *tx, const char *namespace_, const char *id, struct arena *arena, struct sandbox *ret,
                GError **error);
        bool (*walk)(
                struct tx *tx, const char *namespace_, struct arena *arena, sandbox_fn fn, void *data, GError **error);
        // ALREADY_EXISTS `sandbox bucket "x" already exists: already exists`.
        bool (*insert)(struct tx *tx, const char *namespace_, const struct sandbox *sandbox, GError **error);
        bool (*update)(struct tx *tx, const char *namespace_, const struct sandbox *sandbox, GError **error);
        // NOT_FOUND `failed to delete sandbox "x": not found`.
        bool (*remove)(struct tx *tx, const char *namespace_, const char *id, GError **error);
};
