// SPDX-License-Identifier: Apache-2.0
//
// What a client is told while it waits: containerd's events, in its words. Objects are named by the reference under
// which they are downloaded ("layer-sha256:…"). Threads: the operation's strand, except where said.
#pragma once

#include "core/image.h"
#include "plugins/transfer/descriptors.h"

#include <stdatomic.h>

struct operation;
struct progress;
struct stream;

// stream NULL: nobody listens, and everything else does nothing.
struct progress *progress_new(struct operation *operation, struct stream *stream);
void progress_free(struct progress *progress);
// The last events; no timer runs afterwards.
void progress_stop(struct progress *progress);

// "Resolving from …", "saved" and so on; name and node may be NULL.
void progress_event(struct progress *progress, const char *event, const char *name, const struct node *node);

// An object that is followed from now on ("waiting"). parent NULL: root is its parent's name.
struct progress_job;
struct progress_job *progress_add(
        struct progress *progress, const struct node *node, const struct node *parent, const char *root);
// A NULL job is nobody's.
// Threads: any. The offset is told at intervals ("downloading").
void progress_downloaded(struct progress_job *job, int64_t offset);
void progress_exists(struct progress_job *job);
void progress_complete(struct progress_job *job);
void progress_extracting(struct progress_job *job);
void progress_extracted(struct progress_job *job);
