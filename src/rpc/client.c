// SPDX-License-Identifier: Apache-2.0
//
// The client's side of exchanges. A unary call is a stream whose messages are kept until the end, so that done comes
// once. The client object owns one reference to its connection; calls own theirs, so a client may go while its calls
// are still being failed. A watched cancel token holds a reference to its call until it is unwatched or has fired.
#include "rpc/internal.h"

#include "base/clock.h"
#include "io/waiter.h"

enum { DEFAULT_GRPC_MESSAGE_BYTES = 16 * 1024 * 1024, DEFAULT_TTRPC_MESSAGE_BYTES = 4 * 1024 * 1024 };
enum { MAX_QUEUE_BYTES = 32 * 1024 * 1024 };

struct rpc_client {
        atomic_uint users;
        struct loop *loop;
        struct rpc_connection *connection;
        struct rpc_client_options options;
        atomic_bool closed;
        unsigned owners; // loop: the users together, and the open connection
};

// ---- the connection

static void drop_owner(struct rpc_client *client)
{
        if (--client->owners > 0)
                return;
        rpc_connection_unref(client->connection);
        g_free(client);
}

static void tell_closed(void *data)
{
        struct rpc_client *client = data;
        if (atomic_load(&client->users) > 0 && client->options.on_closed != NULL)
                client->options.on_closed(client->options.data);
        drop_owner(client);
}

static void on_connection_closed(struct rpc_connection *connection, void *data)
{
        struct rpc_client *client = data;
        atomic_store(&client->closed, true);
        loop_post(client->loop, tell_closed, client); // after the ends of its calls, which may be posted, too
}

static void open_connection(void *data)
{
        struct rpc_connection *connection = data;
        connection->transport->open(connection);
        rpc_connection_unref(connection);
}

struct rpc_client *rpc_client_new(
        struct loop *loop, enum rpc_protocol protocol, int fd, const struct rpc_client_options *options)
{
        struct rpc_client *client = g_new0(struct rpc_client, 1);
        atomic_init(&client->users, 1);
        client->owners = 2;
        client->loop = loop;
        if (options != NULL)
                client->options = *options;
        size_t max = client->options.max_message_bytes;
        if (max == 0)
                max = protocol == RPC_GRPC ? DEFAULT_GRPC_MESSAGE_BYTES : DEFAULT_TTRPC_MESSAGE_BYTES;
        struct rpc_connection_options connection_options = {
                .loop = loop,
                .lanes = client->options.lanes,
                .protocol = protocol,
                .max_message_bytes = max,
                .max_queue_bytes = MAX(MAX_QUEUE_BYTES, 2 * max),
                .on_closed = on_connection_closed,
                .on_closed_data = client,
        };
        struct rpc_connection *(*connection_new)(const struct rpc_connection_options *options, int fd) =
                protocol == RPC_GRPC ? rpc_h2_client_new : rpc_ttrpc_client_new;
        g_assert(connection_new != NULL);   // else the program was linked without that protocol
        (void)rpc_socket_prepare(fd, NULL); // a bad descriptor shows when it is used
        // One reference is ours, one the open connection's.
        client->connection = rpc_connection_ref(connection_new(&connection_options, fd));
        loop_post(loop, open_connection, rpc_connection_ref(client->connection));
        return client;
}

struct rpc_client *rpc_client_ref(struct rpc_client *client)
{
        atomic_fetch_add_explicit(&client->users, 1, memory_order_relaxed);
        return client;
}

static void abandon(void *data)
{
        struct rpc_client *client = data;
        if (!atomic_load(&client->closed))
                client->connection->transport->close(client->connection);
        drop_owner(client);
}

void rpc_client_unref(struct rpc_client *client)
{
        if (client != NULL && atomic_fetch_sub_explicit(&client->users, 1, memory_order_acq_rel) == 1)
                loop_post(client->loop, abandon, client);
}

bool rpc_client_is_closed(const struct rpc_client *client)
{
        return atomic_load(&client->closed);
}

// ---- calls

static struct rpc_client_stream *stream_of(struct rpc_exchange *exchange)
{
        return (struct rpc_client_stream *)exchange;
}

