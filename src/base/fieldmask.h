// SPDX-License-Identifier: Apache-2.0
//
// The paths of a google.protobuf.FieldMask, as the Update calls get them: names of fields, and KEY of the map field
// `labels` as labels.KEY, where KEY is all that follows the first dot, further dots included. Whether an empty mask
// means everything or nothing differs from call to call and is the caller's to say. Threads: any.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// Whether the mask names this very field, not only a part of it.
bool fieldmask_has(char *const *paths, size_t n, const char *field);

// KEY if path is map.KEY, else NULL. Points into path.
const char *fieldmask_key(const char *path, const char *map);

// Whether the mask has map.KEY for any key.
bool fieldmask_has_keys(char *const *paths, size_t n, const char *map);

// The first path that is neither one of fields, nor MAP.KEY for one of maps, or NULL if there is none. Both lists end
// with NULL. The caller refuses it in containerd's words: `cannot update "x" field on image "y": invalid argument`.
const char *fieldmask_unknown(char *const *paths, size_t n, const char *const *fields, const char *const *maps);
