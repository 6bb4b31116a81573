// SPDX-License-Identifier: Apache-2.0
//
// How events reach a handler: `deliver` is a job on the call's lane, submitted when there is an event and none runs
// already (`scheduled`), which is what makes them come one at a time and in order. A message is decoded here, just
// before its handler sees it.
#include "rpc/internal.h"

#include "base/clock.h"
#include "base/message.h"

#include <string.h>

enum { EVENTS_PER_TURN = 16 };

enum event { EVENT_NONE, EVENT_OPEN, EVENT_MESSAGE, EVENT_HALF_CLOSE, EVENT_WRITABLE, EVENT_END };

bool rpc_exchange_client_streams(const struct rpc_exchange *exchange)
{
        return exchange->kind == RPC_CLIENT_STREAM || exchange->kind == RPC_BIDI_STREAM;
}

// To the peer's window.
static void give_back(struct rpc_exchange *exchange, size_t wire_bytes)
{
        uv_mutex_lock(&exchange->connection->lock);
        exchange->handled_bytes += wire_bytes;
        rpc_connection_make_ready(exchange->connection, exchange);
        uv_mutex_unlock(&exchange->connection->lock);
}

static enum event next_event(const struct rpc_exchange *exchange)
{
        if (exchange->end_delivered)
                return EVENT_NONE;
        if (exchange->dropped)
                return EVENT_END;
        if (!exchange->opened)
                return EVENT_OPEN;
        if (!exchange->paused) {
                if (exchange->in_first != NULL && exchange->events->message != NULL)
                        return EVENT_MESSAGE;
                if (exchange->half_closed)
                        return EVENT_HALF_CLOSE;
                if (exchange->ended)
                        return EVENT_END;
        }
        return exchange->writable ? EVENT_WRITABLE : EVENT_NONE;
}

static void deliver(void *data);

static void submit(struct rpc_exchange *exchange)
{
        struct rpc_connection *connection = exchange->connection;
        if (connection->lanes != NULL)
                lanes_submit(connection->lanes, exchange->lane, deliver, exchange);
        else
                loop_post(connection->loop, deliver, exchange);
}

void rpc_exchange_schedule(struct rpc_exchange *exchange)
{
        if (exchange->scheduled || next_event(exchange) == EVENT_NONE)
                return;
        exchange->scheduled = true;
        exchange->since_ns = clock_monotonic_ns();
        submit(rpc_exchange_ref(exchange));
}

// Under the lock: what the event takes with it.
static struct rpc_in *take_event(struct rpc_exchange *exchange, enum event event)
{
        struct rpc_in *in = NULL;
        if (event == EVENT_OPEN)
                exchange->opened = true;
        else if (event == EVENT_HALF_CLOSE)
                exchange->half_closed = false;
        else if (event == EVENT_WRITABLE)
                exchange->writable = false;
        else if (event == EVENT_MESSAGE || event == EVENT_END)
                in = exchange->in_first;
        if (event == EVENT_MESSAGE)
                exchange->in_first = in->next;
        if (event == EVENT_END) {
                exchange->in_first = NULL;
                exchange->end_delivered = true;
        }
        if (exchange->in_first == NULL)
                exchange->in_last = &exchange->in_first;
        return in;
}

static void call_event(struct rpc_exchange *exchange, void (*fn)(struct rpc_exchange *exchange))
{
        if (fn != NULL)
                fn(exchange);
}

static void deliver_message(struct rpc_exchange *exchange, struct rpc_in *in)
{
        GError *error = NULL;
        if (rpc_exchange_decode(exchange, in, &error)) {
                exchange->events->message(exchange, in);
        } else {
                rpc_exchange_abort(exchange, error);
                rpc_exchange_handled(exchange, in);
        }
}

