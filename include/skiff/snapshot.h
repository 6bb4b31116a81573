// SPDX-License-Identifier: Apache-2.0
//
// Snapshots: file system trees made in layers by a snapshotter of the daemon; and leases, which keep what is being made
// from garbage collection. skiff_container_create does all this by itself. Ownership and threads: see client.h.
#pragma once

#include <skiff/client.h>
#include <skiff/spec.h>

#ifdef __cplusplus
extern "C" {
#endif

// Mounts to be made by the caller, in order, on one directory (destination is empty, or a path below it).
struct skiff_mounts;
size_t skiff_mounts_count(const struct skiff_mounts *list);
const struct skiff_mount *skiff_mounts_at(const struct skiff_mounts *list, size_t index);
void skiff_mounts_free(struct skiff_mounts *list);

struct skiff_snapshot_options {
        const char *snapshotter; // default "overlayfs"
        const char *key;
        const char *parent; // a committed snapshot, such as a layer's chain id (image-spec config.md); NULL: empty tree
        const char *lease;  // that keeps it until something else refers to it; NULL: none
        bool read_only;     // a view
};
// ALREADY_EXISTS: the key; NOT_FOUND: the parent.
struct skiff_mounts *skiff_snapshot_prepare(
        struct skiff_client *client, const struct skiff_snapshot_options *options, struct skiff_error **error);
// The mounts of one that is there and not committed. NOT_FOUND.
struct skiff_mounts *skiff_snapshot_mounts(
        struct skiff_client *client, const char *snapshotter, const char *key, struct skiff_error **error);
// FAILED_PRECONDITION: it has children; NOT_FOUND.
bool skiff_snapshot_remove(
        struct skiff_client *client, const char *snapshotter, const char *key, struct skiff_error **error);

// A lease ends by itself after expire_s seconds (0: never). ALREADY_EXISTS.
bool skiff_lease_create(struct skiff_client *client, const char *id, unsigned expire_s, struct skiff_error **error);
// What it alone kept goes with the next collection. NOT_FOUND.
bool skiff_lease_remove(struct skiff_client *client, const char *id, struct skiff_error **error);

#ifdef __cplusplus
}
#endif
