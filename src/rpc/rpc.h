// SPDX-License-Identifier: Apache-2.0
//
// What gRPC and ttrpc have in common, as seen by services: a service is a const table of methods; a call is an object
// that is answered once, now or later, from any thread; a stream is an object whose callbacks come one at a time.
// A service written against this header is served over both protocols.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "io/cancel.h"
#include "io/lanes.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

struct rpc_call;
struct rpc_stream;

// ---- method tables

enum rpc_kind { RPC_UNARY, RPC_SERVER_STREAM, RPC_CLIENT_STREAM, RPC_BIDI_STREAM };

// The server side of a streaming method. All callbacks of one stream come one at a time, on the method's lane, and
// must not wait for the peer. After close nothing is called any more; a callback that comes after rpc_stream_finish is
// close alone.
struct rpc_stream_handler {
        // First callback. Returns the handler's state for this stream, passed to the others; NULL is fine. To refuse,
        // call rpc_stream_finish with an error. service: as given to rpc_server_add.
        void *(*open)(struct rpc_stream *stream, void *service);
        // A message from the client: valid until this returns (it lives in an arena of its own). For a server stream
        // (one request) exactly one comes, then on_half_close.
        void (*on_message)(void *state, struct rpc_stream *stream, const ProtobufCMessage *message);
        // The client sends no more. May be NULL.
        void (*on_half_close)(void *state, struct rpc_stream *stream);
        // The send queue, once reported full by rpc_stream_send, has room again. May be NULL.
        void (*on_writable)(void *state, struct rpc_stream *stream);
        // The client is gone, or cancelled, or the deadline passed: nothing can be sent any more; close follows. May be
        // NULL.
        void (*on_cancel)(void *state, struct rpc_stream *stream);
        // Last callback: free the state.
        void (*close)(void *state);
};

struct rpc_method {
        const char *name; // "Get"
        enum rpc_kind kind;
        enum lane lane; // on which the callback runs
        // A call whose client sets no nearer deadline ends after this with DEADLINE_EXCEEDED; 0: it may take any time.
        // Longer than any call takes that gets on with its work.
        unsigned limit_ms;
        const ProtobufCMessageDescriptor *request, *response;
        // RPC_UNARY: answers the call with rpc_call_reply or rpc_call_fail before it returns, or keeps it for later.
        void (*unary)(struct rpc_call *call, void *service);
        const struct rpc_stream_handler *stream; // other kinds
};

struct rpc_service {
        const char *name; // "containerd.services.images.v1.Images"
        const struct rpc_method *methods;
        size_t n_methods;
};

// A row of a method table: RPC_METHOD_UNARY("Get", LANE_FAST, images__get_image_request, images__get_image_response,
// on_get, .limit_ms = 60000)
#define RPC_METHOD_UNARY(method_name, method_lane, request_prefix, response_prefix, function, ...)                     \
        {                                                                                                              \
                .name = (method_name), .kind = RPC_UNARY, .lane = (method_lane),                                       \
                .request = &request_prefix##__descriptor, .response = &response_prefix##__descriptor,                  \
                .unary = (function), __VA_ARGS__                                                                       \
        }
#define RPC_METHOD_STREAM(method_name, method_kind, method_lane, request_prefix, response_prefix, handler)             \
        {                                                                                                              \
                .name = (method_name), .kind = (method_kind), .lane = (method_lane),                                   \
                .request = &request_prefix##__descriptor, .response = &response_prefix##__descriptor,                  \
                .stream = (handler),                                                                                   \
        }

// ---- a unary call, server side. Threads: any; one at a time.

// The decoded request, in the call's arena; valid until the call is answered (reply and fail end its life, unless
// more references are held).
const ProtobufCMessage *rpc_call_request(const struct rpc_call *call);
struct arena *rpc_call_arena(struct rpc_call *call);
// The first value of a metadata key (lower case); NULL: none.
const char *rpc_call_metadata(const struct rpc_call *call, const char *key);
struct cancel *rpc_call_cancel(const struct rpc_call *call);
// CLOCK_MONOTONIC nanoseconds; INT64_MAX: none.
int64_t rpc_call_deadline_ns(const struct rpc_call *call);

// For lists and metrics: any time while the call is referenced.
const char *rpc_call_service_name(const struct rpc_call *call);
const char *rpc_call_method_name(const struct rpc_call *call);
int64_t rpc_call_started_ns(const struct rpc_call *call); // CLOCK_MONOTONIC

// Who is at the other end: the process that has connected, as the kernel tells (it may have gone, or have given the
// socket away). pid 0: not known, as from another pid namespace.
struct rpc_peer {
        int pid;
        unsigned uid; // UINT32_MAX: not known
};
struct rpc_peer rpc_call_peer(const struct rpc_call *call);

// What keeps the call from its end just now: what its handler has noted at the cancel token, else what the RPC layer
// knows. The caller frees. ret_since_ns: CLOCK_MONOTONIC.
char *rpc_call_waits_for(const struct rpc_call *call, int64_t *ret_since_ns);

// Answer, once. The response is packed at once and stays the caller's; the error is taken and freed. Both drop the
// reference that the handler got with the call: it is not to be touched afterwards.
void rpc_call_reply(struct rpc_call *call, const ProtobufCMessage *response);
void rpc_call_fail(struct rpc_call *call, GError *error);

// The same as fail, with details for programs (google.rpc.Status.details, which gRPC carries as
// grpc-status-details-bin). They are packed at once.
struct Google__Protobuf__Any;
void rpc_call_fail_with_details(
        struct rpc_call *call, GError *error, struct Google__Protobuf__Any *const *details, size_t n_details);

// ---- a stream, server side. Threads: any.

struct rpc_stream *rpc_stream_ref(struct rpc_stream *stream);
void rpc_stream_unref(struct rpc_stream *stream);
const char *rpc_stream_metadata(const struct rpc_stream *stream, const char *key);
struct cancel *rpc_stream_cancel(const struct rpc_stream *stream);

// Queues a message (packed at once, it stays the caller's). False: it was queued, but the queue is above its mark now:
// send no more until on_writable. After the end of the stream it is dropped and false.
bool rpc_stream_send(struct rpc_stream *stream, const ProtobufCMessage *message);
// Ends the stream after what is queued, with OK or with an error (taken). Later calls do nothing but free.
void rpc_stream_finish(struct rpc_stream *stream, GError *error);
// No on_message until rpc_stream_resume; what arrives is held within the flow-control window.
void rpc_stream_pause(struct rpc_stream *stream);
void rpc_stream_resume(struct rpc_stream *stream);
