// SPDX-License-Identifier: Apache-2.0
//
// Mounts in containerd's terms (type, source, target, options as in fstab) and the kernel's: flags, propagation, loop
// devices, overlays with more layers than one page of options holds, FUSE helpers. Threads: worker; the mount namespace
// is the caller's.
#pragma once

#include "base/mount.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

// A mount without ownership, for those who have a decoded message at hand.
struct mount_request {
        const char *type;   // "bind", "overlay", …
        const char *source; // "overlay" has none that counts
        const char *target; // below the directory that is mounted on; "" or NULL: that itself
        const char *const *options;
        size_t n_options;
};

// What the options say to mount(2).
struct mount_flags {
        unsigned long flags;  // MS_*, without propagation
        unsigned long spread; // MS_SHARED and the like, maybe with MS_REC
        bool loop, direct_io;
        GString *data;               // what is left, joined by commas
        const char *uidmap, *gidmap; // of the mount's options; NULL: none
};
// INVALID_ARGUMENT for options that were meant for the mount manager ("X-containerd.…").
bool mount_flags_init(struct mount_flags *flags, const struct mount *mount, GError **error);
void mount_flags_done(struct mount_flags *flags);

// Mounts on target (joined with the mount's own target, which must not lead out of it).
bool mount_apply(const struct mount *mount, const char *target, GError **error);
// All of them, in order; what was mounted is unmounted again if one fails.
bool mounts_apply(const GPtrArray *mounts, const char *target, GError **error);

// As mounts_apply, but what was mounted stays if a later one fails: unmount_below takes it away.
bool mount_all(const struct mount_request *requests, size_t n_requests, const char *directory, GError **error);

// Unmounts the topmost mount at target; flags are umount2's (UMOUNT_NOFOLLOW is added). A busy one is tried again for
// some seconds. Nothing mounted there, or no such path: no error.
bool mount_unmount(const char *target, int flags, GError **error);
// Everything that is mounted at and below target, stacked mounts included.
bool mount_unmount_recursive(const char *target, int flags, GError **error);
// The same, but what is busy is detached at once.
bool unmount_below(const char *path, GError **error);
// The mount points at and below path, those of the last mount first; of this process's namespace.
GPtrArray *mount_points(const char *path, GError **error);

// Mounts on a new directory in dir (made on demand, mode 0700), read-only if asked, and returns its path for
// mount_temp_remove; NULL on failure, with nothing left behind.
char *mount_temp(const GPtrArray *mounts, const char *dir, bool read_only, GError **error);
// Unmounts and removes it. Frees path.
bool mount_temp_remove(char *path, GError **error);
// The same mounts for reading only: an overlay without its work directory and with the upper one as topmost lower, the
// others with "ro" for "rw".
GPtrArray *mounts_read_only(const GPtrArray *mounts);
