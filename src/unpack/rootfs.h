// SPDX-License-Identifier: Apache-2.0
//
// The directory that a layer is unpacked into, as if it were the root of the file system: symbolic links on the way to
// a name are followed within it, ".." ends at it. Everything that is made or removed goes through a place: an open
// directory and a plain name in it. Threads: one at a time.
#pragma once

#include "base/auto.h"
#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>

struct rootfs;

// root_fd stays the caller's. on_invented is called for each directory that rootfs_find had to make.
struct rootfs *rootfs_new(int root_fd, void (*on_invented)(void *data, const char *path), void *data);
void rootfs_free(struct rootfs *rootfs);
DEFINE_AUTO(rootfs, rootfs_free)

// name as an archive gives it, without ".", "..", empty components and slashes at the ends, taken lexically; "" is the
// root. Caller frees.
char *rootfs_clean(const char *name);

struct rootfs_place {
        int directory_fd;      // the rootfs's, valid until the next call of the same function
        const char *directory; // its path without symbolic links, "" for the root; likewise
        const char *name;      // points into the path that was asked for
};

// Where path's last component is or would be. path: of rootfs_clean, not empty. create: directories that are missing on
// the way are made (0755, reported). NOT_FOUND without it; INVALID_ARGUMENT where something on the way is no directory
// or links go in circles.
bool rootfs_find(struct rootfs *rootfs, const char *path, bool create, struct rootfs_place *ret_place, GError **error);
// The same for the target of a hard link: path as the archive has it, with ".." followed as the kernel does.
bool rootfs_find_target(struct rootfs *rootfs, const char *path, struct rootfs_place *ret_place, GError **error);

// directory/name, without symbolic links. Caller frees.
char *rootfs_place_path(const struct rootfs_place *place);

// Removes a file or a directory with all that is in it; nothing there is fine.
bool rootfs_remove(struct rootfs *rootfs, const struct rootfs_place *place, GError **error);

// Removes from the directory at place->directory_fd each thing, at any depth, for whose path keep says false; what is
// kept is looked into.
typedef bool (*rootfs_keep_fn)(void *data, const char *path);
bool rootfs_remove_others(
        struct rootfs *rootfs, const struct rootfs_place *place, rootfs_keep_fn keep, void *data, GError **error);

// A path without symbolic links, opened with these flags (and O_NOFOLLOW, O_CLOEXEC), -1 and errno.
int rootfs_open(const struct rootfs *rootfs, const char *path, int flags);
