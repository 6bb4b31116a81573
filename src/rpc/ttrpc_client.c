// SPDX-License-Identifier: Apache-2.0
//
// The client side of ttrpc. Ids are taken when the Request is written, so they rise on the wire by themselves. There is
// no cancellation: a call that is given up is forgotten here, and what still comes for it is dropped.
#include "rpc/internal.h"
#include "rpc/ttrpc_wire.h"
#include "ttrpc/ttrpc.pb-c.h"

#include "base/clock.h"
#include "base/message.h"

struct ttrpc_call {
        uint32_t id;
        bool closed_sent;
        struct rpc_client_stream *stream; // the transport's reference
};

struct ttrpc_client {
        struct rpc_connection connection; // first
        struct ttrpc_wire wire;
        GHashTable *calls; // id to struct ttrpc_call
        uint32_t next_id;
};

static struct ttrpc_client *client_of(struct rpc_connection *connection)
{
        return (struct ttrpc_client *)connection;
}

static bool client_streams(const struct rpc_exchange *exchange)
{
        return exchange->kind == RPC_CLIENT_STREAM || exchange->kind == RPC_BIDI_STREAM;
}

static void end_call(struct ttrpc_client *client, struct ttrpc_call *call, GError *status)
{
        struct rpc_exchange *exchange = &call->stream->exchange;
        g_hash_table_remove(client->calls, GUINT_TO_POINTER(call->id));
        rpc_exchange_detach(exchange, status);
}

static GError *too_long(size_t n_bytes, size_t max_bytes)
{
        return g_error_new(SKIFF_ERROR, ERROR_RESOURCE_EXHAUSTED,
                "message length %zu exceed maximum message size of %zu", n_bytes, max_bytes);
}

// ---- sending

static void fill_metadata(Ttrpc__Request *request, struct arena *arena, char *const *pairs)
{
        size_t n = 0;
        while (pairs != NULL && pairs[n * 2] != NULL)
                n++;
        request->metadata = arena_array(arena, Ttrpc__KeyValue *, n + 1);
        request->n_metadata = n;
        for (size_t i = 0; i < n; i++) {
                request->metadata[i] = arena_new0(arena, Ttrpc__KeyValue);
                ttrpc__key_value__init(request->metadata[i]);
                request->metadata[i]->key = pairs[i * 2];
                request->metadata[i]->value = pairs[i * 2 + 1];
        }
}

// The Request, its payload apart: [service, method, timeout, metadata, tag and length of payload], then the payload.
// False: too long.
static bool send_request(struct ttrpc_client *client, const struct ttrpc_call *call, const struct rpc_out *out)
{
        struct rpc_client_stream *stream = call->stream;
        AUTO(arena) arena = arena_new();
        Ttrpc__Request request = TTRPC__REQUEST__INIT;
        request.service = stream->service;
        request.method = stream->method;
        if (stream->exchange.deadline_ns != INT64_MAX)
                request.timeout_nano = MAX(stream->exchange.deadline_ns - clock_monotonic_ns(), 1);
        fill_metadata(&request, arena, stream->metadata);
        size_t n_head = ttrpc__request__get_packed_size(&request), n_payload = out != NULL ? out->length : 0;
        uint8_t *head = arena_alloc(arena, n_head + 6);
        ttrpc__request__pack(&request, head);
        if (n_payload > 0)
                n_head += ttrpc_pack_bytes_field(head + n_head, 3, n_payload);
        if (n_head + n_payload > TTRPC_MAX_DATA_BYTES)
                return false;
        struct ttrpc_frame frame = {
                .stream = call->id,
                .type = TTRPC_REQUEST,
                .flags = client_streams(&stream->exchange)            ? TTRPC_REMOTE_OPEN
                         : stream->exchange.kind == RPC_SERVER_STREAM ? TTRPC_REMOTE_CLOSED
                                                                      : 0,
                .data = out != NULL ? out->bytes + RPC_HEADER_ROOM : NULL,
                .n_data = n_payload,
        };
        ttrpc_wire_send(&client->wire, frame, head, n_head);
        return true;
}

