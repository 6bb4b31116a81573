// SPDX-License-Identifier: Apache-2.0
//
// The daemon's side of skiff-unpack: every parser of bytes from outside as an asynchronous operation on jailed
// workers. All functions return at once; results come once, later, on a SLOW worker, never within the call that
// started the operation. Several operations run side by side. Threads: any.
#pragma once

#include "base/auto.h"
#include "base/error.h"

#include "skiff/worker.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cancel;
struct lanes;
struct loop;
struct strand;

struct unpacker_options {
        struct loop *loop;
        struct lanes *lanes;
        const char *program;          // full path of skiff-unpack (plugin_host_program)
        uint32_t worker_uid;          // 0: the user _skiff, else 64000
        uint64_t max_ratio;           // plain bytes per compressed byte; 0: 1100
        uint64_t max_entries;         // of a layer; 0: 10 million
        bool without_user_namespaces; // tests: as on a host that has none
};

// Cheap: holds the options only. Each plugin that needs one makes its own.
struct unpacker *unpacker_new(const struct unpacker_options *options);
struct unpacker *unpacker_ref(struct unpacker *unpacker);
void unpacker_unref(struct unpacker *unpacker);
DEFINE_AUTO(unpacker, unpacker_unref)
// The user that its workers become.
uint32_t unpacker_worker_uid(const struct unpacker *unpacker);

// ---- a layer: bytes to a directory, in one pass, while the bytes are still coming

struct unpack_place {
        char *directory; // to be filled
        // The directories of the lower layers, topmost first, NULL-terminated: they give directories that the layer
        // takes for granted their owner, mode and attributes. NULL: none.
        char **parents;
        // directory is an overlayfs upper directory: whiteouts become device nodes and opaque attributes. Else they
        // remove what they name.
        bool overlay;
};

struct unpack_request {
        // The layer's file, whole or growing (an ingest). Stays the caller's: duplicated, read at its own offsets.
        int fd;
        // How much of it is there; more is told by unpack_advance. complete: this is all.
        int64_t available_bytes;
        bool complete;
        // false: the media type promises no compression, so none is looked for.
        bool compressed;
        bool sync_fs; // syncfs(2) before the result
        // The lower layers are not there yet: unpack_settle gives them later. The place's parents are not read.
        bool settle_later;
        struct cancel *cancel;
        // Says where to, before anything else is done, once, on a SLOW worker; it may mount. The strings are taken, and
        // freed by g_free and g_strfreev. Not called if the operation is aborted before.
        bool (*locate)(void *data, struct unpack_place *ret_place, GError **error);
};

struct unpack_result {
        const char *diff_id; // digest of the whole uncompressed stream
        int64_t size;        // its length
        uint64_t entries;
};

// result is NULL exactly if error is set; both are valid during the call alone. After a failure the directory holds
// part of the layer, or what a taken-over worker has left there: throw it away.
typedef void (*unpack_done_fn)(void *data, const struct unpack_result *result, const GError *error);

struct unpack;
// data is locate's too. Errors come by done only.
struct unpack *unpack_start(
        struct unpacker *unpacker, const struct unpack_request *request, unpack_done_fn done, void *data);
void unpack_unref(struct unpack *unpack);
// The file has grown to available_bytes; complete: for the last time. In any thread, cheap.
void unpack_advance(struct unpack *unpack, int64_t available_bytes, bool complete);
// Ends it: done comes with a copy of reason (NULL: CANCELED).
void unpack_abort(struct unpack *unpack, const GError *reason);

// For settle_later, after done gave a result: does what needs the lower layers, as parents of unpack_request. On a SLOW
// worker, once.
bool unpack_settle(struct unpack *unpack, const char *const *parents, GError **error);

// How containerd classes a layer's media type: true and *ret_compressed for tar and compressed tar; UNIMPLEMENTED with
// its text for what it cannot apply.
bool unpack_media_type(const char *media_type, bool *ret_compressed, GError **error);

// ---- documents: indexes, manifests, configurations whose digest has been verified

// One worker for as many documents as belong together (an image); it is started with the first one. strand: where the
// results come (NULL: on one of its own).
struct inspector;
struct inspector *inspector_new(struct unpacker *unpacker, struct strand *strand, struct cancel *cancel);
// Ends the worker. Requests under way fail with CANCELED.
void inspector_free(struct inspector *inspector);
DEFINE_AUTO(inspector, inspector_free)

// document: checked (sizes not negative, digests and media types well-formed and within limits), valid during the call.
// Errors: INVALID_ARGUMENT with containerd's texts for what is no such document, RESOURCE_EXHAUSTED past the limits.
typedef void (*inspect_done_fn)(void *data, const Worker__Document *document, const GError *error);
void inspector_inspect(struct inspector *inspector, const char *media_type, const void *bytes, size_t n_bytes,
        inspect_done_fn done, void *data);
enum { INSPECT_MAX_BYTES = 8 * 1024 * 1024 };

// ---- archives: an OCI layout or what `docker save` wrote, perhaps compressed, as a stream of files

struct split_handler {
        // A file begins; bytes until on_file_end make up its body. name is clean ("blobs/sha256/…"), perhaps not
        // UTF-8; compression is "", "gzip" or "zstd". False with *error ends the operation with it.
        bool (*on_file)(void *data, const char *name, uint64_t size, const char *compression, GError **error);
        bool (*on_bytes)(void *data, const void *bytes, size_t n_bytes, GError **error);
        bool (*on_file_end)(void *data, GError **error);
        // Last callback, once. end is NULL exactly if error is set.
        void (*on_end)(void *data, const Worker__ArchiveEnd *end, const GError *error);
};

struct split;
// fd: a pipe or a file with the archive, read from its position; duplicated. Callbacks come one at a time on a SLOW
// worker and may block on a disk.
struct split *split_start(
        struct unpacker *unpacker, int fd, struct cancel *cancel, const struct split_handler *handler, void *data);
void split_abort(struct split *split, const GError *reason);
void split_unref(struct split *split);

// ---- a layer from two directories, or a layer that is there compressed

struct pack_request {
        const char *lower; // NULL: everything in upper is new
        const char *upper;
        // Instead of both, if upper is NULL: a plain layer. It stays the caller's: duplicated, read from its start.
        int fd;
        int64_t n_bytes;
        // "": a plain tar; "gzip", "zstd".
        const char *compression;
        bool has_epoch; // times after this one are set to it
        int64_t epoch_seconds;
        struct cancel *cancel;
};

struct pack_handler {
        // The archive's bytes, compressed as asked. Called one at a time on a SLOW worker, may block on a disk.
        bool (*on_bytes)(void *data, const void *bytes, size_t n_bytes, GError **error);
        // Last callback, once; diff_id (of the plain tar) is NULL exactly if error is set.
        void (*on_end)(void *data, const char *diff_id, const GError *error);
};

struct pack;
struct pack *pack_start(
        struct unpacker *unpacker, const struct pack_request *request, const struct pack_handler *handler, void *data);
void pack_unref(struct pack *pack);
