// SPDX-License-Identifier: Apache-2.0
//
// Content that a machine lost when it went down: snapshots that were acknowledged because they can be unpacked again.
// Threads: start in any; done on a worker.
#pragma once

#include <stdbool.h>

struct content_store;
struct differ;
struct snapshotter;

struct snapshot_repair_options {
        struct snapshotter *snapshotter;
        struct content_store *content;
        struct differ *differ;
        void (*done)(void *data); // the last call
        void *data;
};

// Unpacks again, in place, parents first, every committed snapshot of an earlier boot that had not reached the disk,
// and marks it synced. What cannot be repaired is logged and stays as it is: nothing can be prepared on it (DATA_LOSS).
// To be run before clients are served and before garbage is collected. False: there is nothing to do, and done is not
// called. The options' objects outlive it.
bool snapshot_repair_start(const struct snapshot_repair_options *options);
