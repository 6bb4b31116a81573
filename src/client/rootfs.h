// SPDX-License-Identifier: Apache-2.0
//
// Reads files of a container's root file system without mounting it: through the directories that its mounts name, as
// overlayfs would merge them. Symbolic links stay within. Threads: any, one at a time per object.
#pragma once

#include "base/auto.h"

#include <glib.h>
#include <stddef.h>

#include "containerd/types.pb-c.h"

struct rootfs;

// UNIMPLEMENTED for mounts that are not plain directories or overlays of them; PERMISSION_DENIED where the directories
// cannot be opened.
struct rootfs *rootfs_open(Types__Mount *const *mounts, size_t n_mounts, GError **error);
// One directory. For tests, and for root file systems that are mounted.
struct rootfs *rootfs_open_directory(const char *path, GError **error);
void rootfs_free(struct rootfs *rootfs);
DEFINE_AUTO(rootfs, rootfs_free)

// A regular file of at most max_bytes. NOT_FOUND, RESOURCE_EXHAUSTED; INVALID_ARGUMENT: not a regular file.
GString *rootfs_read(const struct rootfs *rootfs, const char *path, size_t max_bytes, GError **error);