static void destroy(struct rpc_exchange *exchange)
{
        struct rpc_client_stream *stream = stream_of(exchange);
        rpc_exchange_done(exchange);
        if (stream->watched != NULL)
                cancel_unref(stream->watched);
        g_strfreev(stream->metadata);
        g_free(stream->service);
        g_free(stream->method);
        g_free(stream);
}

static void on_cancelled(void *data)
{
        struct rpc_client_stream *stream = data;
        GError *error = NULL;
        if (!cancel_check(stream->watched, &error))
                rpc_exchange_abort(&stream->exchange, error);
        rpc_exchange_unref(&stream->exchange);
}

static void unwatch(struct rpc_client_stream *stream)
{
        if (stream->watched != NULL && cancel_unwatch(stream->watched, stream->watch_id))
                rpc_exchange_unref(&stream->exchange);
}

static GError *take_status(struct rpc_exchange *exchange)
{
        uv_mutex_lock(&exchange->connection->lock);
        GError *status = g_steal_pointer(&exchange->status);
        uv_mutex_unlock(&exchange->connection->lock);
        return status;
}

// Go's texts for an answer that is none.
static bool check_one_message(const struct rpc_in *in, GError **error)
{
        if (in == NULL)
                return error_fail(error, ERROR_INTERNAL,
                        "cardinality violation: received no response message from non-server-streaming RPC");
        if (in->next != NULL)
                return error_fail(error, ERROR_INTERNAL,
                        "cardinality violation: expected <EOF> for non server-streaming RPCs, but received another "
                        "message");
        return true;
}

static void on_unary_end(struct rpc_exchange *exchange, struct rpc_in **in)
{
        struct rpc_client_stream *stream = stream_of(exchange);
        unwatch(stream);
        g_autoptr(GError) error = take_status(exchange);
        if (error == NULL)
                check_one_message(*in, &error);
        if (error == NULL)
                rpc_exchange_decode(exchange, *in, &error);
        const ProtobufCMessage *response = error == NULL ? (*in)->message : NULL;
        if (response != NULL && stream->keep != NULL) {
                struct rpc_in *kept = g_steal_pointer(in); // before the waiting thread goes on with the arena
                arena_absorb(stream->keep, g_steal_pointer(&kept->arena));
                rpc_exchange_handled(exchange, kept);
        }
        stream->done(stream->data, response, error);
}

static const struct rpc_exchange_events unary_events = {
        .end = on_unary_end,
        .destroy = destroy,
};

static void on_message(struct rpc_exchange *exchange, struct rpc_in *in)
{
        struct rpc_client_stream *stream = stream_of(exchange);
        stream->handler.on_message(stream->data, stream, in->message);
        rpc_exchange_handled(exchange, in);
}

static void on_writable(struct rpc_exchange *exchange)
{
        struct rpc_client_stream *stream = stream_of(exchange);
        if (stream->handler.on_writable != NULL)
                stream->handler.on_writable(stream->data, stream);
}

static void on_end(struct rpc_exchange *exchange, struct rpc_in **in)
{
        struct rpc_client_stream *stream = stream_of(exchange);
        unwatch(stream);
        g_autoptr(GError) error = take_status(exchange);
        stream->handler.on_end(stream->data, stream, error);
}

static const struct rpc_exchange_events stream_events = {
        .message = on_message,
        .writable = on_writable,
        .end = on_end,
        .destroy = destroy,
};

static struct rpc_client_stream *stream_new(
        struct rpc_client *client, const struct rpc_request *request, enum rpc_kind kind)
{
        struct rpc_client_stream *stream = g_new0(struct rpc_client_stream, 1);
        rpc_exchange_init(&stream->exchange, client->connection, kind == RPC_UNARY ? &unary_events : &stream_events,
                kind, request->response);
        stream->exchange.lane = client->options.lane;
        stream->service = g_strdup(request->service);
        stream->method = g_strdup(request->method);
        stream->metadata = g_strdupv((char **)request->metadata);
        if (request->timeout_ns > 0) {
                int64_t now_ns = clock_monotonic_ns();
                stream->exchange.deadline_ns =
                        request->timeout_ns > INT64_MAX - 1 - now_ns ? INT64_MAX - 1 : now_ns + request->timeout_ns;
        }
        return stream;
}

