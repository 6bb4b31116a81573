// SPDX-License-Identifier: Apache-2.0
//
// What differs between two directories, as a layer's tar stream (OCI image-spec layer.md), by containerd's rule of what
// counts as a change: type, mode, owner, capabilities, size, time, and the content where times have no fraction.
// Threads: one at a time.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct changes_options {
        int lower_fd, upper_fd; // directories, stay the caller's; lower_fd -1: everything is new
        bool has_epoch;         // later times are set to this one
        int64_t epoch_seconds;
        // The stream; false with *error ends it.
        bool (*write)(void *data, const void *bytes, size_t n_bytes, GError **error);
        void *data;
};

bool changes_write(const struct changes_options *options, GError **error);
