// SPDX-License-Identifier: Apache-2.0
//
// What the protocols share, inside src/rpc alone. Two objects, used by server and client alike:
//
//   rpc_connection   one socket; embedded first in the protocol's own struct, which lives on the loop's thread
//   rpc_exchange     one call on it; embedded first in rpc_call, rpc_stream (server) and rpc_client_stream
//
// An exchange has two halves. Towards the protocol: packed messages that wait to be sent, the end with its status,
// bytes that were handled. Towards the handler: events (messages, end, writable), delivered one at a time on a lane.
// Other threads change it under the connection's lock and put it on the connection's ready list; the loop then calls
// the protocol's ready for each and flush once, so that a burst of answers costs one wake-up and one write.
#pragma once

#include "io/loop.h"
#include "rpc/client.h"
#include "rpc/rpc.h"
#include "rpc/server.h"

#include <stdatomic.h>

struct rpc_connection;
struct rpc_exchange;

// ---- messages

enum {
        RPC_HEADER_ROOM = 16,              // bytes kept free before a packed message for the protocol's header
        RPC_SEND_MARK_BYTES = 256 * 1024,  // a send queue above this is full
        RPC_SEND_LOW_BYTES = 64 * 1024,    // and has room again below this
        RPC_MAX_METADATA_BYTES = 64 * 1024 // of one call
};

// A packed message that waits to be sent: RPC_HEADER_ROOM bytes, then length bytes.
struct rpc_out {
        struct rpc_out *next;
        size_t length;
        uint8_t bytes[];
};
struct rpc_out *rpc_out_new(const ProtobufCMessage *message);

// A received message. It waits as bytes, since decoded it may be many times as large, and is decoded on the handler's
// lane just before it is handled.
struct rpc_in {
        struct rpc_in *next;
        struct arena *arena; // once decoded
        const ProtobufCMessage *message;
        size_t wire_bytes; // what the peer's window gets back when it is handled
        size_t cost;       // what it weighs in the budgets
        size_t length;
        uint8_t bytes[];
};

// ---- budgets: bytes received and not handled yet, per connection and for a whole server

struct rpc_budget {
        atomic_size_t held;    // whole messages, and room reserved for large ones
        atomic_size_t partial; // incomplete small messages: never waited for, since nothing may ever free them
        size_t cap;            // of each
};

// ---- a connection

// What a protocol implements. All on the loop's thread but free.
struct rpc_transport {
        // Begins to read and write.
        void (*open)(struct rpc_connection *connection);
        // There is something to send, or to give back to the window, or the exchange was reset: see rpc_exchange_*.
        // Client: the first time, the exchange is new.
        void (*ready)(struct rpc_connection *connection, struct rpc_exchange *exchange);
        // After a batch of the above: write. Bytes that a full budget withheld may be asked for again.
        void (*flush)(struct rpc_connection *connection);
        // No new calls; close once those under way are over.
        void (*drain)(struct rpc_connection *connection);
        // Detaches every exchange, closes the socket, calls rpc_connection_closed last.
        void (*close)(struct rpc_connection *connection);
        // The last reference is gone; any thread.
        void (*free)(struct rpc_connection *connection);
};

struct rpc_connection {
        atomic_uint refs;
        struct loop *loop;
        const struct rpc_transport *transport;
        enum rpc_protocol protocol;
        struct lanes *lanes;       // NULL (client): events run on the loop's thread
        struct rpc_server *server; // NULL: client; else a reference
        size_t max_message_bytes;
        struct rpc_budget budget;
        struct rpc_budget *total;           // the server's; NULL: none
        struct rpc_connection *prev, *next; // in the server's list; loop
        struct rpc_peer peer;               // server

        uv_mutex_t lock;
        struct rpc_exchange *ready_first, **ready_last;
        bool posted;          // a flush is in the loop's mailbox
        bool closed;          // nothing is posted any more
        unsigned n_exchanges; // alive, handlers of cancelled calls included
        atomic_bool starved;  // withholds window for want of budget

