// SPDX-License-Identifier: Apache-2.0
//
// Calls and streams as services see them, on top of exchanges. A unary handler owns one reference from the moment that
// it is called until it answers; a stream's handler lives from open to close. What the handler's thread does is pack
// and queue; the loop frames and writes.
#include "rpc/internal.h"

#include "base/clock.h"
#include "google/rpc/status.pb-c.h"

#include <string.h>

static struct rpc_call *call_of(struct rpc_exchange *exchange)
{
        return (struct rpc_call *)exchange;
}

static struct rpc_stream *stream_of(struct rpc_exchange *exchange)
{
        return (struct rpc_stream *)exchange;
}

static void destroy(struct rpc_exchange *exchange)
{
        struct rpc_call *call = call_of(exchange);
        rpc_calls_remove(rpc_server_calls(exchange->connection->server), call);
        arena_free(call->arena);
        rpc_exchange_done(exchange);
        g_free(call);
}

// ---- unary

static void on_unary_message(struct rpc_exchange *exchange, struct rpc_in *in)
{
        struct rpc_call *call = call_of(rpc_exchange_ref(exchange));
        call->request = in;
        call->method->unary(call, call->object);
}

static void on_detached(struct rpc_exchange *exchange)
{
        const struct rpc_server_options *options = rpc_server_options(exchange->connection->server);
        if (options->on_call_end == NULL)
                return;
        g_autoptr(GError) status = rpc_exchange_copy_status(exchange);
        options->on_call_end(options->data, call_of(exchange), status);
}

static const struct rpc_exchange_events unary_events = {
        .message = on_unary_message,
        .detached = on_detached,
        .destroy = destroy,
};

const ProtobufCMessage *rpc_call_request(const struct rpc_call *call)
{
        return call->request->message;
}

struct arena *rpc_call_arena(struct rpc_call *call)
{
        return call->request->arena;
}

const char *rpc_call_metadata(const struct rpc_call *call, const char *key)
{
        for (const char *const *pair = call->metadata; *pair != NULL; pair += 2)
                if (strcmp(pair[0], key) == 0)
                        return pair[1];
        return NULL;
}

struct cancel *rpc_call_cancel(const struct rpc_call *call)
{
        return call->exchange.cancel;
}

int64_t rpc_call_deadline_ns(const struct rpc_call *call)
{
        return call->exchange.deadline_ns;
}

const char *rpc_call_service_name(const struct rpc_call *call)
{
        return call->service->name;
}

const char *rpc_call_method_name(const struct rpc_call *call)
{
        return call->method->name;
}

int64_t rpc_call_started_ns(const struct rpc_call *call)
{
        return call->started_ns;
}

struct rpc_peer rpc_call_peer(const struct rpc_call *call)
{
        return call->exchange.connection->peer;
}

// NULL and *error set if it is larger than the peer accepts.
static struct rpc_out *pack(const struct rpc_exchange *exchange, const ProtobufCMessage *message, GError **error)
{
        struct rpc_out *out = rpc_out_new(message);
        size_t max = exchange->connection->max_message_bytes;
        if (out->length <= max)
                return out;
        error_fail(error, ERROR_RESOURCE_EXHAUSTED, "grpc: trying to send message larger than max (%zu vs. %zu)",
                out->length, max);
        g_free(out);
        return NULL;
}

static void answer(struct rpc_call *call, struct rpc_out *out, GError *error)
{
        struct rpc_in *request = g_steal_pointer(&call->request);
        rpc_exchange_finish(&call->exchange, out, error);
        rpc_exchange_handled(&call->exchange, request);
        rpc_exchange_unref(&call->exchange);
}

void rpc_call_reply(struct rpc_call *call, const ProtobufCMessage *response)
{
        GError *error = NULL;
        g_assert(response->descriptor == call->method->response);
        struct rpc_out *out = pack(&call->exchange, response, &error);
        answer(call, out, error);
}

void rpc_call_fail(struct rpc_call *call, GError *error)
{
        g_assert(error != NULL);
        answer(call, NULL, error);
}

void rpc_call_fail_with_details(
        struct rpc_call *call, GError *error, struct Google__Protobuf__Any *const *details, size_t n_details)
{
        GoogleRpc__Status status = GOOGLE_RPC__STATUS__INIT;
        g_autofree char *message = g_utf8_make_valid(error->message, -1);
        status.code = (int32_t)error_class(error);
        status.message = message;
        status.details = (struct Google__Protobuf__Any **)details;
        status.n_details = n_details;
        call->exchange.details_length = google_rpc__status__get_packed_size(&status);
        call->exchange.details = g_malloc(call->exchange.details_length);
        google_rpc__status__pack(&status, call->exchange.details);
        rpc_call_fail(call, error);
}

// ---- streams

static void on_open(struct rpc_exchange *exchange)
{
        struct rpc_call *call = call_of(exchange);
        call->state_open = true;
        call->state = call->method->stream->open(stream_of(exchange), call->object);
}

static void on_message(struct rpc_exchange *exchange, struct rpc_in *in)
{
        struct rpc_call *call = call_of(exchange);
        call->method->stream->on_message(call->state, stream_of(exchange), in->message);
        rpc_exchange_handled(exchange, in);
}

static void on_half_close(struct rpc_exchange *exchange)
{
        struct rpc_call *call = call_of(exchange);
        if (call->method->stream->on_half_close != NULL)
                call->method->stream->on_half_close(call->state, stream_of(exchange));
}

