// SPDX-License-Identifier: Apache-2.0
//
// Mounting what containerd's API calls a mount: a type, a source and fstab-style options; and taking it all away again.
// Blocks as mount(2) does. Threads: any.
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

struct mount_request {
        const char *type;   // "bind", "overlay", …
        const char *source; // "overlay" has none that counts
        const char *target; // below the directory that is mounted on; "" or NULL: that itself
        const char *const *options;
        size_t n_options;
};

// Mounts all, in order, each on directory or below it; what is below is found as if directory were the root. What was
// mounted stays if a later one fails: unmount_below takes it away. UNIMPLEMENTED for options that need a helper (loop,
// uidmap, fuse), INVALID_ARGUMENT for options that a mount manager should have consumed, else UNKNOWN.
bool mount_all(const struct mount_request *requests, size_t n_requests, const char *directory, GError **error);

// Unmounts everything on path and below it, last first; what is busy is detached. Nothing there is fine.
bool unmount_below(const char *path, GError **error);
