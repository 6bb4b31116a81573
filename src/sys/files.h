// SPDX-License-Identifier: Apache-2.0
//
// Files that must survive a power cut, and paths that must not lead elsewhere. (Not called file.h, which would hide
// the system's <sys/file.h>.) Threads: any but the loop's (all of this waits for the disk). Errors are UNKNOWN with the
// path and the system's text, except where said.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// openat2(2) of a path that is there already, close-on-exec, asked again where a rename or a mount on the way made the
// kernel unsure. "" is the directory itself. -1 and errno.
int file_open_resolved(int directory, const char *path, int flags, uint64_t resolve);

// Opens path below a directory (openat2): no symbolic link is followed and no ".." leaves it. NOT_FOUND where it does
// not exist, PERMISSION_DENIED where it leads out or over a link. -1 on failure.
int file_open_beneath(int directory, const char *path, int flags, mode_t mode, GError **error);

// Makes path and what is missing above it; fine if it is there. New directories are synced into their parents.
bool file_make_directories(const char *path, mode_t mode, GError **error);

// Writes all of it at offset, or fails.
bool file_write_at(int fd, const void *bytes, size_t n_bytes, off_t offset, GError **error);
// A small file as a text; NOT_FOUND, RESOURCE_EXHAUSTED if it is larger than limit. Caller frees.
char *file_read_text(int directory, const char *name, size_t limit, GError **error);
// What can be read from fd until its end, or until it is limit bytes or a little more, as a text; after an error, what
// came before. For the kernel's files and for what others have written, where some of it is better than nothing.
char *file_read_some(int fd, size_t limit);
bool file_sync_directory(int directory, GError **error);
