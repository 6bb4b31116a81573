// SPDX-License-Identifier: Apache-2.0
//
// A layer's tar stream, entry by entry: PAX where a plain header does not do, whole seconds, no names of users, of the
// extended attributes the capabilities alone. Threads: one at a time.
#pragma once

#include "base/auto.h"
#include "base/error.h"
#include "unpack/changes.h"

#include <stdbool.h>
#include <sys/stat.h>

struct layer_writer;

// Uses write, data and the epoch of options.
struct layer_writer *layer_writer_new(const struct changes_options *options, GError **error);
void layer_writer_free(struct layer_writer *writer);
DEFINE_AUTO(layer_writer, layer_writer_free)

// What is at directory_fd/name, under path. link: not NULL for another name of what was written before.
bool layer_writer_add(struct layer_writer *writer, int directory_fd, const char *name, const char *path,
        const struct stat *status, const char *link, GError **error);
// That path is gone.
bool layer_writer_whiteout(struct layer_writer *writer, const char *path, GError **error);
bool layer_writer_finish(struct layer_writer *writer, GError **error);

// The security.capability attribute of directory_fd/name; NULL with *ret_size 0: it has none. Caller frees.
void *layer_writer_capabilities(int directory_fd, const char *name, size_t *ret_size);
