// SPDX-License-Identifier: Apache-2.0
//
// Snapshots that can be unpacked again, because their whole content came from one blob: those that were acknowledged
// before they were on the disk when the machine went down, and those whose directory is gone.
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

// Unpacks again, in place, parents first, every committed snapshot that the snapshotter found torn or lost when it was
// made, and marks it synced. What cannot be repaired is logged and stays as it is; nothing can be prepared on a torn
// one (DATA_LOSS).
// To be run before clients are served and before garbage is collected. False: there is nothing to do, and done is not
// called. The options' objects outlive it.
bool snapshot_repair_start(const struct snapshot_repair_options *options);
