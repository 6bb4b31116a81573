// SPDX-License-Identifier: Apache-2.0
//
// The paths of a google.protobuf.FieldMask, as the Update calls get them: names of fields, and KEY of the map field
// `labels` as labels.KEY, where KEY is all that follows the first dot, further dots included. Whether an empty mask
// means everything or nothing differs from call to call and is the caller's to say. Threads: any.
#pragma once

#include <stdbool.h>

// KEY if path is map.KEY, else NULL. Points into path.
const char *fieldmask_key(const char *path, const char *map);
// Whether path is map or map.KEY.
bool fieldmask_is_of(const char *path, const char *map);
