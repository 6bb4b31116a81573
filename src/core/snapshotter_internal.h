// SPDX-License-Identifier: Apache-2.0
//
// What the files of the snapshotter share.
#pragma once

#include "core/snapshotter.h"
#include "io/lanes.h"

#include <uv.h>

struct snapshotter {
        char *name, *lease_type; // "overlayfs", "snapshots/overlayfs"
        char *boot_id;
        struct snapshot_driver *driver;
        struct metadata *metadata;
        struct event_exchange *exchange;
        struct lanes *lanes;
        bool lazy_sync;
        bool needs_repair; // at the start, rows were found whose content is not what they say

        uv_mutex_t mutex; // never held across a transaction or a driver's call
        uv_cond_t idle;
        GHashTable *numbers_in_use;       // int64: directories that no row names yet; this and the rest under mutex
        int64_t next_number, last_number; // what is left of the reserved ones
        unsigned n_jobs;                  // in the background
        bool stopping, syncing, sync_again;
};

// The chain below a row, as directories, nearest first; NULL-terminated, in arena. NOT_FOUND where a parent is missing,
// DATA_LOSS where one is torn.
bool snapshotter_chain(struct snapshotter *snapshotter, struct tx *tx, const char *namespace_, const char *parent,
        struct arena *arena, struct snapshot_place *place, GError **error);
struct snapshot_place snapshotter_place(const struct snapshot *row);
bool snapshotter_get(struct snapshotter *snapshotter, struct tx *tx, const char *namespace_, const char *key,
        struct arena *arena, struct snapshot *ret, GError **error);

// A number that no directory has. It counts as in use until it is let go.
bool snapshotter_take_number(struct snapshotter *snapshotter, int64_t *ret_number, GError **error);
// The same for a number that has a row, whose directory is made anew.
void snapshotter_hold_number(struct snapshotter *snapshotter, int64_t number);
void snapshotter_let_go(struct snapshotter *snapshotter, int64_t number);

// Work that need not be waited for: on a SLOW worker, or, while stopping, not at all.
struct snapshotter_job {
        struct snapshotter *snapshotter;
        void (*run)(struct snapshotter_job *job);
        char *directory;
};
void snapshotter_submit(
        struct snapshotter *snapshotter, void (*run)(struct snapshotter_job *job), const char *directory);
void snapshotter_remove_directory(struct snapshotter *snapshotter, const char *directory);
// Sees to it that unsynced rows of this boot get synced.
void snapshotter_sync_later(struct snapshotter *snapshotter);
// Committed before it was on disk, and the machine went down since: the content may be anything.
bool snapshotter_is_torn(const struct snapshotter *snapshotter, const struct snapshot *row);
// Whether it is committed, came from one blob and its directory is gone.
bool snapshotter_is_lost(const struct snapshotter *snapshotter, const struct snapshot *row);
bool snapshotter_recover(struct snapshotter *snapshotter, GError **error);
