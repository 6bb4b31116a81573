// SPDX-License-Identifier: Apache-2.0
//
// Namespaces for workers: what a worker does to itself (single-threaded programs only), and what its parent prepares
// for that (any thread). Errors are UNKNOWN with the step that failed.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>

// A detached, private copy of the mount of path (a directory or a file) alone, nodev, nosuid and noexec except as flags
// say, as a descriptor that can be passed to another process. Needs CAP_SYS_ADMIN. -1: *error is set.
enum { CLONE_MOUNT_READ_ONLY = 1, CLONE_MOUNT_EXECUTABLE = 2 };
int namespace_clone_mount(const char *path, unsigned flags, GError **error);

// Makes the detached mount the root and the working directory, and lets go of all other mounts. The process must have a
// mount namespace of its own (CLONE_NEWNS), and root's rights in it.
bool namespace_enter_root(int mount_fd, GError **error);

// The same for the working directory, which must be the root of a mount.
bool namespace_change_root(GError **error);

// Moves the process into a new user namespace, where it has every capability once its parent has called
// namespace_map_identity. False: user namespaces are not to be had here (errno); nothing has changed then.
bool namespace_new_user(void);
// The parent's part: ids are the same inside and outside.
bool namespace_map_identity(pid_t pid, GError **error);
