// SPDX-License-Identifier: Apache-2.0
//
// One run of garbage collection: mark on a read snapshot while others write, sweep in one transaction, then take away
// bytes and directories. Threads: worker; one run at a time.
#pragma once

#include "core/metadata.h"

struct content_store;
struct event_exchange;
struct mount_manager;
struct snapshotters;

struct collector {
        struct metadata *metadata;
        struct content_store *content;     // NULL: only records are removed
        struct snapshotters *snapshotters; // NULL: the same
        struct mount_manager *mounts;      // NULL: the same
        struct event_exchange *events;     // NULL: nothing is published
        bool swept_all;                    // private: what no record names was looked for once
};

bool collector_run(struct collector *collector, GError **error);
