// SPDX-License-Identifier: Apache-2.0
//
// The client side of both protocols: one object per connection, asynchronous. Threads: any, except where said.
#pragma once

#include "rpc/rpc.h"
#include "rpc/server.h"

struct rpc_client;
struct rpc_client_stream;

struct rpc_client_options {
        size_t max_message_bytes; // as in rpc_server_options
        struct lanes *lanes;      // where done and the stream callbacks run; NULL: the loop's thread
        enum lane lane;
        // Called once when the connection ended (every call on it has been failed with UNAVAILABLE before).
        void (*on_closed)(void *data);
        void *data;
};

// Takes a connected socket. options may be NULL.
struct rpc_client *rpc_client_new(
        struct loop *loop, enum rpc_protocol protocol, int fd, const struct rpc_client_options *options);
struct rpc_client *rpc_client_ref(struct rpc_client *client);
// The last reference closes the connection and fails the calls on it with CANCELED.
void rpc_client_unref(struct rpc_client *client);
DEFINE_AUTO(rpc_client, rpc_client_unref)
bool rpc_client_is_closed(const struct rpc_client *client);

// Connects to a unix socket ("/run/x.sock" or "unix:///run/x.sock"; "@name" and "unix://@name": abstract). Blocking, at
// most timeout_ms; returns the descriptor or -1. UNAVAILABLE where nobody listens, DEADLINE_EXCEEDED.
int rpc_connect_unix(const char *address, unsigned timeout_ms, GError **error);

struct rpc_request {
        const char *service, *method;    // "containerd.task.v3.Task", "Create"
        const ProtobufCMessage *message; // packed before the call returns
        const ProtobufCMessageDescriptor *response;
        const char *const *metadata; // key, value, …, NULL; NULL: none
        int64_t timeout_ns;          // 0: none
        struct cancel *cancel;       // NULL: none; a reference is taken
};

// response is NULL exactly if error is set; both are valid during the call alone.
typedef void (*rpc_done_fn)(void *data, const ProtobufCMessage *response, const GError *error);
// done is called exactly once, never within this call.
void rpc_client_call(struct rpc_client *client, const struct rpc_request *request, rpc_done_fn done, void *data);

// The same, waiting for the answer. Not from the loop's thread. The response lives in arena.
const ProtobufCMessage *rpc_client_call_wait(
        struct rpc_client *client, const struct rpc_request *request, struct arena *arena, GError **error);

struct rpc_client_stream_handler {
        void (*on_message)(void *data, struct rpc_client_stream *stream, const ProtobufCMessage *message);
        void (*on_writable)(void *data, struct rpc_client_stream *stream); // may be NULL
        // Last callback; error is NULL after an end with OK.
        void (*on_end)(void *data, struct rpc_client_stream *stream, const GError *error);
};
// Opens a stream; request->message, if any, is sent as the first message. Callbacks come one at a time.
struct rpc_client_stream *rpc_client_stream_open(struct rpc_client *client, const struct rpc_request *request,
        enum rpc_kind kind, const struct rpc_client_stream_handler *handler, void *data);
struct rpc_client_stream *rpc_client_stream_ref(struct rpc_client_stream *stream);
void rpc_client_stream_unref(struct rpc_client_stream *stream);
// As rpc_stream_send.
bool rpc_client_stream_send(struct rpc_client_stream *stream, const ProtobufCMessage *message);
void rpc_client_stream_half_close(struct rpc_client_stream *stream);
void rpc_client_stream_cancel(struct rpc_client_stream *stream);
void rpc_client_stream_pause(struct rpc_client_stream *stream);
void rpc_client_stream_resume(struct rpc_client_stream *stream);
