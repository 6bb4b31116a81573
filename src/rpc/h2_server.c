// SPDX-License-Identifier: Apache-2.0
//
// The server's side of gRPC over HTTP/2. A unary answer is HEADERS, DATA and trailers, queued together and written at
// once; an error before the first message is one HEADERS frame ("trailers only"), as Go does it. Abuse: calls whose
// handlers still run count as streams although their clients reset them, resets come out of a bucket, and so do pings,
// by grpc-go's rules.
#include "rpc/h2.h"

#include "base/clock.h"
#include "rpc/grpc_text.h"

#include <stdio.h>
#include <string.h>

enum {
        RESET_BURST = 10000,
        RESETS_PER_SECOND = 1000,
        MAX_PING_STRIKES = 2,
        MAX_DETAILS_LENGTH = 2048 // common clients take 8 KiB of headers, of which the message may take most
};
static const int64_t ping_min_ns = 300 * NS_PER_SECOND;       // while there are calls
static const int64_t ping_min_idle_ns = 7200 * NS_PER_SECOND; // else

static nghttp2_nv header(const char *name, const char *value)
{
        return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

// grpc-status, grpc-message as Go sends it (also where it is empty), and the details if there are any.
struct trailer {
        char code[4];
        char *message, *details;
        nghttp2_nv headers[3];
        size_t n;
};

static void trailer_init(struct trailer *trailer, const struct h2_stream *stream, const GError *status)
{
        const struct rpc_exchange *exchange = stream->exchange;
        snprintf(trailer->code, sizeof trailer->code, "%u", status == NULL ? 0 : (unsigned)error_class(status) & 31);
        trailer->message = grpc_encode_message(status == NULL ? "" : status->message);
        trailer->details = NULL;
        trailer->n = 0;
        trailer->headers[trailer->n++] = header("grpc-status", trailer->code);
        trailer->headers[trailer->n++] = header("grpc-message", trailer->message);
        if (status == NULL || exchange == NULL || exchange->details == NULL)
                return;
        trailer->details = g_base64_encode(exchange->details, exchange->details_length);
        trailer->details[strcspn(trailer->details, "=")] = '\0';
        if (strlen(trailer->details) <= MAX_DETAILS_LENGTH)
                trailer->headers[trailer->n++] = header("grpc-status-details-bin", trailer->details);
}

static void trailer_done(struct trailer *trailer)
{
        g_free(trailer->message);
        g_free(trailer->details);
}

// ---- answers

// The whole answer in one HEADERS frame. Takes status.
static void answer_at_once(struct h2_stream *stream, unsigned http_status, GError *status)
{
        char http_code[8];
        snprintf(http_code, sizeof http_code, "%u", http_status);
        struct trailer trailer;
        trailer_init(&trailer, stream, status);
        nghttp2_nv headers[6] = {header(":status", http_code), header("content-type", "application/grpc")};
        size_t n = 2;
        for (size_t i = 0; i < trailer.n; i++)
                headers[n++] = trailer.headers[i];
        if (status != NULL && error_class(status) == ERROR_UNIMPLEMENTED)
                headers[n++] = header("grpc-accept-encoding", "identity");
        stream->headers_sent = stream->ended = stream->deaf = true;
        if (nghttp2_submit_response(stream->connection->session, stream->id, headers, n, NULL) != 0)
                h2_stream_reset(stream, NGHTTP2_INTERNAL_ERROR);
        trailer_done(&trailer);
        g_clear_error(&status);
}

static void begin_messages(struct h2_stream *stream)
{
        const nghttp2_nv headers[] = {
                header(":status", "200"),
                header("content-type", "application/grpc"),
        };
        nghttp2_data_provider provider = h2_message_provider(stream);
        stream->headers_sent = true;
        if (nghttp2_submit_response(
                    stream->connection->session, stream->id, headers, G_N_ELEMENTS(headers), &provider) != 0)
                h2_stream_reset(stream, NGHTTP2_INTERNAL_ERROR);
}

static int on_sent(struct h2_stream *stream, uint32_t *flags)
{
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        g_autoptr(GError) status = stream->exchange == NULL ? NULL : rpc_exchange_copy_status(stream->exchange);
        struct trailer trailer;
        trailer_init(&trailer, stream, status);
        stream->ended = true;
        int result = nghttp2_submit_trailer(stream->connection->session, stream->id, trailer.headers, trailer.n);
        trailer_done(&trailer);
        return result;
}

// The call ended before its time: with its status where the stream's state allows it, else with a reset.
static void abort_stream(struct h2_stream *stream)
{
        nghttp2_session *session = stream->connection->session;
        if (stream->aborted)
                return;
        stream->aborted = true;
        stream->deaf = true;
        if (!stream->headers_sent) {
                answer_at_once(stream, 200, rpc_exchange_copy_status(stream->exchange));
                return;
        }
        bool blocked = nghttp2_session_get_stream_remote_window_size(session, stream->id) <= 0 ||
                       nghttp2_session_get_remote_window_size(session) <= 0;
        if (stream->ended || blocked || (stream->out != NULL && stream->out_offset > 0)) {
                h2_stream_reset(stream, NGHTTP2_CANCEL);
                return;
        }
        g_clear_pointer(&stream->out, g_free);
        nghttp2_session_resume_data(session, stream->id);
}

static void on_ready(struct rpc_connection *base, struct rpc_exchange *exchange)
{
        struct h2_stream *stream = exchange->stream;
        if (stream == NULL)
                return;
        h2_message_give_back(stream);
        if (rpc_exchange_was_reset(exchange)) {
                abort_stream(stream);
        } else if (stream->headers_sent) {
                nghttp2_session_resume_data(stream->connection->session, stream->id); // fails where nothing waits
        } else if (rpc_exchange_has_out(exchange)) {
                begin_messages(stream);
        } else if (rpc_exchange_is_sent(exchange)) {
                answer_at_once(stream, 200, rpc_exchange_copy_status(exchange));
        }
}

// ---- requests

static int on_headers_begin(struct h2_stream *stream)
{
        if (!stream->requested)
                stream->request = h2_request_new();
        return 0;
}

static int on_header(struct h2_stream *stream, const char *name, const char *value)
{
        if (stream->request == NULL || h2_request_add(stream->request, name, value))
                return 0;
        h2_stream_reset(stream, NGHTTP2_PROTOCOL_ERROR);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static bool is_full(struct h2_connection *connection)
{
        uv_mutex_lock(&connection->base.lock);
        bool full = connection->base.n_exchanges >= rpc_server_options(connection->base.server)->max_streams;
        uv_mutex_unlock(&connection->base.lock);
        return full;
}

static void start_call(struct h2_stream *stream)
{
        struct rpc_incoming incoming;
        unsigned http_status = 200;
        GError *error = NULL;
        bool good = h2_request_finish(stream->request, &incoming, &http_status, &error);
        g_clear_pointer(&stream->request, h2_request_free);
        if (good) {
                incoming.stream = stream;
                stream->exchange = rpc_call_start(&stream->connection->base, &incoming, &error);
        }
        if (stream->exchange == NULL)
                answer_at_once(stream, http_status, error);
}

static void on_end_stream(struct h2_stream *stream)
{
        if (stream->exchange != NULL && !stream->deaf)
                rpc_exchange_peer_half_close(stream->exchange, h2_message_is_incomplete(stream));
}

static int on_headers_end(struct h2_stream *stream, bool end_stream)
{
        if (!stream->requested) {
                stream->requested = true;
                if (is_full(stream->connection)) {
                        h2_stream_reset(stream, NGHTTP2_REFUSED_STREAM);
                        return 0;
                }
                start_call(stream);
        }
        if (end_stream)
                on_end_stream(stream);
        return 0;
}

static GError *lost(void)
{
        return g_error_new_literal(SKIFF_ERROR, ERROR_CANCELED, "context canceled");
}

static void on_close(struct h2_stream *stream, uint32_t error_code)
{
        g_clear_pointer(&stream->request, h2_request_free);
        h2_stream_detach(stream, lost());
}

// ---- abuse

static void say_goodbye(struct h2_connection *connection, uint32_t error_code, const char *reason)
{
        nghttp2_session *session = connection->session;
        if (connection->ending)
                return;
        connection->ending = true;
        nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session), error_code,
                (const uint8_t *)reason, strlen(reason));
}

