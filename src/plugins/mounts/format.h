// SPDX-License-Identifier: Apache-2.0
//
// The few templates of containerd's mounts: "{{ mount 0 }}", "{{ source 0 }}", "{{ target 0 }}" and "{{ overlay 2 0 }}"
// (the mount points from one index to another, joined by colons).
#pragma once

#include "plugins/mounts/transform.h"

// The text with its templates filled in; caller frees. NULL with *error: INVALID_ARGUMENT.
char *format_expand(const char *text, const struct transform_context *context, GError **error);
