// SPDX-License-Identifier: Apache-2.0
//
// What stands before a mount's type ("format/mkdir/overlay") changes the mount before it is made: format fills in the
// places of mounts that are active already, mkdir makes directories, mkfs a file with a file system. Threads: worker.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/mount.h"

#include "containerd/types.pb-c.h"

struct transform_context {
        const char *const *roots; // directories that mkdir and mkfs may write below; NULL-terminated
        const Types__ActiveMount *const *active;
        size_t n_active;
};

typedef bool (*transform_fn)(struct mount *mount, const struct transform_context *context, GError **error);

// NULL: no such transformation.
transform_fn transform_find(const char *name);

// The size in "16M", "1.5g", "10kb": powers of 1024, as Docker's command line takes them. False: it is none.
bool transform_parse_size(const char *text, int64_t *ret_bytes);
