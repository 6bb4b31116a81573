// SPDX-License-Identifier: Apache-2.0
//
// Whole directory trees: how much they take, their removal, copies that keep everything. No symbolic link is followed
// and no mount point below the root is special. Threads: worker.
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct tree_usage {
        int64_t n_bytes;  // allocated blocks
        int64_t n_inodes; // the root included; a file with several links counts once
};
// NOT_FOUND if path is not there. What vanishes meanwhile is left out.
bool tree_usage(const char *path, struct tree_usage *ret_usage, GError **error);

// Removes path, whatever it is; that it is not there is no error.
bool tree_remove(const char *path, GError **error);
// The same for a name in an open directory.
bool tree_remove_at(int directory_fd, const char *name, GError **error);

// Copies the content of the directory from into the existing directory to and gives it from's owner, mode, times and
// attributes too. Hard links within the tree, holes, devices, FIFOs, sockets, owners, modes, times and extended
// attributes are kept; data is shared where the file system can (reflink). An attribute that cannot be set is left out.
bool tree_copy(const char *from, const char *to, GError **error);

// Writes everything below path, and the file system's own records, to disk (syncfs of the file system that holds it).
bool tree_sync(const char *path, GError **error);