        void (*on_closed)(struct rpc_connection *connection, void *data); // loop
        void *on_closed_data;
};

struct rpc_connection_options {
        struct loop *loop;
        struct lanes *lanes;
        struct rpc_server *server; // NULL: client; a reference is taken
        enum rpc_protocol protocol;
        const struct rpc_transport *transport;
        size_t max_message_bytes;
        size_t max_queue_bytes;
        struct rpc_budget *total;
        void (*on_closed)(struct rpc_connection *connection, void *data);
        void *on_closed_data;
};
void rpc_connection_init(struct rpc_connection *connection, const struct rpc_connection_options *options);
// What init made; for the transport's free.
void rpc_connection_done(struct rpc_connection *connection);
struct rpc_connection *rpc_connection_ref(struct rpc_connection *connection);
void rpc_connection_unref(struct rpc_connection *connection);
// The transport's close ends with this: no more posts, the owner (server or client) is told and drops its reference.
void rpc_connection_closed(struct rpc_connection *connection);
// True: the budgets are used up, read no more (do not reopen the connection's window) until flush comes.
bool rpc_connection_is_over_budget(struct rpc_connection *connection);
// Room for a large message before it came; given back by release. False: wait for a flush.
bool rpc_connection_reserve(struct rpc_connection *connection, size_t bytes);
void rpc_connection_hold_partial(struct rpc_connection *connection, size_t bytes);
void rpc_connection_release_partial(struct rpc_connection *connection, size_t bytes);
bool rpc_connection_is_partial_full(const struct rpc_connection *connection);
void rpc_connection_hold(struct rpc_connection *connection, size_t bytes);
void rpc_connection_release(struct rpc_connection *connection, size_t bytes);
// Puts the exchange on the ready list. Under the lock.
void rpc_connection_make_ready(struct rpc_connection *connection, struct rpc_exchange *exchange);
// UNAVAILABLE, for calls on a connection that is closed.
GError *rpc_error_closed(void);
// Asks for a flush, later, on the loop. Threads: any.
void rpc_connection_wake(struct rpc_connection *connection);

// ---- an exchange

// How events reach the handler: one at a time, on the exchange's lane. Slots may be NULL.
struct rpc_exchange_events {
        void (*open)(struct rpc_exchange *exchange); // before all others
        // Ends with rpc_exchange_handled, then or later.
        void (*message)(struct rpc_exchange *exchange, struct rpc_in *in);
        void (*half_close)(struct rpc_exchange *exchange);
        void (*writable)(struct rpc_exchange *exchange);
        // The last event. *in is what was received and not delivered; taken, it is to be handled.
        void (*end)(struct rpc_exchange *exchange, struct rpc_in **in);
        void (*detached)(struct rpc_exchange *exchange); // on the loop, not in order with the others
        void (*destroy)(struct rpc_exchange *exchange);  // the last reference is gone: frees all, the struct included
};

struct rpc_exchange {
        atomic_uint refs;
        struct rpc_connection *connection; // a reference
        const struct rpc_exchange_events *events;
        const ProtobufCMessageDescriptor *incoming; // what the peer's messages are
        enum rpc_kind kind;
        enum lane lane;
        struct cancel *cancel; // server: triggered when the client is gone, the deadline passed, …; client: NULL
        // The loop's.
        void *stream; // the transport's state; NULL once detached
        struct loop_timer *timer;
        bool timer_started;
        int64_t deadline_ns; // CLOCK_MONOTONIC; INT64_MAX: none
        unsigned limit_ms;   // the deadline is the method's, so long after the start; 0: the client's
        unsigned n_received; // messages
        // Under the connection's lock.
        struct rpc_exchange *next_ready;
        bool is_ready;
        struct rpc_out *out_first, **out_last;
        size_t out_bytes;
        bool out_full;
        bool finished;    // nothing is queued after this. Server: status is final. Client: half close
        bool was_reset;   // ended before its time: what is queued was dropped
        bool detached;    // the transport has forgotten it
        GError *status;   // the call's end as this side knows it; NULL: OK (or not ended)
        uint8_t *details; // server: a packed google.rpc.Status with details, set before finish; NULL: none
        size_t details_length;
        struct rpc_in *in_first, **in_last;
        size_t handled_bytes; // not yet given back to the peer's window
        bool scheduled, opened, paused, half_closed, writable;
        bool delivering;  // its handler runs
        bool was_handled; // it ran before
        int64_t since_ns; // when the last of these two changed; 0: not yet
        bool ended;       // the end event comes after what was received …
        bool dropped;     // … or before it
        bool end_delivered;
};

