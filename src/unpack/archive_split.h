// SPDX-License-Identifier: Apache-2.0
//
// An archive of images (an OCI layout, or what `docker save` writes; perhaps compressed) as a stream of its files, and
// what its own table of contents says. Threads: one at a time.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "codec/inflate.h"

#include "skiff/worker.pb-c.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct split_options {
        // The archive, as read(2).
        ssize_t (*read)(void *data, void *bytes, size_t n_bytes);
        // A file, then its body in pieces.
        bool (*on_file)(void *data, const Worker__ArchiveFile *file, GError **error);
        bool (*on_bytes)(void *data, const void *bytes, size_t n_bytes, GError **error);
        void *data;
        struct inflater_limits limits;
        uint64_t max_files; // 0: none
};

// The result lives in arena. INVALID_ARGUMENT for what is no such archive, with containerd's texts.
const Worker__ArchiveEnd *archive_split(const struct split_options *options, struct arena *arena, GError **error);
