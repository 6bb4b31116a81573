// SPDX-License-Identifier: Apache-2.0
//
// The client's side of gRPC over HTTP/2. A call's status is what the trailers say; where they are missing it is made
// from the HTTP status or the reset's code, by grpc-go's tables. nghttp2 itself holds back requests above the server's
// limit of concurrent streams.
#include "rpc/h2.h"

#include "base/clock.h"
#include "rpc/grpc_text.h"

#include <string.h>

struct h2_response {
        unsigned http_status;
        char *content_type, *status, *message;
};

static void response_free(struct h2_response *response)
{
        if (response == NULL)
                return;
        g_free(response->content_type);
        g_free(response->status);
        g_free(response->message);
        g_free(response);
}

// ---- requests

static nghttp2_nv header(const char *name, const char *value)
{
        return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static GArray *request_headers(const struct rpc_client_stream *call, const char *path, const char *timeout)
{
        GArray *headers = g_array_new(FALSE, FALSE, sizeof(nghttp2_nv));
        const nghttp2_nv fixed[] = {
                header(":method", "POST"),
                header(":scheme", "http"),
                header(":path", path),
                header(":authority", "localhost"),
                header("content-type", "application/grpc"),
                header("user-agent", "skiff"),
                header("te", "trailers"),
        };
        g_array_append_vals(headers, fixed, G_N_ELEMENTS(fixed));
        if (timeout != NULL) {
                nghttp2_nv field = header("grpc-timeout", timeout);
                g_array_append_val(headers, field);
        }
        for (char **pair = call->metadata; pair != NULL && *pair != NULL; pair += 2) {
                nghttp2_nv field = header(pair[0], pair[1]);
                g_array_append_val(headers, field);
        }
        return headers;
}

static GError *unavailable(const char *text)
{
        return g_error_new_literal(SKIFF_ERROR, ERROR_UNAVAILABLE, text);
}

static void start(struct h2_connection *connection, struct rpc_exchange *exchange)
{
        const struct rpc_client_stream *call = (const struct rpc_client_stream *)exchange;
        if (connection->draining || rpc_exchange_was_reset(exchange)) {
                rpc_exchange_detach(exchange, unavailable("the server is draining the connection"));
                return;
        }
        g_autofree char *path = g_strdup_printf("/%s/%s", call->service, call->method);
        g_autofree char *timeout = NULL;
        if (exchange->deadline_ns != INT64_MAX)
                timeout = grpc_format_timeout(MAX(exchange->deadline_ns - clock_monotonic_ns(), 1));
        g_autoptr(GArray) headers = request_headers(call, path, timeout);
        struct h2_stream *stream = h2_stream_new(connection, 0);
        stream->response = g_new0(struct h2_response, 1);
        nghttp2_data_provider provider = h2_message_provider(stream);
        stream->id = nghttp2_submit_request(
                connection->session, NULL, (const nghttp2_nv *)(void *)headers->data, headers->len, &provider, stream);
        if (stream->id < 0) {
                g_clear_pointer(&stream->response, response_free);
                h2_stream_free(stream);
                rpc_exchange_detach(exchange, unavailable("the connection takes no more requests"));
                return;
        }
        stream->headers_sent = true;
        stream->exchange = exchange;
        exchange->stream = stream;
}

static void on_ready(struct rpc_connection *base, struct rpc_exchange *exchange)
{
        struct h2_connection *connection = (struct h2_connection *)base;
        struct h2_stream *stream = exchange->stream;
        if (stream == NULL) {
                if (!exchange->detached)
                        start(connection, exchange);
                return;
        }
        h2_message_give_back(stream);
        if (rpc_exchange_was_reset(exchange)) {
                h2_stream_detach(stream, NULL);
                h2_stream_reset(stream, NGHTTP2_CANCEL);
        } else {
                nghttp2_session_resume_data(connection->session, stream->id); // fails where nothing waits
        }
}

static int on_sent(struct h2_stream *stream, uint32_t *flags)
{
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        stream->ended = true;
        return 0;
}

// ---- responses

static int on_headers_begin(struct h2_stream *stream)
{
        return 0;
}

static int on_header(struct h2_stream *stream, const char *name, const char *value)
{
        struct h2_response *response = stream->response;
        char **field = strcmp(name, "content-type") == 0   ? &response->content_type
                       : strcmp(name, "grpc-status") == 0  ? &response->status
                       : strcmp(name, "grpc-message") == 0 ? &response->message
                                                           : NULL;
        if (strcmp(name, ":status") == 0) {
                response->http_status = (unsigned)g_ascii_strtoull(value, NULL, 10);
        } else if (field != NULL) {
                g_free(*field);
                *field = g_strdup(value);
        }
        return 0;
}

static enum error_code code_of_http(unsigned status)
{
        switch (status) {
        case 400:
                return ERROR_INTERNAL;
        case 401:
                return ERROR_UNAUTHENTICATED;
        case 403:
                return ERROR_PERMISSION_DENIED;
        case 404:
                return ERROR_UNIMPLEMENTED;
        case 429:
        case 502:
        case 503:
        case 504:
                return ERROR_UNAVAILABLE;
        default:
                return ERROR_UNKNOWN;
        }
}

static enum error_code code_of_reset(uint32_t code)
{
        switch (code) {
        case NGHTTP2_FLOW_CONTROL_ERROR:
        case NGHTTP2_ENHANCE_YOUR_CALM:
                return ERROR_RESOURCE_EXHAUSTED;
        case NGHTTP2_REFUSED_STREAM:
                return ERROR_UNAVAILABLE;
        case NGHTTP2_CANCEL:
                return ERROR_CANCELED;
        case NGHTTP2_INADEQUATE_SECURITY:
                return ERROR_PERMISSION_DENIED;
        default:
                return ERROR_INTERNAL;
        }
}

// What the whole answer says. NULL: OK.
static GError *status_of(const struct h2_stream *stream)
{
        const struct h2_response *response = stream->response;
        GError *error = NULL;
        if (response->status != NULL) {
                char *end = NULL;
                guint64 code = g_ascii_strtoull(response->status, &end, 10);
                g_autofree char *message = grpc_decode_message(response->message == NULL ? "" : response->message);
                if (*end != '\0' || end == response->status)
                        error_fail(&error, ERROR_UNKNOWN, "transport: malformed grpc-status: %s", response->status);
                else if (code != 0)
                        error_fail(&error, code <= ERROR_UNAUTHENTICATED ? (enum error_code)code : ERROR_UNKNOWN, "%s",
                                message);
                else if (h2_message_is_incomplete(stream))
                        error_fail(&error, ERROR_INTERNAL, "unexpected EOF");
                return error;
        }
        if (response->http_status != 200)
                error_fail(&error, code_of_http(response->http_status),
                        "unexpected HTTP status code received from server: %u", response->http_status);
        else if (response->content_type == NULL || !grpc_content_type_is_valid(response->content_type))
                error_fail(&error, ERROR_UNKNOWN, "transport: received unexpected content-type \"%s\"",
                        response->content_type == NULL ? "" : response->content_type);
        else
                error_fail(&error, ERROR_INTERNAL, "server closed the stream without sending trailers");
        return error;
}

static void on_end_stream(struct h2_stream *stream)
{
        if (stream->exchange != NULL)
                h2_stream_detach(stream, status_of(stream));
        nghttp2_session *session = stream->connection->session;
        if (nghttp2_session_get_stream_local_close(session, stream->id) == 0)
                h2_stream_reset(stream, NGHTTP2_NO_ERROR);
}

static int on_headers_end(struct h2_stream *stream, bool end_stream)
{
        const struct h2_response *response = stream->response;
        bool is_grpc = response->http_status == 200 && response->content_type != NULL &&
                       grpc_content_type_is_valid(response->content_type);
        if (end_stream) {
                on_end_stream(stream);
        } else if (response->http_status >= 200 && !is_grpc && stream->exchange != NULL) {
                h2_stream_detach(stream, status_of(stream));
                h2_stream_reset(stream, NGHTTP2_CANCEL);
        }
        return 0;
}

static GError *lost(void)
{
        return unavailable("error reading from server: EOF");
}

static void on_close(struct h2_stream *stream, uint32_t error_code)
{
        if (stream->exchange != NULL)
                h2_stream_detach(stream, g_error_new(SKIFF_ERROR, code_of_reset(error_code),
                                                 "stream terminated by RST_STREAM with error code: %s",
                                                 nghttp2_http2_strerror(error_code)));
        g_clear_pointer(&stream->response, response_free);
}

static void on_goaway(struct h2_connection *connection)
{
        connection->draining = true;
}

// ---- the connection

static void drain(struct rpc_connection *base)
{
        ((struct h2_connection *)base)->draining = true;
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
        .on_headers_begin = on_headers_begin,
        .on_header = on_header,
        .on_headers_end = on_headers_end,
        .on_end_stream = on_end_stream,
        .on_close = on_close,
        .on_goaway = on_goaway,
        .lost = lost,
        .on_sent = on_sent,
};

struct rpc_connection *rpc_h2_client_new(const struct rpc_connection_options *options, int fd)
{
        struct rpc_connection_options own = *options;
        own.transport = &transport;
        struct h2_connection *connection = h2_connection_new(&own, fd, &side);
        const nghttp2_settings_entry settings[] = {
                {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW_BYTES},
                {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, RPC_MAX_METADATA_BYTES},
        };
        nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings, G_N_ELEMENTS(settings));
        nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0, H2_CONNECTION_WINDOW_BYTES);
        return &connection->base;
}
