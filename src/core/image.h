// SPDX-License-Identifier: Apache-2.0
//
// Images: names for content. Record operations, and what clients' calls do with them (checks, field masks, leases,
// events), which the Images service, Transfer and CRI share. Threads: any but the loop's.
#pragma once

#include "core/labels.h"
#include "core/metadata.h"
#include "core/scope.h"

#include <stdint.h>

struct filter;
struct event_exchange;

struct descriptor {
        const char *media_type, *digest;
        int64_t size;
        struct labels annotations;
};

struct image {
        const char *name;
        struct labels labels;
        struct descriptor target;
        int64_t created_ns, updated_ns; // wall clock
};

typedef bool (*image_fn)(void *data, const struct image *image);

struct image_ops {
        // NOT_FOUND `image "x": not found`.
        bool (*get)(struct tx *tx, const char *namespace_, const char *name, struct arena *arena, struct image *ret,
                GError **error);
        // In the order of names; false from fn ends the walk. The record lives in arena, without one during the call.
        bool (*walk)(
                struct tx *tx, const char *namespace_, struct arena *arena, image_fn fn, void *data, GError **error);
        // ALREADY_EXISTS `image "x": already exists`.
        bool (*insert)(struct tx *tx, const char *namespace_, const struct image *image, GError **error);
        // NOT_FOUND.
        bool (*update)(struct tx *tx, const char *namespace_, const struct image *image, GError **error);
        bool (*remove)(struct tx *tx, const char *namespace_, const char *name, GError **error);
};

// A filter_field (base/filter.h) on a struct image.
const char *image_field(void *image, const char *const *path, size_t n, bool *ret_present);

// What the calls need; all of it outlives them.
struct image_store {
        struct metadata *metadata;
        struct event_exchange *events; // NULL: nothing is published
};

// NOT_FOUND.
bool image_get(const struct image_store *store, const char *namespace_, const char *name, struct arena *arena,
        struct image *ret, GError **error);
// Calls fn for each match (filter NULL: all), inside the transaction.
bool image_list(const struct image_store *store, const char *namespace_, const struct filter *filter,
        struct arena *arena, image_fn fn, void *data, GError **error);
// Checks and stores; created_ns 0 is now, *image gets the times and loses empty labels. INVALID_ARGUMENT,
// ALREADY_EXISTS, NOT_FOUND (the scope's lease).
bool image_create(const struct image_store *store, const struct scope *scope, struct arena *arena, struct image *image,
        GError **error);
// Changes the fields that the mask names (all with an empty mask); *image gets the result. NOT_FOUND,
// INVALID_ARGUMENT.
bool image_update(const struct image_store *store, const struct scope *scope, char *const *paths, size_t n_paths,
        struct arena *arena, struct image *image, GError **error);
// Makes or replaces, whichever it takes.
bool image_put(const struct image_store *store, const struct scope *scope, struct arena *arena, struct image *image,
        GError **error);
// target NULL: whatever the image points to. NOT_FOUND.
bool image_delete(const struct image_store *store, const struct scope *scope, const char *name, const char *target,
        GError **error);
