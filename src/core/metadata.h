// SPDX-License-Identifier: Apache-2.0
//
// The metadata store: every record of the daemon, in transactions that can span all kinds of them. The instance of
// PLUGIN_METADATA "bolt" (containerd's name for it). Services and plugins work on records through the tables of
// functions below; only src/store knows how they are kept.
//
//   static bool create(struct tx *tx, void *data, GError **error) { … md->images->insert(tx, ns, image, error) … }
//   metadata_write(md, TX_DURABLE, create, &state, error)
//
// Ownership: what is read lives in the arena that the caller passes. Threads: any but the loop's (both calls wait for
// the disk); a tx belongs to the thread that its function runs in and ends with it.
// Errors: those of the function; UNKNOWN "metadata: …" from the disk, RESOURCE_EXHAUSTED where it is full, DATA_LOSS
// where the database is damaged.
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>

struct tx;
struct metadata;

// How much of a power cut a write survives once it is acknowledged: all of it, or it may be undone (never torn).
enum tx_class { TX_RELAXED, TX_DURABLE };

// The function of a transaction. It may run at the same time as others' reads, never as another write. False with
// *error: everything that it did is undone. It must be short, and take no lock that is held across a transaction.
typedef bool (*tx_fn)(struct tx *tx, void *data, GError **error);

// What garbage collection can keep or remove, and refer to.
enum resource_type {
        RESOURCE_CONTENT,
        RESOURCE_SNAPSHOT, // key: SNAPSHOTTER/KEY
        RESOURCE_CONTAINER,
        RESOURCE_IMAGE,
        RESOURCE_LEASE,
        RESOURCE_INGEST,
        RESOURCE_MOUNT,
};
typedef void (*resource_fn)(void *data, enum resource_type type, const char *namespace_, const char *key);

struct metadata_ops {
        // Runs fn in a transaction of its own, together with others' in one commit, and returns once that commit is
        // as safe as class says. Nothing of fn's effect is seen by anyone before.
        bool (*write)(struct metadata *metadata, enum tx_class class, tx_fn fn, void *data, GError **error);
        // Runs fn on a snapshot of the last commit. Does not wait for writers, and they do not for it.
        bool (*read)(struct metadata *metadata, tx_fn fn, void *data, GError **error);
        // Calls fn after each commit that changed something, in the committing thread; removed: something that may
        // have been the last reference to other things was taken away (tx_mark_removed). fn must not wait. NULL
        // ends it. For the scheduler of garbage collection.
        void (*observe)(struct metadata *metadata, void (*fn)(void *data, bool removed), void *data);
        // Between begin and end, every record that is inserted or changed is noted. Garbage collection begins before
        // it marks on a read snapshot, and takes what was noted meanwhile (touched, inside a write) for used.
        void (*touched_begin)(struct metadata *metadata);
        void (*touched_end)(struct metadata *metadata);
        void (*touched)(struct tx *tx, resource_fn fn, void *data);
        // Says that this transaction took a reference away. As in containerd, changes of labels or targets do not say
        // so: what they set free goes with the next collection, and clients rely on that it is not at once.
        void (*mark_removed)(struct tx *tx);
        // The whole check of the database, on a snapshot beside everything else. DATA_LOSS with what was found;
        // CANCELED once *stop is true.
        bool (*check)(struct metadata *metadata, const atomic_bool *stop, GError **error);
};

struct metadata {
        const struct metadata_ops *ops;
        const struct namespace_ops *namespaces;   // core/namespace.h
        const struct container_ops *containers;   // core/container.h
        const struct image_ops *images;           // core/image.h
        const struct blob_ops *blobs;             // core/blob.h
        const struct ingest_ops *ingests;         // core/blob.h
        const struct lease_ops *leases;           // core/lease.h
        const struct snapshot_ops *snapshots;     // core/snapshot.h
        const struct sandbox_ops *sandboxes;      // core/sandbox.h
        const struct event_log_ops *events;       // core/event_log.h
        const struct activation_ops *activations; // core/activation.h
        bool shares_content; // policy: a namespace may take over content of another one by its digest alone
};

static inline bool metadata_write(struct metadata *metadata, enum tx_class class, tx_fn fn, void *data, GError **error)
{
        return metadata->ops->write(metadata, class, fn, data, error);
}

static inline bool metadata_read(struct metadata *metadata, tx_fn fn, void *data, GError **error)
{
        return metadata->ops->read(metadata, fn, data, error);
}