static void stream_start(struct rpc_client_stream *stream, const struct rpc_request *request)
{
        struct rpc_exchange *exchange = &stream->exchange;
        bool finished = exchange->kind == RPC_UNARY || exchange->kind == RPC_SERVER_STREAM;
        size_t max = exchange->connection->max_message_bytes;
        struct rpc_out *first = request->message == NULL ? NULL : rpc_out_new(request->message);
        if (first != NULL && first->length > max) {
                GError *error = NULL;
                error_fail(&error, ERROR_RESOURCE_EXHAUSTED, "trying to send message larger than max (%zu vs. %zu)",
                        first->length, max);
                g_clear_pointer(&first, g_free);
                rpc_exchange_abort(exchange, error);
        }
        if (request->cancel != NULL) {
                stream->watched = cancel_ref(request->cancel);
                rpc_exchange_ref(exchange);
                stream->watch_id = cancel_watch(stream->watched, on_cancelled, stream);
        }
        rpc_exchange_start(exchange, first, finished);
}

void rpc_client_call(struct rpc_client *client, const struct rpc_request *request, rpc_done_fn done, void *data)
{
        struct rpc_client_stream *stream = stream_new(client, request, RPC_UNARY);
        stream->done = done;
        stream->data = data;
        stream_start(stream, request);
}

struct wait {
        struct waiter *waiter;
        const ProtobufCMessage *response;
        GError *error;
};

static void on_waited(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct wait *wait = data;
        wait->response = response;
        wait->error = error == NULL ? NULL : g_error_copy(error);
        waiter_signal(wait->waiter);
}

const ProtobufCMessage *rpc_client_call_wait(
        struct rpc_client *client, const struct rpc_request *request, struct arena *arena, GError **error)
{
        struct wait wait = {.waiter = waiter_new()};
        struct rpc_client_stream *stream = stream_new(client, request, RPC_UNARY);
        stream->done = on_waited;
        stream->data = &wait;
        stream->keep = arena;
        stream_start(stream, request);
        waiter_wait(wait.waiter, -1);
        waiter_free(wait.waiter);
        if (wait.error != NULL)
                g_propagate_error(error, wait.error);
        return wait.response;
}

// ---- streams

struct rpc_client_stream *rpc_client_stream_open(struct rpc_client *client, const struct rpc_request *request,
        enum rpc_kind kind, const struct rpc_client_stream_handler *handler, void *data)
{
        g_assert(kind != RPC_UNARY);
        struct rpc_client_stream *stream = stream_new(client, request, kind);
        stream->handler = *handler;
        stream->data = data;
        rpc_client_stream_ref(stream);
        stream_start(stream, request);
        return stream;
}

struct rpc_client_stream *rpc_client_stream_ref(struct rpc_client_stream *stream)
{
        return stream_of(rpc_exchange_ref(&stream->exchange));
}

void rpc_client_stream_unref(struct rpc_client_stream *stream)
{
        if (stream != NULL)
                rpc_exchange_unref(&stream->exchange);
}

bool rpc_client_stream_send(struct rpc_client_stream *stream, const ProtobufCMessage *message)
{
        struct rpc_exchange *exchange = &stream->exchange;
        struct rpc_out *out = rpc_out_new(message);
        size_t max = exchange->connection->max_message_bytes;
        if (out->length <= max)
                return rpc_exchange_send(exchange, out);
        GError *error = NULL;
        error_fail(&error, ERROR_RESOURCE_EXHAUSTED, "trying to send message larger than max (%zu vs. %zu)",
                out->length, max);
        g_free(out);
        rpc_exchange_abort(exchange, error);
        return false;
}

void rpc_client_stream_half_close(struct rpc_client_stream *stream)
{
        rpc_exchange_finish(&stream->exchange, NULL, NULL);
}

void rpc_client_stream_cancel(struct rpc_client_stream *stream)
{
        rpc_exchange_abort(&stream->exchange, g_error_new_literal(SKIFF_ERROR, ERROR_CANCELED, "context canceled"));
}

void rpc_client_stream_pause(struct rpc_client_stream *stream)
{
        rpc_exchange_set_paused(&stream->exchange, true);
}

void rpc_client_stream_resume(struct rpc_client_stream *stream)
{
        rpc_exchange_set_paused(&stream->exchange, false);
}
