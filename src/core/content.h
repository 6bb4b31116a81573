// SPDX-License-Identifier: Apache-2.0
//
// Content: immutable blobs by digest, per namespace, and writers that make them. The instance of PLUGIN_CONTENT
// "content". Bytes of a digest are kept once; a namespace sees those that it wrote, or (sharing policy "shared") named
// with their digest while another had them.
//
// Threads: any but the loop's. A writer is used by one thread at a time.
#pragma once

#include "base/auto.h"
#include "core/blob.h"
#include "core/scope.h"

#include <stdatomic.h>
#include <stdint.h>

struct filter;
struct content_store;
struct content_writer;

struct content_status {
        const char *ref;
        int64_t offset;                 // bytes written
        int64_t total;                  // bytes expected; 0: not known
        const char *expected;           // digest; "": not known
        int64_t started_ns, updated_ns; // wall clock
};

struct content_check {
        bool hash;               // compare digests too, which reads everything
        const atomic_bool *stop; // true: enough
        unsigned n_damaged;      // what was found
};

typedef bool (*content_status_fn)(void *data, const struct content_status *status);

struct content_expect {
        const char *ref;
        int64_t total;        // 0: not known
        const char *expected; // digest; NULL or "": not known
};

struct content_commit {
        int64_t size;         // 0: whatever was written
        const char *expected; // digest; NULL or "": whatever it is
        struct labels labels;
};

struct content_ops {
        // NOT_FOUND `content digest sha256:…: not found`.
        bool (*info)(struct content_store *store, const struct scope *scope, const char *digest, struct arena *arena,
                struct blob *ret, GError **error);
        // Changes labels as the mask says (labels, labels.KEY; empty: all of them); *blob gets the result. NOT_FOUND,
        // INVALID_ARGUMENT.
        bool (*update)(struct content_store *store, const struct scope *scope, char *const *paths, size_t n_paths,
                struct arena *arena, struct blob *blob, GError **error);
        // Calls fn for each match, in the order of digests, inside a read transaction; filter NULL: all.
        bool (*walk)(struct content_store *store, const struct scope *scope, const struct filter *filter,
                struct arena *arena, blob_fn fn, void *data, GError **error);
        // The bytes go with the next garbage collection. NOT_FOUND.
        bool (*remove)(struct content_store *store, const struct scope *scope, const char *digest, GError **error);
        // A descriptor for reading, the caller's to close, or -1. NOT_FOUND.
        int (*open)(struct content_store *store, const struct scope *scope, const char *digest, int64_t *ret_size,
                GError **error);

        // Opens a writer, or goes on where the last one with this ref stopped. ALREADY_EXISTS where the namespace has
        // the expected digest (the scope's lease holds it then), UNAVAILABLE while another writer has the ref. A digest
        // whose bytes were lost can be written again: the commit then answers ALREADY_EXISTS, and they are there.
        struct content_writer *(*writer)(struct content_store *store, const struct scope *scope,
                const struct content_expect *expect, GError **error);
        // NOT_FOUND.
        bool (*status)(struct content_store *store, const struct scope *scope, const char *ref, struct arena *arena,
                struct content_status *ret, GError **error);
        bool (*walk_statuses)(struct content_store *store, const struct scope *scope, const struct filter *filter,
                content_status_fn fn, void *data, GError **error);
        // Throws away what was written under ref. NOT_FOUND.
        bool (*abort)(struct content_store *store, const struct scope *scope, const char *ref, GError **error);

        // For garbage collection, after its commit: removes the bytes of digests (and ingests by backend name) that
        // were found unused, as far as no namespace has taken them again. NULL: whatever no record names.
        bool (*sweep)(
                struct content_store *store, const char *const *digests, const char *const *backends, GError **error);
        // Compares the bytes of every digest with its records, beside everything else. Damaged ones are logged,
        // counted and taken away, so that the next writer brings good ones. CANCELED once it was stopped.
        bool (*check)(struct content_store *store, struct content_check *check, GError **error);
};

struct content_store {
        const struct content_ops *ops;
};

struct content_writer_ops {
        // Appends; on failure nothing more can be written.
        bool (*write)(struct content_writer *writer, const void *bytes, size_t n_bytes, GError **error);
        // Back to the start; INVALID_ARGUMENT for any other size than 0.
        bool (*truncate)(struct content_writer *writer, int64_t size, GError **error);
        // Valid until the next call on the writer.
        void (*status)(struct content_writer *writer, struct content_status *ret);
        // Of what was written so far; the caller frees.
        char *(*digest)(struct content_writer *writer);
        // The file that grows, for reading at own offsets while it does; stays the writer's, and valid until it is
        // closed. -1 if there is none (the bytes are another namespace's).
        int (*fd)(struct content_writer *writer);
        // Makes a blob of it: when this returns true it survives a power cut. FAILED_PRECONDITION if size or digest
        // differ, ALREADY_EXISTS if the namespace has it; NOT_FOUND if the scope's lease is gone. The writer can only
        // be closed afterwards.
        bool (*commit)(struct content_writer *writer, const struct content_commit *commit, GError **error);
        // What was not committed stays for the next writer of this ref.
        void (*close)(struct content_writer *writer);
};

struct content_writer {
        const struct content_writer_ops *ops;
};

static inline void content_writer_close(struct content_writer *writer)
{
        writer->ops->close(writer);
}
DEFINE_AUTO(content_writer, content_writer_close)

// A filter_field (base/filter.h) on a struct blob, and on a struct content_status.
const char *content_field(void *blob, const char *const *path, size_t n, bool *ret_present);
const char *content_status_field(void *status, const char *const *path, size_t n, bool *ret_present);

// Reads a whole blob of at most limit bytes; RESOURCE_EXHAUSTED if it is larger. The bytes are in arena, followed by a
// NUL.
bool content_read(struct content_store *store, const struct scope *scope, const char *digest, size_t limit,
        struct arena *arena, const char **ret_bytes, size_t *ret_n, GError **error);
// Writes a whole blob; that it is there already is fine.
bool content_write(struct content_store *store, const struct scope *scope, const char *ref, const void *bytes,
        size_t n_bytes, const struct content_commit *commit, GError **error);