// refs is 2 afterwards: the transport's, dropped by rpc_exchange_detach, and the events', dropped after end.
void rpc_exchange_init(struct rpc_exchange *exchange, struct rpc_connection *connection,
        const struct rpc_exchange_events *events, enum rpc_kind kind, const ProtobufCMessageDescriptor *incoming);
// What init made and what is queued; for destroy.
void rpc_exchange_done(struct rpc_exchange *exchange);
struct rpc_exchange *rpc_exchange_ref(struct rpc_exchange *exchange);
void rpc_exchange_unref(struct rpc_exchange *exchange);

// Submits the delivery of the next event, if there is one. Under the lock.
void rpc_exchange_schedule(struct rpc_exchange *exchange);
bool rpc_exchange_client_streams(const struct rpc_exchange *exchange);
// Events are held back until one of these. Server: events begin.
void rpc_exchange_open(struct rpc_exchange *exchange);
// Client: the same, and the transport is told. Takes first, the first message or NULL; finished: no other follows.
void rpc_exchange_start(struct rpc_exchange *exchange, struct rpc_out *first, bool finished);

// -- for the transport, on the loop

// A whole message came. wire_bytes go back by rpc_exchange_take_handled.
void rpc_exchange_receive(struct rpc_exchange *exchange, const uint8_t *bytes, size_t length, size_t wire_bytes);
// The same for a message that the transport has gathered in place; takes in, allocated by g_malloc.
void rpc_exchange_receive_gathered(struct rpc_exchange *exchange, struct rpc_in *in, size_t wire_bytes);
// The peer sends no more. incomplete: in the midst of a message.
void rpc_exchange_peer_half_close(struct rpc_exchange *exchange, bool incomplete);
// The transport forgets the exchange: after the end was sent (server), after it came (client), after a reset, or with
// the connection. Takes status: why it ended (client: NULL is OK; server: the client is gone, unless it is finished).
void rpc_exchange_detach(struct rpc_exchange *exchange, GError *status);
// The next message to send; the caller owns it. NULL: none for now.
struct rpc_out *rpc_exchange_take_out(struct rpc_exchange *exchange);
bool rpc_exchange_has_out(struct rpc_exchange *exchange);
// Nothing more will come out.
bool rpc_exchange_is_sent(struct rpc_exchange *exchange);
// A copy of why the exchange ended; NULL: OK.
GError *rpc_exchange_copy_status(struct rpc_exchange *exchange);
bool rpc_exchange_was_reset(struct rpc_exchange *exchange);
size_t rpc_exchange_take_handled(struct rpc_exchange *exchange);
// Starts the timer for exchange->deadline_ns, if any.
void rpc_exchange_start_timer(struct rpc_exchange *exchange);

// -- for the handler's side, any thread

// Takes out. False: full, or over.
bool rpc_exchange_send(struct rpc_exchange *exchange, struct rpc_out *out);
// Ends the sending side. Takes status (server).
void rpc_exchange_finish(struct rpc_exchange *exchange, struct rpc_out *last, GError *status);
// Ends all of it at once with that error (taken): nothing queued is sent or handled any more.
void rpc_exchange_abort(struct rpc_exchange *exchange, GError *error);
bool rpc_exchange_decode(struct rpc_exchange *exchange, struct rpc_in *in, GError **error);
// The message was handled: frees it, gives its bytes back to the budgets and the peer's window.
void rpc_exchange_handled(struct rpc_exchange *exchange, struct rpc_in *in);
void rpc_exchange_set_paused(struct rpc_exchange *exchange, bool paused);

