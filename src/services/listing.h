// SPDX-License-Identifier: Apache-2.0
//
// A List method that streams: all is read at once, in one transaction, and goes out in messages of some items, as fast
// as the client takes them. Threads: the stream's callbacks.
#pragma once

#include "core/scope.h"
#include "rpc/rpc.h"

struct listing;

struct listing_kind {
        unsigned items_per_message;
        // Adds what the request asks for to listing->items, in listing->arena.
        bool (*read)(
                struct listing *listing, const struct scope *scope, const ProtobufCMessage *request, GError **error);
        // Returns what rpc_stream_send says.
        bool (*send)(struct rpc_stream *stream, void **items, size_t n_items);
};

struct listing {
        const struct listing_kind *kind;
        void *service;
        struct arena *arena;
        GPtrArray *items;
        guint next;
};

// For the handler's open; the others are below.
void *listing_open(const struct listing_kind *kind, void *service);
void listing_on_message(void *state, struct rpc_stream *stream, const ProtobufCMessage *message);
void listing_on_writable(void *state, struct rpc_stream *stream);
void listing_close(void *state);

#define LISTING_HANDLER(open_function)                                                                                 \
        {                                                                                                              \
                .open = (open_function), .on_message = listing_on_message, .on_writable = listing_on_writable,         \
                .close = listing_close,                                                                                \
        }
