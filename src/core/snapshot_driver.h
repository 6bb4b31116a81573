// SPDX-License-Identifier: Apache-2.0
//
// What an implementer of snapshots is: the instance of PLUGIN_SNAPSHOTTER. It has no database and knows no names: it
// makes, mounts, measures and removes directories by number. Names, parents and kinds are rows of the metadata store,
// and core/snapshotter.c is what brings both together.
//
// All slots block on the disk and are called on a SLOW worker, several at the same time, but never two at once for the
// same directory, except for mounts, measure and remove. Errors: UNKNOWN from the system, RESOURCE_EXHAUSTED where the
// disk is full, others where said.
#pragma once

#include "base/error.h"
#include "base/mount.h"
#include "core/snapshot.h"

struct snapshot_driver;

// Where a snapshot lies.
struct snapshot_place {
        enum snapshot_kind kind;
        const char *directory;      // as make returned it; NULL before
        const char *const *parents; // directories of the committed ones below, nearest first
        size_t n_parents;
        const struct labels *labels; // those that drivers see: containerd.io/snapshot/… and snapshot.ref
};

struct snapshot_usage {
        int64_t size_bytes; // allocated blocks
        int64_t inodes;
};

// number: -1 for something that is no snapshot's directory (an interrupted make or remove).
typedef void (*snapshot_directory_fn)(void *data, int64_t number, const char *directory);

struct snapshot_driver_ops {
        // Makes the directory of a new active snapshot or view and returns its path (caller frees), which is stored and
        // comes back as place->directory. The number has no directory yet. Nothing is left after a failure. A driver
        // that needs none for a view returns the empty path.
        char *(*make)(
                struct snapshot_driver *driver, int64_t number, const struct snapshot_place *place, GError **error);
        // How to mount an active snapshot or a view: a list of struct mount, valid outside the daemon too.
        GPtrArray *(*mounts)(struct snapshot_driver *driver, const struct snapshot_place *place, GError **error);
        // What the snapshot itself takes, without its parents.
        bool (*measure)(struct snapshot_driver *driver, const struct snapshot_place *place,
                struct snapshot_usage *ret_usage, GError **error);
        // Turns an active snapshot's directory into one that can be a parent. rebased: it was made without parents, and
        // place->parents is what it is put on now; UNIMPLEMENTED by those who cannot. The row follows: after a failure,
        // or if the row cannot be written, the directory must still serve as the active snapshot.
        bool (*commit)(
                struct snapshot_driver *driver, const struct snapshot_place *place, bool rebased, GError **error);
        // Everything that was written to the directory is on disk when this returns.
        bool (*sync)(struct snapshot_driver *driver, const char *directory, GError **error);
        // Removes a directory that no row names (any more). That it is not there is no error.
        bool (*remove)(struct snapshot_driver *driver, const char *directory, GError **error);
        // Whether the directory is there.
        bool (*exists)(struct snapshot_driver *driver, const char *directory);
        // Every directory under the driver's root, in any order.
        bool (*list)(struct snapshot_driver *driver, snapshot_directory_fn fn, void *data, GError **error);
        // Labels that Stat and List add to a snapshot's own. NULL: none.
        void (*describe)(struct snapshot_driver *driver, const struct snapshot *snapshot, struct labels *labels,
                struct arena *arena);
};

struct snapshot_driver {
        const struct snapshot_driver_ops *ops;
        const char *root;
        bool sync_remove; // Remove answers after the directory is gone
        bool can_rebase;  // commit takes a snapshot that was made without parents and puts it on some
};