static void on_writable(struct rpc_exchange *exchange)
{
        struct rpc_call *call = call_of(exchange);
        if (call->method->stream->on_writable != NULL)
                call->method->stream->on_writable(call->state, stream_of(exchange));
}

static void on_end(struct rpc_exchange *exchange, struct rpc_in **in)
{
        struct rpc_call *call = call_of(exchange);
        const struct rpc_stream_handler *handler = call->method->stream;
        if (!call->state_open)
                return;
        if (rpc_exchange_was_reset(exchange) && handler->on_cancel != NULL)
                handler->on_cancel(call->state, stream_of(exchange));
        handler->close(call->state);
}

static const struct rpc_exchange_events stream_events = {
        .open = on_open,
        .message = on_message,
        .half_close = on_half_close,
        .writable = on_writable,
        .end = on_end,
        .detached = on_detached,
        .destroy = destroy,
};

struct rpc_stream *rpc_stream_ref(struct rpc_stream *stream)
{
        return stream_of(rpc_exchange_ref(&stream->call.exchange));
}

void rpc_stream_unref(struct rpc_stream *stream)
{
        rpc_exchange_unref(&stream->call.exchange);
}

const char *rpc_stream_metadata(const struct rpc_stream *stream, const char *key)
{
        return rpc_call_metadata(&stream->call, key);
}

struct cancel *rpc_stream_cancel(const struct rpc_stream *stream)
{
        return stream->call.exchange.cancel;
}

bool rpc_stream_send(struct rpc_stream *stream, const ProtobufCMessage *message)
{
        struct rpc_exchange *exchange = &stream->call.exchange;
        GError *error = NULL;
        g_assert(message->descriptor == stream->call.method->response);
        struct rpc_out *out = pack(exchange, message, &error);
        if (out != NULL)
                return rpc_exchange_send(exchange, out);
        rpc_exchange_finish(exchange, NULL, error);
        return false;
}

void rpc_stream_finish(struct rpc_stream *stream, GError *error)
{
        rpc_exchange_finish(&stream->call.exchange, NULL, error);
}

void rpc_stream_pause(struct rpc_stream *stream)
{
        rpc_exchange_set_paused(&stream->call.exchange, true);
}

void rpc_stream_resume(struct rpc_stream *stream)
{
        rpc_exchange_set_paused(&stream->call.exchange, false);
}

// ---- from the transport

static const struct rpc_method *find_method(const struct rpc_service *service, const char *name)
{
        for (size_t i = 0; i < service->n_methods; i++)
                if (strcmp(service->methods[i].name, name) == 0)
                        return &service->methods[i];
        return NULL;
}

static struct rpc_call *call_new(struct rpc_connection *connection, const struct rpc_method *method)
{
        bool unary = method->kind == RPC_UNARY;
        struct rpc_call *call = g_malloc0(unary ? sizeof(struct rpc_call) : sizeof(struct rpc_stream));
        call->method = method;
        call->exchange.lane = method->lane;
        call->exchange.cancel = cancel_new();
        rpc_exchange_init(
                &call->exchange, connection, unary ? &unary_events : &stream_events, method->kind, method->request);
        return call;
}

// The client's deadline or the method's own limit, whichever comes first.
static void set_deadline(struct rpc_call *call, int64_t timeout_ns)
{
        struct rpc_exchange *exchange = &call->exchange;
        int64_t limit_ns = call->method->limit_ms * NS_PER_MS;
        if (limit_ns > 0 && (timeout_ns < 0 || timeout_ns > limit_ns)) {
                timeout_ns = limit_ns;
                exchange->limit_ms = call->method->limit_ms;
        }
        if (timeout_ns < 0)
                return;
        exchange->deadline_ns =
                timeout_ns > INT64_MAX - 1 - call->started_ns ? INT64_MAX - 1 : call->started_ns + timeout_ns;
        rpc_exchange_start_timer(exchange);
}

struct rpc_exchange *rpc_call_start(
        struct rpc_connection *connection, const struct rpc_incoming *incoming, GError **error)
{
        AUTO(arena) arena = incoming->arena;
        void *object = NULL;
        const struct rpc_service *service = rpc_server_find(connection->server, connection, incoming->service, &object);
        const struct rpc_method *method = service == NULL ? NULL : find_method(service, incoming->method);
        if (service == NULL)
                return error_fail(error, ERROR_UNIMPLEMENTED, "unknown service %s", incoming->service), NULL;
        if (method == NULL)
                return error_fail(error, ERROR_UNIMPLEMENTED, "unknown method %s for service %s", incoming->method,
                               incoming->service),
                       NULL;
        if (incoming->timeout_ns == 0)
                return error_fail(error, ERROR_DEADLINE_EXCEEDED, "context deadline exceeded"), NULL;

        struct rpc_call *call = call_new(connection, method);
        call->started_ns = clock_monotonic_ns();
        call->service = service;
        call->object = object;
        call->arena = g_steal_pointer(&arena);
        call->metadata = incoming->metadata;
        call->exchange.stream = incoming->stream;
        set_deadline(call, incoming->timeout_ns);
        rpc_calls_add(rpc_server_calls(connection->server), call);
        const struct rpc_server_options *options = rpc_server_options(connection->server);
        if (options->on_call_start != NULL)
                options->on_call_start(options->data, call);
        rpc_exchange_open(&call->exchange);
        return &call->exchange;
}
