// SPDX-License-Identifier: Apache-2.0
//
// Headers of a tar archive as Go's archive/tar writes them (POSIX ustar; a pax record in front where a name or a size
// does not fit). Threads: any.
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum { TAR_BLOCK = 512 };

// Appends the header of an entry: a directory ("blobs/") or a regular file.
void tar_append_header(GByteArray *to, const char *name, unsigned mode, int64_t size, bool directory);
// Zeros up to the next block after size bytes.
size_t tar_padding(int64_t size);
