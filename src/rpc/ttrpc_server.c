// SPDX-License-Identifier: Apache-2.0
//
// The server side of ttrpc. A stream lives from its Request to its Response (or the closing Data frame); the protocol
// knows no cancellation, so what else ends a call is its timeout or the end of the connection. Frames that are wrong
// are answered on the id that they came with, in Go's words, and the connection goes on.
#include "base/message.h"
#include "rpc/internal.h"
#include "rpc/ttrpc_wire.h"
#include "ttrpc/ttrpc.pb-c.h"

struct ttrpc_stream {
        uint32_t id;
        bool remote_closed;
        struct rpc_exchange *exchange; // the transport's reference
};

struct ttrpc_server {
        struct rpc_connection connection; // first
        struct ttrpc_wire wire;
        GHashTable *streams; // id to struct ttrpc_stream
        uint32_t last_id;
        bool draining;
};

static struct ttrpc_server *server_of(struct rpc_connection *connection)
{
        return (struct ttrpc_server *)connection;
}

// ---- sending

static void send_failure(struct ttrpc_server *server, uint32_t id, const GoogleRpc__Status *status)
{
        Ttrpc__Response response = TTRPC__RESPONSE__INIT;
        response.status = (GoogleRpc__Status *)status;
        size_t n_bytes = ttrpc__response__get_packed_size(&response);
        g_autofree uint8_t *bytes = g_malloc(n_bytes);
        ttrpc__response__pack(&response, bytes);
        struct ttrpc_frame frame = {.stream = id, .type = TTRPC_RESPONSE, .data = bytes, .n_data = n_bytes};
        ttrpc_wire_send(&server->wire, frame, NULL, 0);
}

static void send_status(struct ttrpc_server *server, uint32_t id, int code, const char *message)
{
        GoogleRpc__Status status = GOOGLE_RPC__STATUS__INIT;
        status.code = code;
        g_autofree char *valid = g_utf8_make_valid(message, -1); // Go refuses anything else
        status.message = valid;
        send_failure(server, id, &status);
}

static bool refuse(struct ttrpc_server *server, uint32_t id, enum error_code code, const char *message)
{
        send_status(server, id, (int)code, message);
        return true;
}

static bool server_streams(const struct rpc_exchange *exchange)
{
        return exchange->kind == RPC_SERVER_STREAM || exchange->kind == RPC_BIDI_STREAM;
}

static void send_message(struct ttrpc_server *server, const struct ttrpc_stream *stream, const struct rpc_out *out)
{
        struct ttrpc_frame frame = {.stream = stream->id, .data = out->bytes + RPC_HEADER_ROOM, .n_data = out->length};
        uint8_t prefix[6];
        size_t n_prefix = 0;
        frame.type = server_streams(stream->exchange) ? TTRPC_DATA : TTRPC_RESPONSE;
        if (frame.type == TTRPC_RESPONSE && out->length > 0)
                n_prefix = ttrpc_pack_bytes_field(prefix, 2, out->length);
        if (out->length + n_prefix <= TTRPC_MAX_DATA_BYTES) {
                ttrpc_wire_send(&server->wire, frame, prefix, n_prefix);
                return;
        }
        g_autofree char *text = g_strdup_printf(
                "message length %zu exceed maximum message size of %d", out->length + n_prefix, TTRPC_MAX_DATA_BYTES);
        send_status(server, stream->id, ERROR_RESOURCE_EXHAUSTED, text);
}

static void send_end(struct ttrpc_server *server, const struct ttrpc_stream *stream, bool sent_response)
{
        const struct rpc_exchange *exchange = stream->exchange;
        const GError *status = exchange->status;
        AUTO(arena) arena = arena_new();
        const ProtobufCMessage *detailed = exchange->details == NULL
                                                   ? NULL
                                                   : message_decode(&google_rpc__status__descriptor, exchange->details,
                                                             exchange->details_length, arena, NULL);
        if (status != NULL && detailed != NULL) {
                send_failure(server, stream->id, (const GoogleRpc__Status *)detailed);
        } else if (status != NULL) {
                send_status(server, stream->id, (int)error_class(status), status->message);
        } else if (server_streams(exchange)) {
                struct ttrpc_frame frame = {
                        .stream = stream->id, .type = TTRPC_DATA, .flags = TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA};
                ttrpc_wire_send(&server->wire, frame, NULL, 0);
        } else if (!sent_response) {
                send_status(server, stream->id, ERROR_INTERNAL, "no response");
        }
}

