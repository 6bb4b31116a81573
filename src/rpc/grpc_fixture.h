// SPDX-License-Identifier: Apache-2.0
//
// For tests of gRPC from end to end: server and client over a socket pair, the loop on a thread of its own, handlers on
// lanes, the test waiting for answers. So the same tests show races under TSan.
#pragma once

#include "google/protobuf/any.pb-c.h"
#include "io/loop.h"
#include "io/waiter.h"
#include "rpc/client.h"
#include "rpc/test_service.h"

struct grpc_fixture {
        struct loop *loop;
        struct lanes *lanes;
        uv_thread_t thread;
        struct rpc_server *server;
        struct rpc_client *client;
        struct test_service service;
        struct waiter *drained, *closed;
        bool is_drained;
        atomic_uint n_started, n_ended, n_failed;
};

// A stream that counts what comes.
struct grpc_seen {
        atomic_uint n_messages, n_writable;
        atomic_size_t n_bytes;
        char *last;
        GError *error;
        struct waiter *ended;
};

struct grpc_answer {
        struct waiter *waiter;
        int code;
};

// grpc_call: "text/number of bytes" of the response, or "code message".
int grpc_connect(struct grpc_fixture *f);
void grpc_set_up(struct grpc_fixture *f, gconstpointer data);
void grpc_tear_down(struct grpc_fixture *f, gconstpointer data);
void grpc_drain(struct grpc_fixture *f);
struct rpc_request grpc_request_to(const char *method, const Google__Protobuf__Any *message);
Google__Protobuf__Any grpc_any(const char *text, const void *bytes, size_t length);
char *grpc_call(struct grpc_fixture *f, const char *method, const char *text, const char *value);
void grpc_wait_for(atomic_uint *counter, unsigned at_least);
struct rpc_client_stream *grpc_open_stream(struct grpc_fixture *f, const char *method, enum rpc_kind kind,
        const Google__Protobuf__Any *first, struct grpc_seen *seen);
void grpc_seen_done(struct grpc_seen *seen);
void grpc_on_done(void *data, const ProtobufCMessage *response, const GError *error);

#define ASSERT_CALL(f, method, text, value, expected)                                                                  \
        do {                                                                                                           \
                g_autofree char *got = grpc_call(f, method, text, value);                                              \
                g_assert_cmpstr(got, ==, expected);                                                                    \
        } while (0)
