// SPDX-License-Identifier: Apache-2.0
//
// The server: listening sockets, their connections, and the services on them. Threads: the loop's, except where said.
#pragma once

#include "rpc/rpc.h"

struct loop;
struct rpc_server;

enum rpc_protocol { RPC_GRPC = 1, RPC_TTRPC = 2 };

struct rpc_server_options {
        size_t max_message_bytes;          // 0: 16 MiB (gRPC) and 4 MiB (ttrpc)
        unsigned max_streams;              // per connection at a time; 0: 10000
        unsigned max_connections;          // 0: 4096; more are closed at once
        size_t max_connection_queue_bytes; // received, not handled yet, per connection; 0: 32 MiB
        size_t max_total_queue_bytes;      // the same, all together; 0: 256 MiB
        unsigned keepalive_ms;             // silence after which a gRPC client is pinged; 0: 2 hours, as in Go
        // Called before the dispatch of each call, in the loop's thread; NULL: none. For metrics.
        void (*on_call_start)(void *data, struct rpc_call *call);
        // Called once for each of these, in the loop's thread, when the client has the answer or is gone; the handler
        // of a cancelled call may still run then. status is NULL for OK.
        void (*on_call_end)(void *data, struct rpc_call *call, const GError *status);
        void *data;
};

struct rpc_server *rpc_server_new(struct loop *loop, struct lanes *lanes, const struct rpc_server_options *options);
// After rpc_server_drain was done.
void rpc_server_free(struct rpc_server *server);

// The table and the service object stay the caller's and outlive the server. protocols: or-ed rpc_protocol.
void rpc_server_add(struct rpc_server *server, const struct rpc_service *service, void *object, unsigned protocols);
// Takes a listening socket. Each accepted connection speaks that protocol.
bool rpc_server_listen(struct rpc_server *server, enum rpc_protocol protocol, int fd, GError **error);
// Takes a connected socket (the shim's ttrpc connection, tests).
void rpc_server_add_connection(struct rpc_server *server, enum rpc_protocol protocol, int fd);

// Calls fn for each call and stream under way, the oldest first, and for those whose client is gone while their handler
// still works. fn must not answer, wait or keep the call. Threads: any.
void rpc_server_each_call(struct rpc_server *server, void (*fn)(void *data, const struct rpc_call *call), void *data);

// Stops listening, sends GOAWAY, cancels streams and calls without a deadline, waits for the other calls under way, for
// timeout_ms at most; then cancels what is left, closes and calls done.
void rpc_server_drain(struct rpc_server *server, unsigned timeout_ms, void (*done)(void *data), void *data);
