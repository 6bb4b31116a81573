// SPDX-License-Identifier: Apache-2.0
//
// What a document in the content store says, read by a worker. Threads: the operation's strand.
#pragma once

#include "core/unpacker.h"

struct operation;

// An inspector for inspect_blob.
struct inspector *inspect_new(struct operation *operation);

// document: valid during the call. Holds the operation until fn has returned; fn is not called after a failure, which
// is the operation's, with prefix (NULL: none) before its text. data outlives that.
typedef void (*inspect_fn)(void *data, const Worker__Document *document);
struct inspect_request {
        struct inspector *inspector;
        const char *digest, *media_type, *prefix;
        inspect_fn fn;
        void *data;
};
void inspect_blob(struct operation *operation, const struct inspect_request *request);