static void on_ping(struct h2_connection *connection)
{
        int64_t now_ns = clock_monotonic_ns();
        int64_t since_ns = now_ns - connection->last_ping_ns;
        bool first = connection->last_ping_ns == 0;
        connection->last_ping_ns = now_ns;
        if (connection->has_written) {
                connection->has_written = false;
                connection->ping_strikes = 0;
                return;
        }
        if (!first && since_ns < (connection->n_streams > 0 ? ping_min_ns : ping_min_idle_ns))
                connection->ping_strikes++;
        if (connection->ping_strikes > MAX_PING_STRIKES)
                say_goodbye(connection, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
}

// A bucket as a point in time: each reset moves it on by what one costs, and it may not run ahead by more than a burst.
static void on_reset(struct h2_connection *connection)
{
        const int64_t cost_ns = NS_PER_SECOND / RESETS_PER_SECOND;
        int64_t now_ns = clock_monotonic_ns();
        connection->reset_tokens_ns = MAX(connection->reset_tokens_ns, now_ns) + cost_ns;
        if (connection->reset_tokens_ns - now_ns > RESET_BURST * cost_ns)
                say_goodbye(connection, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_resets");
}

// ---- the connection

// A call without a deadline may take any time (Wait, Transfer): nobody would be served by waiting for it.
static bool is_waited_for(const struct rpc_exchange *exchange)
{
        uv_mutex_lock(&exchange->connection->lock);
        bool is_answered = exchange->kind == RPC_UNARY && exchange->finished;
        uv_mutex_unlock(&exchange->connection->lock);
        return is_answered || (exchange->kind == RPC_UNARY && exchange->deadline_ns != INT64_MAX);
}

static void drain(struct rpc_connection *base)
{
        struct h2_connection *connection = (struct h2_connection *)base;
        if (connection->session == NULL)
                return;
        if (!connection->greeted) {
                h2_connection_close(base);
                return;
        }
        connection->draining = true;
        nghttp2_session *session = connection->session;
        nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session),
                NGHTTP2_NO_ERROR, NULL, 0);
        for (struct h2_stream *stream = connection->streams; stream != NULL; stream = stream->next)
                if (stream->exchange != NULL && !is_waited_for(stream->exchange))
                        rpc_exchange_abort(stream->exchange,
                                g_error_new_literal(SKIFF_ERROR, ERROR_UNAVAILABLE, "transport is closing"));
        h2_connection_flush(base);
}

