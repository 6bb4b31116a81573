// SPDX-License-Identifier: Apache-2.0
//
// Leases hold resources against garbage collection. Threads: any.
#pragma once

#include "core/labels.h"
#include "core/metadata.h"
#include "core/scope.h"

#include <stdint.h>

struct lease {
        const char *id;
        struct labels labels;
        int64_t created_ns; // wall clock
};

// type: "content", "ingests", "images", "snapshots/SNAPSHOTTER".
struct lease_resource {
        const char *type, *id;
};

typedef bool (*lease_fn)(void *data, const struct lease *lease);
typedef bool (*lease_resource_fn)(void *data, const struct lease_resource *resource);

struct lease_ops {
        // NOT_FOUND `lease "x": not found`.
        bool (*get)(struct tx *tx, const char *namespace_, const char *id, struct arena *arena, struct lease *ret,
                GError **error);
        // In the order of ids; false from fn ends the walk. The record lives in arena, without one during the call.
        bool (*walk)(
                struct tx *tx, const char *namespace_, struct arena *arena, lease_fn fn, void *data, GError **error);
        // ALREADY_EXISTS `lease "x": already exists`.
        bool (*insert)(struct tx *tx, const char *namespace_, const struct lease *lease, GError **error);
        // With its resources' entries. NOT_FOUND.
        bool (*remove)(struct tx *tx, const char *namespace_, const char *id, GError **error);
        // NOT_FOUND for the lease; the resource need not exist, and may be held already.
        bool (*add)(struct tx *tx, const char *namespace_, const char *id, const struct lease_resource *resource,
                GError **error);
        // It is fine if it was not held. NOT_FOUND for the lease.
        bool (*drop)(struct tx *tx, const char *namespace_, const char *id, const struct lease_resource *resource,
                GError **error);
        // By type, then id. NOT_FOUND for the lease.
        bool (*walk_resources)(struct tx *tx, const char *namespace_, const char *id, struct arena *arena,
                lease_resource_fn fn, void *data, GError **error);
};

// A filter_field (base/filter.h) on a struct lease.
const char *lease_field(void *lease, const char *const *path, size_t n, bool *ret_present);
// INVALID_ARGUMENT, UNIMPLEMENTED for other types; with containerd's texts.
bool lease_resource_validate(const struct lease_resource *resource, GError **error);

// Adds to, or takes out of, the lease that the scope names; nothing without one. hold: NOT_FOUND `lease does not
// exist: not found`. release: a lease that is gone is fine.
bool lease_hold(struct metadata *metadata, struct tx *tx, const struct scope *scope, const char *type, const char *id,
        GError **error);
bool lease_release(struct metadata *metadata, struct tx *tx, const struct scope *scope, const char *type,
        const char *id, GError **error);
