// SPDX-License-Identifier: Apache-2.0
//
// An archive written to a client's stream, as fast as its window allows. Threads: the operation's strand.
#pragma once

#include "plugins/transfer/descriptors.h"

struct operation;
struct outflow;
struct stream;

struct outflow_record { // an entry of the archive
        char *name;
        unsigned mode;
        int64_t size;
        bool directory;
        GBytes *bytes; // NULL: a blob, or a directory
        const struct node *blob;
};
void outflow_record_free(void *record);

// Listens to the stream from now on.
struct outflow *outflow_new(struct operation *operation, struct stream *stream);
// Sends the records (struct outflow_record *, which stay the caller's) in their order, holding the operation until all
// has been sent. Blobs are hashed on the way.
void outflow_start(struct outflow *outflow, const GPtrArray *records);
// After the operation failed.
void outflow_stop(struct outflow *outflow);
// After it has ended.
void outflow_free(struct outflow *outflow);
