// SPDX-License-Identifier: Apache-2.0
//
// The content store on a local file system, in containerd's layout:
//
//   ROOT/blobs/sha256/HEX        bytes of a digest, complete and synced, read-only
//   ROOT/ingest/HEX/             HEX: of the backend name NS/1/REF
//     data ref startedat updatedat total
//   ROOT/removed/                ours: what nobody needs, on its way out
//
// Rows in the metadata store say which namespace knows which digest. Threads: see core/content.h.
#pragma once

#include "core/content.h"

#include <uv.h>

struct event_exchange;

// shared: the sharing policy. events may be NULL. root is made where it is missing. Everything given outlives it.
struct content_store *content_local_new(
        const char *root, struct metadata *metadata, struct event_exchange *events, bool shared, GError **error);
// All writers are closed.
void content_local_free(struct content_store *store);

// ---- private to the folder

struct content_local {
        struct content_store store;
        struct metadata *metadata;
        struct event_exchange *events;
        bool shared;
        char *root;
        int root_fd;

        uv_mutex_t mutex;     // never held across a transaction; taken within one
        GHashTable *locked;   // backend name → since when (int64_t *, wall clock): it has a writer
        GHashTable *pending;  // digest → how many commits are about to name it: the sweep keeps off
        GHashTable *doubtful; // digests whose record was removed: for the next sweep
};

// The path below the root; the digest is valid.
char *content_local_blob_path(const char *digest);
char *content_local_ingest_path(const char *backend);
// The size of a digest's bytes; NOT_FOUND `content sha256:…: not found`.
bool content_local_blob_size(struct content_local *local, const char *digest, int64_t *ret_size, GError **error);

// UNAVAILABLE `ref … locked for …` while a writer has it.
bool content_local_lock(struct content_local *local, const char *backend, GError **error);
void content_local_unlock(struct content_local *local, const char *backend);

// What is on disk of an ingest. NOT_FOUND.
struct ingest_state {
        int64_t offset, total;
        int64_t started_ns, updated_ns;
};
bool ingest_read(struct content_local *local, const char *backend, struct ingest_state *ret, GError **error);
// Goes on with what is there if its total agrees, else begins anew. Returns the data's descriptor, or -1;
// *ret_directory is the ingest's, to be closed.
int ingest_open(struct content_local *local, const char *backend, int64_t total, int *ret_directory,
        struct ingest_state *ret, GError **error);
void ingest_note_update(int directory, int64_t updated_ns);
// Fine if there is none.
bool ingest_remove(struct content_local *local, const char *backend, GError **error);

struct content_writer *local_writer_open(
        struct content_store *store, const struct scope *scope, const struct content_expect *expect, GError **error);

bool content_local_check(struct content_store *store, struct content_check *check, GError **error);
// Renames a path below the root to removed/NAME; what is there goes with the next content_local_empty_removed. False:
// it was not there, or could not be moved, which is logged.
bool content_local_move_out(struct content_local *local, const char *path, const char *name);
void content_local_empty_removed(struct content_local *local);
bool content_local_sweep(
        struct content_store *store, const char *const *digests, const char *const *backends, GError **error);
