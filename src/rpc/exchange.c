// SPDX-License-Identifier: Apache-2.0
//
// One call between a protocol and a handler: what is sent, and how it ends. All that both sides touch lies under the
// connection's lock; exchange_events.c is the way of what was received. The trap: an exchange ends on both sides
// independently. The transport's reference goes with detach, the events' with the end event, and a unary handler
// holds one of its own until it has answered.
#include "rpc/internal.h"

#include "base/clock.h"

// Empty messages weigh something, too.
#define OUT_COST(out) ((out)->length + sizeof(struct rpc_out) + RPC_HEADER_ROOM)

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

// ---- the transport's side

void rpc_exchange_peer_half_close(struct rpc_exchange *exchange, bool incomplete)
{
        bool is_server = exchange->connection->server != NULL;
        GError *error = NULL;
        if (is_server && incomplete)
                error_fail(&error, exchange->kind == RPC_UNARY ? ERROR_UNKNOWN : ERROR_INTERNAL, "unexpected EOF");
        else if (is_server && !rpc_exchange_client_streams(exchange) && exchange->n_received == 0)
                error_fail(&error, ERROR_UNKNOWN, "EOF");
        if (error != NULL) {
                rpc_exchange_abort(exchange, error);
                return;
        }
        if (exchange->events->half_close == NULL)
                return;
        uv_mutex_lock(&exchange->connection->lock);
        exchange->half_closed = true;
        rpc_exchange_schedule(exchange);
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
        rpc_exchange_schedule(exchange);
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
                rpc_exchange_schedule(exchange);
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
                rpc_exchange_schedule(exchange);
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
        GError *error = g_error_new_literal(SKIFF_ERROR, ERROR_DEADLINE_EXCEEDED, "context deadline exceeded");
        if (exchange->limit_ms > 0)
                g_prefix_error(&error, "not done within the %g s that the method may take: ", exchange->limit_ms / 1e3);
        end_now(exchange, error, true);
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

struct rpc_out *rpc_out_new(const ProtobufCMessage *message)
{
        size_t length = protobuf_c_message_get_packed_size(message);
        struct rpc_out *out = g_malloc(sizeof *out + RPC_HEADER_ROOM + length);
        out->next = NULL;
        out->length = protobuf_c_message_pack(message, out->bytes + RPC_HEADER_ROOM);
        g_assert(out->length == length);
        return out;
}

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
        rpc_exchange_schedule(exchange);
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
        rpc_exchange_schedule(exchange);
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
                rpc_exchange_schedule(exchange);
        }
        uv_mutex_unlock(&connection->lock);
        g_free(last);
        g_clear_error(&status);
}

void rpc_exchange_set_paused(struct rpc_exchange *exchange, bool paused)
{
        uv_mutex_lock(&exchange->connection->lock);
        exchange->paused = paused;
        rpc_exchange_schedule(exchange);
        uv_mutex_unlock(&exchange->connection->lock);
}
