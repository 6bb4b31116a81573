// SPDX-License-Identifier: Apache-2.0
//
// A layer's tar stream (OCI image-spec layer.md; USTAR, PAX and GNU headers) applied to a directory, as containerd
// applies it. Threads: one at a time.
#pragma once

#include "base/error.h"
#include "unpack/report.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct layer_options {
        int root_fd; // the directory, stays the caller's
        // The stream, as read(2): 0 at its end, -1 with errno.
        ssize_t (*read)(void *data, void *bytes, size_t n_bytes);
        void *data;
        bool overlay;         // whiteouts for an overlayfs upper directory
        uint64_t max_entries; // 0: none
};

struct layer_result {
        uint64_t entries;
        uint64_t bytes; // of regular files
};

// Reads the stream to its end, also what follows the archive. What is left to skiffd is in report, also after failures.
// INVALID_ARGUMENT for what is no archive or cannot be unpacked, RESOURCE_EXHAUSTED past the limits, else UNKNOWN.
bool layer_apply(
        const struct layer_options *options, struct report *report, struct layer_result *ret_result, GError **error);
