// SPDX-License-Identifier: Apache-2.0
//
// gRPC over HTTP/2, inside src/rpc/h2_*.c and grpc_text.c alone: nghttp2 is named nowhere else. h2_connection.c moves
// bytes between a socket and nghttp2's session, h2_message.c gRPC's messages between frames and exchanges, h2_server.c
// and h2_client.c are the two sides. All on the loop's thread.
#pragma once

#include "rpc/internal.h"

#include <nghttp2/nghttp2.h>

enum {
        H2_STREAM_WINDOW_BYTES = 256 * 1024,
        H2_CONNECTION_WINDOW_BYTES = 1024 * 1024,
        H2_PREFIX_BYTES = 5, // compressed flag and length, before each message
        H2_MAX_HEADERS = 256 // fields of one block
};

struct h2_connection;
struct h2_stream;
struct h2_request;
struct h2_response;

// What differs between the sides.
struct h2_side {
        bool is_server;
        int (*on_headers_begin)(struct h2_stream *stream);
        int (*on_header)(struct h2_stream *stream, const char *name, const char *value);
        int (*on_headers_end)(struct h2_stream *stream, bool end_stream);
        void (*on_end_stream)(struct h2_stream *stream);
        // nghttp2 is done with the stream: detach its exchange if it has one still, free request and response.
        void (*on_close)(struct h2_stream *stream, uint32_t error_code);
        // NULL: nothing to do.
        void (*on_ping)(struct h2_connection *connection);
        void (*on_reset)(struct h2_connection *connection); // a stream, by the peer
        void (*on_goaway)(struct h2_connection *connection);
        // The connection ends: why its calls fail.
        GError *(*lost)(void);
        // The message to be sent next is out and no other follows: how the DATA frame ends.
        int (*on_sent)(struct h2_stream *stream, uint32_t *flags);
};

struct h2_connection {
        struct rpc_connection base; // first
        const struct h2_side *side;
        nghttp2_session *session; // NULL: closed
        int fd;
        struct loop_watch *watch;
        int watched_events;
        uint8_t *unsent; // what the socket did not take
        size_t unsent_length, unsent_offset;
        size_t withheld_bytes; // received and not given back to the connection's window yet
        struct h2_stream *streams;
        unsigned n_streams;
        unsigned n_waiting; // streams with a large message that waits for budget
        bool draining;      // close when the last stream is gone
        bool ending;        // close once all is written
        bool greeted;       // the peer's first SETTINGS came
        bool has_written;   // since the last ping of the peer
        int64_t last_read_ns, last_ping_ns;
        int64_t reset_tokens_ns; // see on_reset
        unsigned ping_strikes;
        bool ping_sent;
        struct loop_timer *keepalive;
        unsigned keepalive_ms;
};

struct h2_stream {
        struct h2_stream *prev, *next;
        struct h2_connection *connection;
        struct rpc_exchange *exchange; // NULL: none yet, or over: what comes is dropped
        int32_t id;
        struct h2_request *request;   // server: the header block that is being read
        struct h2_response *response; // client: what the header blocks said so far
        bool requested;               // server: the header block was read, others are trailers
        size_t header_bytes;
        unsigned n_headers;
        // Receiving.
        uint8_t prefix[H2_PREFIX_BYTES];
        unsigned prefix_filled;
        uint32_t length;        // of the message
        struct rpc_in *message; // being gathered
        size_t message_filled, message_allocated;
        size_t unhandled_bytes; // given to the exchange, not handled yet
        size_t prepaid_bytes;   // of these, already given back to the window
        bool waiting;           // the message is large and waits for budget
        bool reserved;          // … and has it
        bool deaf;              // what comes is dropped: the call was refused
        // Sending.
        struct rpc_out *out;
        size_t out_offset; // prefix included
        bool headers_sent, ended, reset, aborted;
};

// ---- h2_request.c: the header block of a request

struct h2_request *h2_request_new(void);
void h2_request_free(struct h2_request *request);
// False: the block is malformed, a stream error.
bool h2_request_add(struct h2_request *request, const char *name, const char *value);
// False: refused with an HTTP status and an error. incoming->arena is the caller's then, too.
bool h2_request_finish(
        struct h2_request *request, struct rpc_incoming *ret_incoming, unsigned *ret_http_status, GError **error);

// ---- h2_connection.c

struct h2_connection *h2_connection_new(
        const struct rpc_connection_options *options, int fd, const struct h2_side *side);
void h2_connection_open(struct rpc_connection *connection);
void h2_connection_flush(struct rpc_connection *connection);
void h2_connection_close(struct rpc_connection *connection);
void h2_connection_free(struct rpc_connection *connection);
struct h2_stream *h2_stream_new(struct h2_connection *connection, int32_t id);
void h2_stream_free(struct h2_stream *stream);
// Drops the exchange, if any.
void h2_stream_detach(struct h2_stream *stream, GError *status);
void h2_stream_reset(struct h2_stream *stream, uint32_t error_code);

// ---- h2_message.c

// Bytes of a DATA frame's payload.
void h2_message_receive(struct h2_stream *stream, const uint8_t *bytes, size_t length);
bool h2_message_is_incomplete(const struct h2_stream *stream);
// What the exchange has handled, and large messages that may go on now.
void h2_message_give_back(struct h2_stream *stream);
void h2_message_retry_waiting(struct h2_connection *connection);
void h2_message_drop(struct h2_stream *stream);
// nghttp2's data source for messages.
nghttp2_data_provider h2_message_provider(struct h2_stream *stream);
