// SPDX-License-Identifier: Apache-2.0
//
// Named streams of messages between a client and whatever call of its names them: progress, archives, questions for
// credentials. The Streaming service carries them, the manager keeps them by namespace and name, and one reader at a
// time (a Transfer) uses them. Threads: any; the reader's callbacks come one at a time on a FAST worker.
#pragma once

#include "base/auto.h"
#include "base/error.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

struct lanes;
struct stream;

// ---- the side that carries it

struct stream_carrier_ops {
        // Sends a message in order. False: it was taken, but the queue is above its mark now.
        bool (*send)(void *carrier, const char *type_url, const void *value, size_t n_value);
        // No more messages either way, after those that were sent.
        void (*finish)(void *carrier);
        // The reader is slow; it goes on. Neither may wait.
        void (*pause)(void *carrier);
        void (*resume)(void *carrier);
        // Last call.
        void (*release)(void *carrier);
};
struct stream *stream_new(const char *id, struct lanes *lanes, const struct stream_carrier_ops *ops, void *carrier);
// A message came (copied).
void stream_receive(struct stream *stream, const char *type_url, const void *value, size_t n_value);
// There is room to send again.
void stream_writable(struct stream *stream);
// The client sends no more, or is gone.
void stream_ended(struct stream *stream);
// Nothing is carried any more: the client has all that was sent to it, or never will.
void stream_gone(struct stream *stream);

// ---- the side that uses it

struct stream *stream_ref(struct stream *stream);
void stream_unref(struct stream *stream);
DEFINE_AUTO(stream, stream_unref)
const char *stream_id(const struct stream *stream);

struct stream_reader {
        void (*on_message)(void *data, const char *type_url, const void *value, size_t n_value);
        // No message comes any more. May be NULL.
        void (*on_end)(void *data);
        // May be NULL.
        void (*on_writable)(void *data);
        // Last callback, after the stream was closed or let go.
        void (*on_free)(void *data);
};
// From now on messages go to the reader, those that came before first.
void stream_attach(struct stream *stream, const struct stream_reader *reader, void *data);
// Packs and sends. False: wait for on_writable before more is sent (it was taken nevertheless).
bool stream_send(struct stream *stream, const ProtobufCMessage *message);
// The use is over: finishes it towards the client, frees the reader.
void stream_close(struct stream *stream);
bool stream_is_ended(const struct stream *stream);
// Calls fn once, on the stream's worker, when it is gone.
void stream_watch_gone(struct stream *stream, void (*fn)(void *data), void *data);

// ---- the manager: the instance of PLUGIN_STREAMING "manager"

struct stream_manager;
struct stream_manager_ops {
        // ALREADY_EXISTS. The stream is kept until it is removed.
        bool (*add)(struct stream_manager *manager, const char *namespace_, struct stream *stream, GError **error);
        // A reference, or NULL with NOT_FOUND.
        struct stream *(*get)(struct stream_manager *manager, const char *namespace_, const char *id, GError **error);
        // It is fine if it is not there (any more), or if another one has the name.
        void (*remove)(struct stream_manager *manager, const char *namespace_, struct stream *stream);
};
struct stream_manager {
        const struct stream_manager_ops *ops;
};
