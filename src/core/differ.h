// SPDX-License-Identifier: Apache-2.0
//
// A differ applies layers to mounts and makes layers from them: the instance of PLUGIN_DIFFER ("walking", as containerd
// calls its own). Everything is asynchronous: functions return at once, results come once, later, on a SLOW worker.
// Threads: any.
#pragma once

#include "base/mount.h"
#include "core/labels.h"
#include "core/scope.h"
#include "core/unpacker.h"

struct content_store;
struct differ;
struct differ_apply;

struct differ_apply_request {
        const char *media_type;
        // As in unpack_request: the layer's file, whole or growing.
        int fd;
        int64_t available_bytes;
        bool complete;
        const GPtrArray *mounts; // of struct mount; copied
        bool sync_fs;
        // The mounts are those of an upper directory that will be put on others when all is there: what the layer
        // removes is noted and not looked for, and settle is to be called.
        bool rebased;
        struct cancel *cancel;
};

struct differ_compare_request {
        const GPtrArray *lower, *upper; // of struct mount; copied
        const char *media_type;         // "": gzip
        const char *ref;                // of the ingest; "": one is made up
        struct labels labels;           // for the blob
        bool has_epoch;
        int64_t epoch_seconds;
        struct cancel *cancel;
};

struct differ_compare_result {
        const char *media_type, *digest;
        int64_t size;
};
// result is NULL exactly if error is set; both are valid during the call alone.
typedef void (*differ_compare_fn)(void *data, const struct differ_compare_result *result, const GError *error);

struct differ_ops {
        // UNIMPLEMENTED for media types that it does not know, else unpack_start's errors and those of mounting.
        struct differ_apply *(*apply)(
                struct differ *differ, const struct differ_apply_request *request, unpack_done_fn done, void *data);
        // As unpack_advance, unpack_abort, unpack_unref.
        void (*advance)(struct differ_apply *apply, int64_t available_bytes, bool complete);
        void (*abort)(struct differ_apply *apply, const GError *reason);
        void (*unref)(struct differ_apply *apply);
        // For `rebased`, after a result, before the snapshot is committed: mounts are those that it would have with its
        // parents. On a SLOW worker, which it blocks.
        bool (*settle)(struct differ_apply *apply, const GPtrArray *mounts, GError **error);
        // Writes the changes from lower to upper as a layer into the content store.
        void (*compare)(struct differ *differ, const struct scope *scope, const struct differ_compare_request *request,
                differ_compare_fn done, void *data);
};

struct differ {
        const struct differ_ops *ops;
        struct unpacker *unpacker; // for documents and archives
};