// ---- server side calls (call.c)

struct rpc_call {
        struct rpc_exchange exchange; // first
        const struct rpc_service *service;
        void *object;
        const struct rpc_method *method;
        struct arena *arena;         // of the metadata
        const char *const *metadata; // key, value, …, NULL
        struct rpc_in *request;      // unary
        int64_t started_ns;
        struct rpc_call *prev, *next; // in the server's list, under its lock
        bool is_listed;
        void *state;     // of a stream's handler
        bool state_open; // its open was called
};
struct rpc_stream {
        struct rpc_call call; // first
};

// A request as the transport read it. The arena (taken in any case) holds the strings.
struct rpc_incoming {
        const char *service, *method;
        const char *const *metadata; // key, value, …, NULL
        int64_t timeout_ns;          // -1: none
        struct arena *arena;
        void *stream;
};
// Loop. NULL: refused (UNIMPLEMENTED, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED), nothing came into being.
struct rpc_exchange *rpc_call_start(
        struct rpc_connection *connection, const struct rpc_incoming *incoming, GError **error);

// ---- the protocols' connections. Take the socket (non-blocking, close-on-exec). Loop. The references are weak: a
// program links the protocols that it speaks (the shim speaks ttrpc alone, and does not load nghttp2).

#define RPC_WEAK __attribute__((weak))
struct rpc_connection *rpc_h2_server_new(struct rpc_server *server, int fd) RPC_WEAK;
struct rpc_connection *rpc_ttrpc_server_new(struct rpc_server *server, int fd) RPC_WEAK;
struct rpc_connection *rpc_h2_client_new(const struct rpc_connection_options *options, int fd) RPC_WEAK;
struct rpc_connection *rpc_ttrpc_client_new(const struct rpc_connection_options *options, int fd) RPC_WEAK;
// Makes it non-blocking and close-on-exec.
bool rpc_socket_prepare(int fd, GError **error);

// ---- the server, as its connections see it

// The part of the options that a connection needs.
struct rpc_connection_options rpc_server_connection_options(
        struct rpc_server *server, enum rpc_protocol protocol, const struct rpc_transport *transport);
const struct rpc_server_options *rpc_server_options(const struct rpc_server *server);
// A service of that name, on that connection's protocol. NULL: none.
const struct rpc_service *rpc_server_find(
        struct rpc_server *server, const struct rpc_connection *connection, const char *service, void **ret_object);
// The list of calls: from the start to the end of their memory.
struct rpc_calls {
        uv_mutex_t lock;
        struct rpc_call *first, *last;
};
struct rpc_calls *rpc_server_calls(struct rpc_server *server);
void rpc_calls_add(struct rpc_calls *calls, struct rpc_call *call);
void rpc_calls_remove(struct rpc_calls *calls, struct rpc_call *call);
struct rpc_server *rpc_server_ref(struct rpc_server *server);
void rpc_server_unref(struct rpc_server *server);
// Budget bytes were given back while connections wait for them: wakes them. Threads: any.
void rpc_server_budget_freed(struct rpc_server *server);
void rpc_server_budget_full(struct rpc_server *server);

// ---- a client's exchange, as its transport reads it

struct rpc_client_stream {
        struct rpc_exchange exchange; // first
        char *service, *method;
        char **metadata; // key, value, …, NULL; NULL: none
        struct rpc_client_stream_handler handler;
        rpc_done_fn done;   // unary
        struct arena *keep; // unary: takes over the response; NULL: it goes after done
        void *data;
        struct cancel *watched; // the caller's token; NULL: none
        unsigned long watch_id;
};