static void send_ready(struct ttrpc_server *server, struct ttrpc_stream *stream)
{
        struct rpc_exchange *exchange = stream->exchange;
        bool sent = false;
        while (!ttrpc_wire_is_full(&server->wire)) {
                struct rpc_out *out = rpc_exchange_take_out(exchange);
                if (out == NULL)
                        break;
                send_message(server, stream, out);
                g_free(out);
                sent = true;
        }
        if (!rpc_exchange_is_sent(exchange))
                return;
        send_end(server, stream, sent);
        g_hash_table_remove(server->streams, GUINT_TO_POINTER(stream->id));
        rpc_exchange_detach(exchange, NULL);
}

// ---- receiving

static const char **copy_metadata(struct arena *arena, const Ttrpc__Request *request)
{
        const char **pairs = arena_array(arena, const char *, request->n_metadata * 2 + 1);
        for (size_t i = 0; i < request->n_metadata; i++) {
                pairs[i * 2] = request->metadata[i]->key;
                pairs[i * 2 + 1] = request->metadata[i]->value;
        }
        return pairs;
}

// The payload of a Request is the first message, for a client that streams only if it is not empty.
static void receive_payload(struct ttrpc_stream *stream, const ProtobufCBinaryData *payload, uint8_t flags)
{
        struct rpc_exchange *exchange = stream->exchange;
        bool client_streams = exchange->kind == RPC_CLIENT_STREAM || exchange->kind == RPC_BIDI_STREAM;
        if (!client_streams || payload->len > 0)
                rpc_exchange_receive(exchange, payload->data, payload->len, payload->len);
        stream->remote_closed = !client_streams || flags & TTRPC_REMOTE_CLOSED;
        if (stream->remote_closed)
                rpc_exchange_peer_half_close(exchange, false);
}

static bool on_request(struct ttrpc_server *server, const struct ttrpc_frame *frame)
{
        if (frame->stream <= server->last_id)
                return refuse(
                        server, frame->stream, ERROR_INVALID_ARGUMENT, "StreamID cannot be re-used and must increment");
        server->last_id = frame->stream;
        AUTO(arena) arena = arena_new();
        g_autoptr(GError) error = NULL;
        const Ttrpc__Request *request = (const Ttrpc__Request *)message_decode(
                &ttrpc__request__descriptor, frame->data, frame->n_data, arena, &error);
        if (request == NULL) {
                g_prefix_error(&error, "unmarshal request error: ");
                return refuse(server, frame->stream, ERROR_INVALID_ARGUMENT, error->message);
        }
        if (server->draining)
                return refuse(server, frame->stream, ERROR_UNAVAILABLE, "ttrpc: server closed");
        if (g_hash_table_size(server->streams) >= rpc_server_options(server->connection.server)->max_streams)
                return refuse(server, frame->stream, ERROR_RESOURCE_EXHAUSTED, "too many concurrent streams");
        struct ttrpc_stream *stream = g_new0(struct ttrpc_stream, 1);
        stream->id = frame->stream;
        ProtobufCBinaryData payload = request->payload;
        struct rpc_incoming incoming = {
                .service = request->service,
                .method = request->method,
                .metadata = copy_metadata(arena, request),
                .timeout_ns = request->timeout_nano == 0 ? -1 : MAX(request->timeout_nano, 0),
                .arena = arena,
                .stream = stream,
        };
        struct arena *kept = g_steal_pointer(&arena); // rpc_call_start takes it; the payload in it is read below
        stream->exchange = rpc_call_start(&server->connection, &incoming, &error);
        if (stream->exchange == NULL) {
                g_free(stream);
                return refuse(server, frame->stream, error_class(error), error->message);
        }
        g_assert(kept != NULL);
        g_hash_table_insert(server->streams, GUINT_TO_POINTER(stream->id), stream);
        receive_payload(stream, &payload, frame->flags);
        return true;
}

static bool on_data(struct ttrpc_server *server, const struct ttrpc_frame *frame)
{
        struct ttrpc_stream *stream = g_hash_table_lookup(server->streams, GUINT_TO_POINTER(frame->stream));
        if (stream == NULL)
                return refuse(server, frame->stream, ERROR_INVALID_ARGUMENT, "StreamID is no longer active");
        bool closes = frame->flags & TTRPC_REMOTE_CLOSED;
        if (stream->remote_closed || (closes && frame->n_data > 0)) {
                rpc_exchange_abort(
                        stream->exchange, g_error_new_literal(SKIFF_ERROR, ERROR_INVALID_ARGUMENT,
                                                  stream->remote_closed ? "data handling error: ttrpc: stream closed"
                                                                        : "data close message cannot include data"));
                return true;
        }
        if (!(frame->flags & TTRPC_NO_DATA))
                rpc_exchange_receive(stream->exchange, frame->data, frame->n_data, frame->n_data);
        if (closes) {
                stream->remote_closed = true;
                rpc_exchange_peer_half_close(stream->exchange, false);
        }
        return true;
}

