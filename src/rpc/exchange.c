// SPDX-License-Identifier: Apache-2.0
//
// One call between a protocol and a handler. All that both sides touch lies under the connection's lock; the events are
// delivered by `deliver`, a job on the call's lane that is submitted when there is one to deliver and that none runs
// already (`scheduled`), which is what makes them come one at a time and in order. The trap: an exchange ends on both
// sides independently. The transport's reference goes with detach, the events' with the end event, and a unary handler
// holds one of its own until it has answered.
#include "rpc/internal.h"

#include "base/clock.h"

#include <string.h>

enum { EVENTS_PER_TURN = 16 };

// Empty messages weigh something, too.
#define OUT_COST(out) ((out)->length + sizeof(struct rpc_out) + RPC_HEADER_ROOM)

enum event { EVENT_NONE, EVENT_OPEN, EVENT_MESSAGE, EVENT_HALF_CLOSE, EVENT_WRITABLE, EVENT_END };

void rpc_exchange_init(struct rpc_exchange *exchange, struct rpc_connection *connection,
        const struct rpc_exchange_events *events, enum rpc_kind kind, const ProtobufCMessageDescriptor *incoming)
{
        atomic_init(&exchange->refs, 2);
        exchange->connection = rpc_connection_ref(connection);
        exchange->events = events;
        exchange->incoming = incoming;
        exchange->kind = kind;
        exchange->deadline_ns = INT64_MAX;
        exchange->out_last = &exchange->out_first;
        exchange->in_last = &exchange->in_first;
        exchange->opened = events->open == NULL;
        exchange->scheduled = true; // nothing is delivered before rpc_exchange_open or _start
        uv_mutex_lock(&connection->lock);
        connection->n_exchanges++;
        uv_mutex_unlock(&connection->lock);
}

struct rpc_exchange *rpc_exchange_ref(struct rpc_exchange *exchange)
{
        atomic_fetch_add_explicit(&exchange->refs, 1, memory_order_relaxed);
        return exchange;
}

void rpc_exchange_unref(struct rpc_exchange *exchange)
{
        if (atomic_fetch_sub_explicit(&exchange->refs, 1, memory_order_acq_rel) == 1)
                exchange->events->destroy(exchange);
}

static void drop_out(struct rpc_exchange *exchange)
{
        for (struct rpc_out *out = exchange->out_first, *next; out != NULL; out = next) {
                next = out->next;
                g_free(out);
        }
        exchange->out_first = NULL;
        exchange->out_last = &exchange->out_first;
        exchange->out_bytes = 0;
}

void rpc_exchange_done(struct rpc_exchange *exchange)
{
        struct rpc_connection *connection = exchange->connection;
        g_assert(exchange->in_first == NULL && exchange->timer == NULL);
        drop_out(exchange);
        g_clear_error(&exchange->status);
        g_free(exchange->details);
        if (exchange->cancel != NULL)
                cancel_unref(exchange->cancel);
        uv_mutex_lock(&connection->lock);
        connection->n_exchanges--;
        uv_mutex_unlock(&connection->lock);
        rpc_connection_unref(connection);
}

// ---- events

static bool client_streams(const struct rpc_exchange *exchange)
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