// Writes the Request. NULL: not yet, or failed.
static struct ttrpc_call *start_call(struct ttrpc_client *client, struct rpc_client_stream *stream)
{
        struct rpc_exchange *exchange = &stream->exchange;
        struct rpc_out *out = NULL;
        if (!client_streams(exchange) && (out = rpc_exchange_take_out(exchange)) == NULL)
                return NULL;
        struct ttrpc_call *call = g_new0(struct ttrpc_call, 1);
        call->id = client->next_id;
        call->stream = stream;
        bool sent = client->next_id < UINT32_MAX - 2 && send_request(client, call, out);
        size_t n_bytes = out != NULL ? out->length : 0;
        g_free(out);
        if (!sent) {
                g_free(call);
                rpc_exchange_detach(exchange, too_long(n_bytes, TTRPC_MAX_DATA_BYTES));
                return NULL;
        }
        client->next_id += 2;
        g_hash_table_insert(client->calls, GUINT_TO_POINTER(call->id), call);
        exchange->stream = call;
        rpc_exchange_start_timer(exchange);
        return call;
}

// False: the call is over.
static bool send_data(struct ttrpc_client *client, struct ttrpc_call *call)
{
        struct rpc_exchange *exchange = &call->stream->exchange;
        while (!ttrpc_wire_is_full(&client->wire)) {
                struct rpc_out *out = rpc_exchange_take_out(exchange);
                if (out == NULL)
                        break;
                struct ttrpc_frame frame = {.stream = call->id,
                        .type = TTRPC_DATA,
                        .data = out->bytes + RPC_HEADER_ROOM,
                        .n_data = out->length};
                size_t n_bytes = out->length;
                if (n_bytes <= TTRPC_MAX_DATA_BYTES)
                        ttrpc_wire_send(&client->wire, frame, NULL, 0);
                g_free(out);
                if (n_bytes > TTRPC_MAX_DATA_BYTES) {
                        end_call(client, call, too_long(n_bytes, TTRPC_MAX_DATA_BYTES));
                        return false;
                }
        }
        return true;
}

static void send_ready(struct ttrpc_client *client, struct ttrpc_call *call)
{
        struct rpc_exchange *exchange = &call->stream->exchange;
        if (!client_streams(exchange) || !send_data(client, call))
                return;
        if (call->closed_sent || !rpc_exchange_is_sent(exchange))
                return;
        call->closed_sent = true;
        struct ttrpc_frame frame = {
                .stream = call->id, .type = TTRPC_DATA, .flags = TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA};
        ttrpc_wire_send(&client->wire, frame, NULL, 0);
}

// ---- receiving

static void on_response(struct ttrpc_client *client, struct ttrpc_call *call, const struct ttrpc_frame *frame)
{
        AUTO(arena) arena = arena_new();
        GError *error = NULL;
        const Ttrpc__Response *response = (const Ttrpc__Response *)message_decode(
                &ttrpc__response__descriptor, frame->data, frame->n_data, arena, &error);
        if (response == NULL) {
                g_prefix_error(&error, "ttrpc: ");
        } else if (response->status != NULL && response->status->code != 0) {
                int code = response->status->code;
                bool known = code > 0 && code <= ERROR_UNAUTHENTICATED;
                error = g_error_new_literal(SKIFF_ERROR, known ? code : ERROR_UNKNOWN, response->status->message);
        } else if (call->stream->exchange.kind != RPC_SERVER_STREAM && call->stream->exchange.kind != RPC_BIDI_STREAM) {
                rpc_exchange_receive(
                        &call->stream->exchange, response->payload.data, response->payload.len, response->payload.len);
        }
        end_call(client, call, error);
}