static bool on_oversize(struct ttrpc_server *server, const struct ttrpc_frame *frame)
{
        g_autofree char *text = g_strdup_printf("message length %zu exceed maximum message size of %zu", frame->n_data,
                server->wire.reader.max_data_bytes);
        struct ttrpc_stream *stream = g_hash_table_lookup(server->streams, GUINT_TO_POINTER(frame->stream));
        if (stream == NULL)
                return refuse(server, frame->stream, ERROR_RESOURCE_EXHAUSTED, text);
        rpc_exchange_abort(stream->exchange, g_error_new_literal(SKIFF_ERROR, ERROR_RESOURCE_EXHAUSTED, text));
        return true;
}

static bool on_frame(void *data, const struct ttrpc_frame *frame)
{
        struct ttrpc_server *server = data;
        if (frame->oversize)
                return on_oversize(server, frame);
        if (frame->type != TTRPC_REQUEST && frame->type != TTRPC_DATA)
                return true;
        if (frame->stream % 2 != 1)
                return refuse(server, frame->stream, ERROR_INVALID_ARGUMENT,
                        "StreamID must be odd for client initiated streams");
        return frame->type == TTRPC_REQUEST ? on_request(server, frame) : on_data(server, frame);
}

// ---- the transport

static void server_open(struct rpc_connection *connection)
{
        ttrpc_wire_start(&server_of(connection)->wire);
}

static void server_close(struct rpc_connection *connection)
{
        struct ttrpc_server *server = server_of(connection);
        if (!ttrpc_wire_is_open(&server->wire))
                return;
        ttrpc_wire_close(&server->wire);
        GHashTableIter iter;
        gpointer value;
        g_hash_table_iter_init(&iter, server->streams);
        while (g_hash_table_iter_next(&iter, NULL, &value))
                rpc_exchange_detach(((struct ttrpc_stream *)value)->exchange, NULL);
        g_hash_table_remove_all(server->streams);
        rpc_connection_closed(connection);
}

static void close_if_drained(struct ttrpc_server *server)
{
        if (server->draining && g_hash_table_size(server->streams) == 0 && server->wire.out == NULL)
                server_close(&server->connection);
}

static void server_ready(struct rpc_connection *connection, struct rpc_exchange *exchange)
{
        rpc_exchange_take_handled(exchange); // ttrpc has no windows
        if (exchange->stream != NULL)
                send_ready(server_of(connection), exchange->stream);
}

static void server_flush(struct rpc_connection *connection)
{
        struct ttrpc_server *server = server_of(connection);
        ttrpc_wire_flush(&server->wire);
        if (ttrpc_wire_is_open(&server->wire))
                close_if_drained(server);
}

static void server_drained(struct rpc_connection *connection)
{
        struct ttrpc_server *server = server_of(connection);
        g_autoptr(GList) streams = g_hash_table_get_values(server->streams);
        for (GList *link = streams; link != NULL; link = link->next)
                send_ready(server, link->data);
        if (server->wire.out != NULL)
                rpc_connection_wake(connection);
}

static void server_drain(struct rpc_connection *connection)
{
        server_of(connection)->draining = true;
        close_if_drained(server_of(connection));
}

static void server_free(struct rpc_connection *connection)
{
        struct ttrpc_server *server = server_of(connection);
        g_hash_table_unref(server->streams);
        rpc_connection_done(connection);
        g_free(server);
}

static const struct rpc_transport transport = {
        .open = server_open,
        .ready = server_ready,
        .flush = server_flush,
        .drain = server_drain,
        .close = server_close,
        .free = server_free,
};

struct rpc_connection *rpc_ttrpc_server_new(struct rpc_server *owner, int fd)
{
        struct ttrpc_server *server = g_new0(struct ttrpc_server, 1);
        struct rpc_connection_options options = rpc_server_connection_options(owner, RPC_TTRPC, &transport);
        rpc_connection_init(&server->connection, &options);
        server->streams = g_hash_table_new_full(NULL, NULL, NULL, g_free);
        ttrpc_wire_open(&server->wire, &server->connection, fd, on_frame, server_drained);
        return &server->connection;
}
