// SPDX-License-Identifier: Apache-2.0
//
// For tests that write ttrpc frame by frame: the test is the peer of a server or of a client, and what it gets becomes
// a line: "1 response a; 3 data 00 b; 3 data 05 ;" (stream, type, status or flags, the key of the message, which is a
// ttrpc.KeyValue).
#pragma once

#include "io/loop.h"
#include "rpc/client.h"
#include "rpc/server.h"
#include "rpc/ttrpc_frame.h"
#include "ttrpc/ttrpc.pb-c.h"

struct ttrpc_fixture {
        struct loop *loop;
        struct lanes *lanes;
        struct rpc_server *server; // NULL: the test is the server
        struct rpc_client *client; // NULL: the test is the client
        struct rpc_call *held;     // by the server's method Hold
        int fd;                    // the test's end
        struct ttrpc_reader reader;
        GString *got;   // frames
        GString *ended; // ends of the client's calls
};

// Makes the pair of sockets and returns the other end, for the server or client.
int ttrpc_begin(struct ttrpc_fixture *f);
void ttrpc_tear_down(struct ttrpc_fixture *f, gconstpointer data);
// Runs the loop until nothing moves any more.
void ttrpc_settle(struct ttrpc_fixture *f);

void ttrpc_send_frame(
        struct ttrpc_fixture *f, uint32_t id, uint8_t type, uint8_t flags, const void *bytes, size_t n_bytes);
// A message with that key; NULL: no bytes.
void ttrpc_send_data(struct ttrpc_fixture *f, uint32_t id, uint8_t flags, const char *key);
size_t ttrpc_pack_key(const char *key, uint8_t *bytes);

#define ASSERT_GOT(f, text)                                                                                            \
        do {                                                                                                           \
                ttrpc_settle(f);                                                                                       \
                g_assert_cmpstr((f)->got->str, ==, text);                                                              \
                g_string_truncate((f)->got, 0);                                                                        \
        } while (0)