// Under the lock.
static void schedule(struct rpc_exchange *exchange)
{
        if (exchange->scheduled || next_event(exchange) == EVENT_NONE)
                return;
        exchange->scheduled = true;
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
                exchange->scheduled = event != EVENT_NONE;
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
        in->message = rpc_decode(exchange->incoming, in->bytes, in->length, in->arena, error);
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

// ---- the transport's side

void rpc_exchange_receive_gathered(struct rpc_exchange *exchange, struct rpc_in *in, size_t wire_bytes)
{
        struct rpc_connection *connection = exchange->connection;
        if (connection->server != NULL && exchange->n_received > 0 && !client_streams(exchange)) {
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
                schedule(exchange);
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

void rpc_exchange_peer_half_close(struct rpc_exchange *exchange, bool incomplete)
{
        bool is_server = exchange->connection->server != NULL;
        GError *error = NULL;
        if (is_server && incomplete)
                error_fail(&error, exchange->kind == RPC_UNARY ? ERROR_UNKNOWN : ERROR_INTERNAL, "unexpected EOF");
        else if (is_server && !client_streams(exchange) && exchange->n_received == 0)
                error_fail(&error, ERROR_UNKNOWN, "EOF");
        if (error != NULL) {
                rpc_exchange_abort(exchange, error);
                return;
        }
        if (exchange->events->half_close == NULL)
                return;
        uv_mutex_lock(&exchange->connection->lock);
        exchange->half_closed = true;
        schedule(exchange);
        uv_mutex_unlock(&exchange->connection->lock);
}

static void stop_timer(struct rpc_exchange *exchange)
{
        if (exchange->timer != NULL)
                loop_timer_stop(g_steal_pointer(&exchange->timer));
}

void rpc_exchange_detach(struct rpc_exchange *exchange, GError *status)
{
        struct rpc_connection *connection = exchange->connection;
        stop_timer(exchange);
        exchange->stream = NULL;
        AUTO(cancel) cancel = NULL;
        g_autofree char *reason = NULL;
        enum error_code code = status == NULL ? ERROR_CANCELED : error_class(status);

        uv_mutex_lock(&connection->lock);
        if (exchange->detached) {
                uv_mutex_unlock(&connection->lock);
                g_clear_error(&status);
                return;
        }
        exchange->detached = true;
        if (connection->server == NULL) {
                if (!exchange->ended)
                        exchange->status = g_steal_pointer(&status);
        } else if (!exchange->finished) {
                exchange->was_reset = exchange->dropped = true;
                reason = g_strdup(status == NULL ? "context canceled" : status->message);
                g_clear_error(&exchange->status);
                exchange->status = g_steal_pointer(&status);
                cancel = exchange->cancel == NULL ? NULL : cancel_ref(exchange->cancel);
        }
        exchange->finished = exchange->ended = true;
        exchange->writable = false;
        drop_out(exchange);
        schedule(exchange);
        uv_mutex_unlock(&connection->lock);

        g_clear_error(&status);
        if (cancel != NULL)
                cancel_trigger(cancel, code, reason);
        if (exchange->events->detached != NULL)
                exchange->events->detached(exchange);
        rpc_exchange_unref(exchange);
}

struct rpc_out *rpc_exchange_take_out(struct rpc_exchange *exchange)
{
        uv_mutex_lock(&exchange->connection->lock);
        struct rpc_out *out = exchange->out_first;
        if (out != NULL) {
                exchange->out_first = out->next;
                if (exchange->out_first == NULL)
                        exchange->out_last = &exchange->out_first;
                exchange->out_bytes -= OUT_COST(out);
        }
        if (exchange->out_full && exchange->out_bytes <= RPC_SEND_LOW_BYTES) {
                exchange->out_full = false;
                exchange->writable = !exchange->finished;
                schedule(exchange);
        }
        uv_mutex_unlock(&exchange->connection->lock);
        return out;
}

bool rpc_exchange_has_out(struct rpc_exchange *exchange)
{
        uv_mutex_lock(&exchange->connection->lock);
        bool has_out = exchange->out_first != NULL;
        uv_mutex_unlock(&exchange->connection->lock);
        return has_out;
}

bool rpc_exchange_is_sent(struct rpc_exchange *exchange)
{
        uv_mutex_lock(&exchange->connection->lock);
        bool sent = exchange->finished && exchange->out_first == NULL;
        uv_mutex_unlock(&exchange->connection->lock);
        return sent;
}

bool rpc_exchange_was_reset(struct rpc_exchange *exchange)
{
        uv_mutex_lock(&exchange->connection->lock);
        bool was_reset = exchange->was_reset;
        uv_mutex_unlock(&exchange->connection->lock);
        return was_reset;
}

GError *rpc_exchange_copy_status(struct rpc_exchange *exchange)
{
        uv_mutex_lock(&exchange->connection->lock);
        GError *status = exchange->status == NULL ? NULL : g_error_copy(exchange->status);
        uv_mutex_unlock(&exchange->connection->lock);
        return status;
}

size_t rpc_exchange_take_handled(struct rpc_exchange *exchange)
{
        uv_mutex_lock(&exchange->connection->lock);
        size_t bytes = exchange->handled_bytes;
        exchange->handled_bytes = 0;
        uv_mutex_unlock(&exchange->connection->lock);
        return bytes;
}

// Takes error. A server's end that the transport already has is left as it is, unless late: then the stream is reset.
static void end_now(struct rpc_exchange *exchange, GError *error, bool late)
{
        struct rpc_connection *connection = exchange->connection;
        AUTO(cancel) cancel = NULL;
        g_autofree char *reason = g_strdup(error->message);
        enum error_code code = error_class(error);

        uv_mutex_lock(&connection->lock);
        bool is_server = connection->server != NULL;
        bool is_sent = is_server && exchange->finished && exchange->out_first == NULL;
        // A client may refuse a message after the transport is done with the call.
        bool is_over = is_server ? exchange->detached : exchange->end_delivered;
        if (!is_over && !exchange->was_reset && (late || !is_sent)) {
                exchange->was_reset = true;
                exchange->finished = exchange->ended = exchange->dropped = true;
                g_clear_error(&exchange->status);
                exchange->status = g_steal_pointer(&error);
                exchange->writable = false;
                drop_out(exchange);
                rpc_connection_make_ready(connection, exchange);
                schedule(exchange);
                cancel = exchange->cancel == NULL ? NULL : cancel_ref(exchange->cancel);
        }
        uv_mutex_unlock(&connection->lock);
        g_clear_error(&error);
        if (cancel != NULL)
                cancel_trigger(cancel, code, reason);
}

void rpc_exchange_abort(struct rpc_exchange *exchange, GError *error)
{
        end_now(exchange, error, false);
}

static void on_deadline(void *data)
{
        struct rpc_exchange *exchange = data;
        exchange->timer = NULL;
        end_now(exchange, g_error_new_literal(SKIFF_ERROR, ERROR_DEADLINE_EXCEEDED, "context deadline exceeded"), true);
}

void rpc_exchange_start_timer(struct rpc_exchange *exchange)
{
        if (exchange->deadline_ns == INT64_MAX || exchange->timer_started)
                return;
        exchange->timer_started = true;
        int64_t left_ns = MAX(exchange->deadline_ns - clock_monotonic_ns(), 0);
        uint64_t left_ms = (uint64_t)(left_ns / NS_PER_MS) + (left_ns % NS_PER_MS != 0);
        exchange->timer = loop_timer_start(exchange->connection->loop, left_ms, on_deadline, exchange);
}

// ---- the handler's side

// Under the lock.
static void push_out(struct rpc_exchange *exchange, struct rpc_out *out)
{
        *exchange->out_last = out;
        exchange->out_last = &out->next;
        exchange->out_bytes += OUT_COST(out);
        if (exchange->out_bytes > RPC_SEND_MARK_BYTES)
                exchange->out_full = true;
}

void rpc_exchange_open(struct rpc_exchange *exchange)
{
        uv_mutex_lock(&exchange->connection->lock);
        exchange->scheduled = false;
        schedule(exchange);
        uv_mutex_unlock(&exchange->connection->lock);
}

void rpc_exchange_start(struct rpc_exchange *exchange, struct rpc_out *first, bool finished)
{
        struct rpc_connection *connection = exchange->connection;
        uv_mutex_lock(&connection->lock);
        exchange->scheduled = false;
        if (first != NULL && !exchange->finished)
                push_out(exchange, g_steal_pointer(&first));
        exchange->finished |= finished;
        bool closed = connection->closed;
        if (!closed)
                rpc_connection_make_ready(connection, exchange);
        schedule(exchange);
        uv_mutex_unlock(&connection->lock);
        g_free(first);
        if (closed)
                rpc_exchange_detach(exchange, rpc_error_closed());
}

bool rpc_exchange_send(struct rpc_exchange *exchange, struct rpc_out *out)
{
        struct rpc_connection *connection = exchange->connection;
        uv_mutex_lock(&connection->lock);
        bool over = exchange->finished || exchange->detached;
        if (!over) {
                push_out(exchange, out);
                rpc_connection_make_ready(connection, exchange);
        }
        bool room = !over && !exchange->out_full;
        uv_mutex_unlock(&connection->lock);
        if (over)
                g_free(out);
        return room;
}

void rpc_exchange_finish(struct rpc_exchange *exchange, struct rpc_out *last, GError *status)
{
        struct rpc_connection *connection = exchange->connection;
        uv_mutex_lock(&connection->lock);
        if (!exchange->finished && !exchange->detached) {
                if (last != NULL)
                        push_out(exchange, g_steal_pointer(&last));
                exchange->finished = true;
                if (connection->server != NULL) {
                        exchange->status = g_steal_pointer(&status);
                        exchange->ended = exchange->dropped = true;
                }
                rpc_connection_make_ready(connection, exchange);
                schedule(exchange);
        }
        uv_mutex_unlock(&connection->lock);
        g_free(last);
        g_clear_error(&status);
}

void rpc_exchange_set_paused(struct rpc_exchange *exchange, bool paused)
{
        uv_mutex_lock(&exchange->connection->lock);
        exchange->paused = paused;
        schedule(exchange);
        uv_mutex_unlock(&exchange->connection->lock);
}
