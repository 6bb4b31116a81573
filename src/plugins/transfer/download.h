// SPDX-License-Identifier: Apache-2.0
//
// One object on its way from the registry into the content store: hashed and written as it comes, resumed where an
// earlier attempt stopped, readable by others while it grows. Threads: the operation's strand; callbacks too.
#pragma once

#include "plugins/transfer/descriptors.h"

struct download;
struct fetcher;
struct operation;
struct progress_job;

struct download_handler {
        // The file is there: download_fd and download_follow may be used. Not called if the object exists already.
        void (*on_open)(void *data);
        // It is in the content store. Not called after a failure: the operation has failed then.
        void (*on_done)(void *data);
};

// At most this many bodies at once; the others wait in order.
struct download_queue {
        unsigned n_running, limit;
        GQueue waiting; // of struct download *
};

// After the operation failed: those that wait end too.
void download_queue_flush(struct download_queue *queue);

struct download_options {
        struct operation *operation;
        struct download_queue *queue;
        struct fetcher *fetcher;
        const struct node *node;
        struct progress_job *progress;
        const struct download_handler *handler;
        void *data;
};
// Holds the operation until its end. Freed by download_free after that.
struct download *download_start(const struct download_options *options);
void download_free(struct download *download);

bool download_is_done(const struct download *download);
// True: the object was in the content store before.
bool download_existed(const struct download *download);
// The growing file, -1 if the object existed; the download's.
int download_fd(const struct download *download);

// Tells how far the file is: fn(data, bytes, complete) at once and from then on whenever it has grown, in any thread,
// one at a time; the last time with complete, unless it fails.
typedef void (*download_follow_fn)(void *data, int64_t n_bytes, bool complete);
void download_follow(struct download *download, download_follow_fn fn, void *data);
// No call of fn runs or comes after this returned.
void download_unfollow(struct download *download);