static const struct rpc_transport transport = {
        .open = h2_connection_open,
        .ready = on_ready,
        .flush = h2_connection_flush,
        .drain = drain,
        .close = h2_connection_close,
        .free = h2_connection_free,
};

static const struct h2_side side = {
        .is_server = true,
        .on_headers_begin = on_headers_begin,
        .on_header = on_header,
        .on_headers_end = on_headers_end,
        .on_end_stream = on_end_stream,
        .on_close = on_close,
        .on_ping = on_ping,
        .on_reset = on_reset,
        .lost = lost,
        .on_sent = on_sent,
};

struct rpc_connection *rpc_h2_server_new(struct rpc_server *server, int fd)
{
        struct rpc_connection_options options = rpc_server_connection_options(server, RPC_GRPC, &transport);
        struct h2_connection *connection = h2_connection_new(&options, fd, &side);
        connection->keepalive_ms = rpc_server_options(server)->keepalive_ms;
        const nghttp2_settings_entry settings[] = {
                {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, rpc_server_options(server)->max_streams},
                {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW_BYTES},
                {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, RPC_MAX_METADATA_BYTES},
        };
        nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings, G_N_ELEMENTS(settings));
        nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0, H2_CONNECTION_WINDOW_BYTES);
        return &connection->base;
}
