// SPDX-License-Identifier: Apache-2.0
//
// A ttrpc connection's socket: reads frames, writes frames, nothing about calls. Used by the server and the client
// side; inside src/rpc alone. Threads: the loop's.
#pragma once

#include "rpc/internal.h"
#include "rpc/ttrpc_frame.h"

struct ttrpc_wire {
        struct rpc_connection *connection; // embeds this; held while its callbacks run
        int fd;
        struct loop_watch *watch;
        struct ttrpc_reader reader;
        GByteArray *out;  // not written yet; NULL: nothing
        size_t n_written; // of out
        bool paused;      // reads no more: over budget
        ttrpc_frame_fn on_frame;
        void (*on_drained)(struct rpc_connection *connection); // out was over its mark and is empty now
};

// Takes the socket; nothing is read before ttrpc_wire_start.
void ttrpc_wire_open(struct ttrpc_wire *wire, struct rpc_connection *connection, int fd, ttrpc_frame_fn on_frame,
        void (*on_drained)(struct rpc_connection *connection));
void ttrpc_wire_start(struct ttrpc_wire *wire);
void ttrpc_wire_close(struct ttrpc_wire *wire);
bool ttrpc_wire_is_open(const struct ttrpc_wire *wire);

// Queues a frame; frame->data may be in two pieces, the first of n_prefix bytes before it.
void ttrpc_wire_send(struct ttrpc_wire *wire, struct ttrpc_frame frame, const uint8_t *prefix, size_t n_prefix);
// No more should be queued until on_drained.
bool ttrpc_wire_is_full(const struct ttrpc_wire *wire);
// Writes what the socket takes, and reads again if the budget allows it. May close the connection.
void ttrpc_wire_flush(struct ttrpc_wire *wire);

// Packs tag and length of a protobuf bytes field; returns how many bytes that took, at most 6.
size_t ttrpc_pack_bytes_field(uint8_t bytes[6], unsigned field, size_t length);
