// SPDX-License-Identifier: Apache-2.0
//
// Labels (and annotations): pairs of texts in the order of their keys, each key once. Text and array belong to an
// arena. Threads: any, one at a time for a changing set.
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct label {
        const char *key, *value;
};

struct labels {
        struct label *items;
        size_t n;
};

// The value of key; NULL: it is not there.
const char *labels_get(const struct labels *labels, const char *key);
// Adds key or replaces its value; an empty or NULL value takes the key out, as containerd's stores do. The texts are
// copied.
void labels_set(struct labels *labels, struct arena *arena, const char *key, const char *value);
// For the paths of a field mask that are map ("labels", "annotations") or map.KEY: the one takes change as it is, the
// others take KEY from it, or out where change has none or an empty one. Other paths are the caller's.
void labels_apply(struct labels *labels, const struct labels *change, const char *map, char *const *paths,
        size_t n_paths, struct arena *arena);
struct labels labels_copy(const struct labels *labels, struct arena *arena);
// The same without pairs whose value is empty.
struct labels labels_copy_filled(const struct labels *labels, struct arena *arena);
// containerd's limit on key and value together (base/identifier.h); INVALID_ARGUMENT, the text begins with what.
bool labels_validate(const struct labels *labels, const char *what, GError **error);
// The value of a filter's path below "labels": its parts, joined by dots, are the key (base/filter.h).
const char *labels_field(const struct labels *labels, const char *const *path, size_t n, bool *ret_present);
// Puts items into the order of their keys; of several with the same key the last one stays.
void labels_normalize(struct labels *labels);
