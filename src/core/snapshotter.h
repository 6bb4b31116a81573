// SPDX-License-Identifier: Apache-2.0
//
// Snapshots as clients see them: keys in namespaces, on top of a driver's directories and the metadata store's rows,
// with containerd's rules and texts. Keys, labels and results live in the caller's arena where one is passed.
//
// Errors: NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION, INVALID_ARGUMENT as containerd answers them, DATA_LOSS for
// what stands on a snapshot that was lost in a crash (core/snapshot_repair.h), and those of the driver and the store.
// Threads: workers (all calls wait for the disk).
#pragma once

#include "base/filter.h"
#include "core/metadata.h"
#include "core/scope.h"
#include "core/snapshot_driver.h"

struct event_exchange;
struct lanes;
struct snapshotter;

struct snapshotter_options {
        const char *name; // "overlayfs"
        struct snapshot_driver *driver;
        struct metadata *metadata;
        struct event_exchange *exchange;
        struct lanes *lanes;
        bool lazy_sync; // commits answer before their content is on disk; what a power cut takes then is refused
};

// Looks after what an earlier daemon left: directories without a row are removed, rows without a directory logged, if
// they cannot be repaired (core/snapshot_repair.h).
struct snapshotter *snapshotter_new(const struct snapshotter_options *options, GError **error);
// Waits for nothing; jobs that are under way hold what they need.
void snapshotter_free(struct snapshotter *snapshotter);
const char *snapshotter_name(const struct snapshotter *snapshotter);

bool snapshotter_stat(struct snapshotter *snapshotter, const struct scope *scope, const char *key, struct arena *arena,
        struct snapshot *ret, GError **error);
// Replaces labels, or what paths (a field mask) name of them.
bool snapshotter_update(struct snapshotter *snapshotter, const struct scope *scope, struct snapshot *snapshot,
        char *const *paths, size_t n_paths, struct arena *arena, GError **error);
bool snapshotter_usage(struct snapshotter *snapshotter, const struct scope *scope, const char *key,
        struct snapshot_usage *ret_usage, GError **error);
// A list of struct mount.
GPtrArray *snapshotter_mounts(
        struct snapshotter *snapshotter, const struct scope *scope, const char *key, GError **error);

// Whether an active snapshot without a parent can be committed onto one (snapshot_commit.parent), and the mounts that
// it would have if it had been prepared on that one.
bool snapshotter_can_rebase(const struct snapshotter *snapshotter);
GPtrArray *snapshotter_mounts_on(struct snapshotter *snapshotter, const struct scope *scope, const char *key,
        const char *parent, GError **error);

// A new active snapshot (or view) on parent ("": none); returns its mounts. With the label containerd.io/snapshot.ref,
// ALREADY_EXISTS if the snapshot that it names is there; what exists is added to the lease in any case.
struct snapshot_request {
        const char *key, *parent;
        struct labels labels;
        bool view;
};
GPtrArray *snapshotter_prepare(struct snapshotter *snapshotter, const struct scope *scope,
        const struct snapshot_request *request, GError **error);

struct snapshot_commit {
        const char *name, *key;
        const char *parent; // for a snapshot that was prepared without one: what it is put on; "" or NULL: nothing
        struct labels labels;
        // If the whole content came from one Apply of a blob by ourselves, and nobody else had its mounts: the commit
        // answers before the content is on disk, as it can be unpacked again. NULL: it did not.
        const char *blob, *diff_id;
        const struct snapshot_usage *usage; // NULL: measure
};
bool snapshotter_commit(struct snapshotter *snapshotter, const struct scope *scope,
        const struct snapshot_commit *commit, GError **error);
bool snapshotter_remove(struct snapshotter *snapshotter, const struct scope *scope, const char *key, GError **error);

// In the order of keys; false from fn ends the walk.
typedef bool (*snapshotter_walk_fn)(void *data, const struct snapshot *snapshot);
bool snapshotter_walk(struct snapshotter *snapshotter, const struct scope *scope, const struct filter *filter,
        struct arena *arena, snapshotter_walk_fn fn, void *data, GError **error);

// Removes every directory that no row names. Garbage collection calls it after it removed rows.
bool snapshotter_cleanup(struct snapshotter *snapshotter, GError **error);

// A filter_field (base/filter.h) on a struct snapshot: kind, name, parent, labels.
const char *snapshot_field(void *snapshot, const char *const *path, size_t n, bool *ret_present);

// ---- all of them, by name: the instance of PLUGIN_SERVICE "snapshots-service"

struct snapshotters;
struct snapshotters *snapshotters_new(void);
void snapshotters_free(struct snapshotters *snapshotters);
// Takes it.
void snapshotters_add(struct snapshotters *snapshotters, struct snapshotter *snapshotter);
// INVALID_ARGUMENT: "" or unknown, in containerd's words.
struct snapshotter *snapshotters_get(struct snapshotters *snapshotters, const char *name, GError **error);