static void deliver_event(struct rpc_exchange *exchange, enum event event, struct rpc_in *in)
{
        const struct rpc_exchange_events *events = exchange->events;
        switch (event) {
        case EVENT_OPEN:
                call_event(exchange, events->open);
                break;
        case EVENT_MESSAGE:
                deliver_message(exchange, in);
                break;
        case EVENT_HALF_CLOSE:
                call_event(exchange, events->half_close);
                break;
        case EVENT_WRITABLE:
                call_event(exchange, events->writable);
                break;
        case EVENT_END:
                if (events->end != NULL)
                        events->end(exchange, &in);
                for (struct rpc_in *next; in != NULL; in = next) {
                        next = in->next;
                        rpc_exchange_handled(exchange, in);
                }
                rpc_exchange_unref(exchange);
                break;
        case EVENT_NONE:
                break;
        }
}

static void deliver(void *data)
{
        struct rpc_exchange *exchange = data;
        uv_mutex_t *lock = &exchange->connection->lock;
        for (int i = 0; i < EVENTS_PER_TURN; i++) {
                uv_mutex_lock(lock);
                enum event event = next_event(exchange);
                exchange->scheduled = exchange->delivering = event != EVENT_NONE;
                exchange->was_handled |= exchange->delivering;
                exchange->since_ns = clock_monotonic_ns();
                struct rpc_in *in = take_event(exchange, event);
                uv_mutex_unlock(lock);
                if (event == EVENT_NONE) {
                        rpc_exchange_unref(exchange);
                        return;
                }
                deliver_event(exchange, event, in);
        }
        submit(exchange);
}

bool rpc_exchange_decode(struct rpc_exchange *exchange, struct rpc_in *in, GError **error)
{
        struct rpc_connection *connection = exchange->connection;
        in->arena = arena_new();
        in->message = message_decode(exchange->incoming, in->bytes, in->length, in->arena, error);
        if (in->message == NULL) {
                bool request = exchange->kind == RPC_UNARY && connection->server != NULL;
                g_prefix_error(error, request ? "grpc: error unmarshalling request: "
                                              : "grpc: failed to unmarshal the received message: ");
                return false;
        }
        size_t grown = arena_used_bytes(in->arena);
        in->cost += grown;
        rpc_connection_hold(connection, grown);
        return true;
}

void rpc_exchange_handled(struct rpc_exchange *exchange, struct rpc_in *in)
{
        struct rpc_connection *connection = exchange->connection;
        size_t wire_bytes = in->wire_bytes, cost = in->cost;
        arena_free(in->arena);
        g_free(in);
        give_back(exchange, wire_bytes);
        rpc_connection_release(connection, cost);
}

// ---- messages

void rpc_exchange_receive_gathered(struct rpc_exchange *exchange, struct rpc_in *in, size_t wire_bytes)
{
        struct rpc_connection *connection = exchange->connection;
        if (connection->server != NULL && exchange->n_received > 0 && !rpc_exchange_client_streams(exchange)) {
                g_free(in); // one request is all that the method takes
                give_back(exchange, wire_bytes);
                return;
        }
        exchange->n_received++;
        in->next = NULL;
        in->arena = NULL;
        in->message = NULL;
        in->wire_bytes = wire_bytes;
        in->cost = sizeof *in + in->length;
        rpc_connection_hold(connection, in->cost);

        uv_mutex_lock(&connection->lock);
        bool dropped = exchange->dropped || exchange->ended;
        if (!dropped) {
                *exchange->in_last = in;
                exchange->in_last = &in->next;
                rpc_exchange_schedule(exchange);
        }
        uv_mutex_unlock(&connection->lock);
        if (dropped)
                rpc_exchange_handled(exchange, in);
}

void rpc_exchange_receive(struct rpc_exchange *exchange, const uint8_t *bytes, size_t length, size_t wire_bytes)
{
        struct rpc_in *in = g_malloc(sizeof *in + length);
        in->length = length;
        if (length > 0)
                memcpy(in->bytes, bytes, length);
        rpc_exchange_receive_gathered(exchange, in, wire_bytes);
}
