// SPDX-License-Identifier: Apache-2.0
//
// The records of activated mounts (core/mount_manager.h). They belong to one boot: the mounts themselves are gone after
// it. Threads: any.
#pragma once

#include "core/labels.h"
#include "core/metadata.h"

#include <stdint.h>

struct activation {
        const char *name;
        struct labels labels;
        const char *lease; // that keeps it; "": none
        int64_t number;    // of the directory, unique
        bool complete;     // false: being mounted, or interrupted
        const void *info;  // a packed containerd.types.ActivationInfo, of a complete one
        size_t n_info;
        int64_t created_ns, updated_ns; // wall clock
};

typedef bool (*activation_fn)(void *data, const char *namespace_, const struct activation *activation);

struct activation_ops {
        // NOT_FOUND `mount "x": not found`.
        bool (*get)(struct tx *tx, const char *namespace_, const char *name, struct arena *arena,
                struct activation *ret, GError **error);
        // In the order of namespace and name; namespace NULL: of all. False from fn ends the walk. The record lives in
        // arena, without one during the call.
        bool (*walk)(struct tx *tx, const char *namespace_, struct arena *arena, activation_fn fn, void *data,
                GError **error);
        // Inserts or replaces.
        bool (*put)(struct tx *tx, const char *namespace_, const struct activation *activation, GError **error);
        // NOT_FOUND.
        bool (*remove)(struct tx *tx, const char *namespace_, const char *name, GError **error);
        bool (*next_number)(struct tx *tx, int64_t *ret_number, GError **error);
};
