// SPDX-License-Identifier: Apache-2.0
//
// One entry of a layer made in its place: file, directory, link, FIFO, or a note that skiffd is to make the device.
// Threads: one at a time.
#pragma once

#include "base/error.h"
#include "unpack/report.h"
#include "unpack/rootfs.h"

#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

struct archive;
struct archive_entry;

struct node {
        struct archive *archive; // at the entry's data
        struct archive_entry *entry;
        const char *hardlink; // NULL: none
        mode_t type;          // S_IFREG, …
        mode_t mode;          // 07777
        uid_t uid;
        gid_t gid;
        struct timespec times[2]; // access, modification
};

struct node_context {
        struct rootfs *rootfs;
        struct report *report;
        uint64_t *bytes; // counts what is written to files
};

enum node_outcome {
        NODE_DONE,
        NODE_EXISTS, // nothing was done: something is in the way, remove it and ask again
        NODE_FAILED,
};
enum node_outcome node_make(
        const struct node_context *context, const struct node *node, const struct rootfs_place *place, GError **error);

// overlayfs's sign that what lies below place is hidden.
bool node_make_whiteout(
        const struct node *node, const struct rootfs_place *place, struct report *report, GError **error);
