// SPDX-License-Identifier: Apache-2.0
//
// The records of snapshots: names, parents, labels and where the directory is. The directories are the drivers'.
// Threads: any.
#pragma once

#include "core/labels.h"
#include "core/metadata.h"

#include <stdint.h>

enum snapshot_kind { SNAPSHOT_VIEW = 1, SNAPSHOT_ACTIVE = 2, SNAPSHOT_COMMITTED = 3 }; // the API's numbers

struct snapshot {
        const char *snapshotter, *key;
        const char *backend; // NS/SEQ/KEY: the name for proxy snapshotters and imported nodes
        const char *parent;  // key of the parent; "": none
        enum snapshot_kind kind;
        struct labels labels;
        int64_t created_ns, updated_ns; // wall clock
        int64_t number;                 // of the directory, unique within a snapshotter
        const char *directory;          // its path
        int64_t inodes, size_bytes;     // usage, of committed ones
        // A committed snapshot that is not synced yet can be unpacked again: its content came from one blob.
        const char *blob, *diff_id; // "": not from one Apply
        const char *boot_id;        // the boot during which it was written
        bool synced;
};

typedef bool (*snapshot_fn)(void *data, const char *namespace_, const struct snapshot *snapshot);

struct snapshot_ops {
        // NOT_FOUND `snapshot x does not exist: not found`.
        bool (*get)(struct tx *tx, const char *namespace_, const char *snapshotter, const char *key,
                struct arena *arena, struct snapshot *ret, GError **error);
        // In the order of namespace, snapshotter, key; namespace or snapshotter NULL: of all. False from fn ends the
        // walk. The record lives in arena, without one during the call.
        bool (*walk)(struct tx *tx, const char *namespace_, const char *snapshotter, struct arena *arena,
                snapshot_fn fn, void *data, GError **error);
        // ALREADY_EXISTS `snapshot "x": already exists`.
        bool (*insert)(struct tx *tx, const char *namespace_, const struct snapshot *snapshot, GError **error);
        // Everything but namespace, snapshotter and key. NOT_FOUND.
        bool (*update)(struct tx *tx, const char *namespace_, const struct snapshot *snapshot, GError **error);
        bool (*remove)(struct tx *tx, const char *namespace_, const char *snapshotter, const char *key, GError **error);
        // Whether a snapshot has it as its parent.
        bool (*has_child)(struct tx *tx, const char *namespace_, const char *snapshotter, const char *key,
                bool *ret_has, GError **error);
        // Never the same number twice: SEQ of backend names (per namespace and snapshotter), and n directory numbers in
        // a row (per snapshotter, from 1), of which it gives the first.
        bool (*next_sequence)(
                struct tx *tx, const char *namespace_, const char *snapshotter, int64_t *ret_sequence, GError **error);
        bool (*reserve_numbers)(struct tx *tx, const char *snapshotter, int64_t n, int64_t *ret_first, GError **error);
};