static void on_data(struct ttrpc_client *client, struct ttrpc_call *call, const struct ttrpc_frame *frame)
{
        struct rpc_exchange *exchange = &call->stream->exchange;
        if (exchange->kind != RPC_SERVER_STREAM && exchange->kind != RPC_BIDI_STREAM) {
                end_call(client, call, g_error_new_literal(SKIFF_ERROR, ERROR_INTERNAL, "ttrpc: unexpected data"));
                return;
        }
        if (!(frame->flags & TTRPC_NO_DATA))
                rpc_exchange_receive(exchange, frame->data, frame->n_data, frame->n_data);
        if (frame->flags & TTRPC_REMOTE_CLOSED)
                end_call(client, call, NULL);
}

static bool on_frame(void *data, const struct ttrpc_frame *frame)
{
        struct ttrpc_client *client = data;
        struct ttrpc_call *call = g_hash_table_lookup(client->calls, GUINT_TO_POINTER(frame->stream));
        if (call == NULL)
                return true;
        if (frame->oversize)
                end_call(client, call, too_long(frame->n_data, client->wire.reader.max_data_bytes));
        else if (frame->type == TTRPC_RESPONSE)
                on_response(client, call, frame);
        else if (frame->type == TTRPC_DATA)
                on_data(client, call, frame);
        return true;
}

// ---- the transport

static void client_open(struct rpc_connection *connection)
{
        ttrpc_wire_start(&client_of(connection)->wire);
}

static void client_ready(struct rpc_connection *connection, struct rpc_exchange *exchange)
{
        struct ttrpc_client *client = client_of(connection);
        struct rpc_client_stream *stream = (struct rpc_client_stream *)exchange;
        rpc_exchange_take_handled(exchange);
        struct ttrpc_call *call = exchange->stream;
        if (exchange->detached)
                return; // over; a half close that comes late must not begin it again
        if (rpc_exchange_was_reset(exchange)) {
                if (call != NULL)
                        end_call(client, call, NULL);
                else
                        rpc_exchange_detach(exchange, NULL);
                return;
        }
        if (call == NULL)
                call = start_call(client, stream);
        if (call != NULL)
                send_ready(client, call);
}

static void client_flush(struct rpc_connection *connection)
{
        ttrpc_wire_flush(&client_of(connection)->wire);
}

static void client_drained(struct rpc_connection *connection)
{
        struct ttrpc_client *client = client_of(connection);
        g_autoptr(GList) calls = g_hash_table_get_values(client->calls);
        for (GList *link = calls; link != NULL; link = link->next)
                send_ready(client, link->data);
        if (client->wire.out != NULL)
                rpc_connection_wake(connection);
}

static void client_close(struct rpc_connection *connection)
{
        struct ttrpc_client *client = client_of(connection);
        if (!ttrpc_wire_is_open(&client->wire))
                return;
        ttrpc_wire_close(&client->wire);
        g_autoptr(GList) calls = g_hash_table_get_values(client->calls);
        for (GList *link = calls; link != NULL; link = link->next)
                end_call(client, link->data, rpc_error_closed());
        rpc_connection_closed(connection);
}

static void client_free(struct rpc_connection *connection)
{
        struct ttrpc_client *client = client_of(connection);
        g_hash_table_unref(client->calls);
        rpc_connection_done(connection);
        g_free(client);
}

static const struct rpc_transport transport = {
        .open = client_open,
        .ready = client_ready,
        .flush = client_flush,
        .drain = client_close,
        .close = client_close,
        .free = client_free,
};

struct rpc_connection *rpc_ttrpc_client_new(const struct rpc_connection_options *given, int fd)
{
        struct ttrpc_client *client = g_new0(struct ttrpc_client, 1);
        struct rpc_connection_options options = *given;
        options.transport = &transport;
        rpc_connection_init(&client->connection, &options);
        client->calls = g_hash_table_new_full(NULL, NULL, NULL, g_free);
        client->next_id = 1;
        ttrpc_wire_open(&client->wire, &client->connection, fd, on_frame, client_drained);
        return &client->connection;
}
