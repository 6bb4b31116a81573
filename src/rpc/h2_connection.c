// SPDX-License-Identifier: Apache-2.0
//
// The pump between a socket and nghttp2's session. An idle connection owns no buffer: bytes are read into and collected
// on the stack, and only what a slow peer's socket did not take is kept, at most one collection of it, since nothing is
// asked of nghttp2 before that is gone. The session is never freed inside of its own callbacks: they mark, and the
// outermost function (a socket event, a flush, a timer) closes.
#include "rpc/h2.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum {
        READ_BYTES = 64 * 1024,
        READS_PER_TURN = 4,
        WRITE_BYTES = 64 * 1024,
        MAX_QUEUED_FRAMES = 2000, // answers that the peer does not read: then we do not read either
        GREETING_MS = 120 * 1000,
        PING_ANSWER_MS = 20 * 1000,
        RESET_BURST = 20000, // nghttp2's own limit, above the server's (h2_server.c)
        RESETS_PER_SECOND = 2000
};

static struct h2_connection *of(struct rpc_connection *connection)
{
        return (struct h2_connection *)connection;
}

// ---- streams

struct h2_stream *h2_stream_new(struct h2_connection *connection, int32_t id)
{
        struct h2_stream *stream = g_new0(struct h2_stream, 1);
        stream->connection = connection;
        stream->id = id;
        stream->next = connection->streams;
        if (stream->next != NULL)
                stream->next->prev = stream;
        connection->streams = stream;
        connection->n_streams++;
        return stream;
}

void h2_stream_detach(struct h2_stream *stream, GError *status)
{
        h2_message_drop(stream);
        struct rpc_exchange *exchange = g_steal_pointer(&stream->exchange);
        if (exchange != NULL)
                rpc_exchange_detach(exchange, status);
        else
                g_clear_error(&status);
}

void h2_stream_free(struct h2_stream *stream)
{
        struct h2_connection *connection = stream->connection;
        g_assert(stream->exchange == NULL && stream->request == NULL && stream->response == NULL);
        if (stream->prev != NULL)
                stream->prev->next = stream->next;
        else
                connection->streams = stream->next;
        if (stream->next != NULL)
                stream->next->prev = stream->prev;
        connection->n_streams--;
        g_free(stream->out);
        g_free(stream);
}

void h2_stream_reset(struct h2_stream *stream, uint32_t error_code)
{
        if (stream->reset)
                return;
        stream->reset = true;
        nghttp2_submit_rst_stream(stream->connection->session, NGHTTP2_FLAG_NONE, stream->id, error_code);
}

// ---- writing

// Keeps what the socket does not take. False: the connection is broken.
static bool send_bytes(struct h2_connection *connection, const uint8_t *bytes, size_t length)
{
        size_t sent = 0;
        while (sent < length && connection->unsent == NULL) {
                ssize_t n = send(connection->fd, bytes + sent, length - sent, MSG_NOSIGNAL);
                if (n >= 0)
                        sent += (size_t)n;
                else if (errno == EAGAIN)
                        break;
                else if (errno != EINTR)
                        return false;
        }
        if (sent == length)
                return true;
        size_t old = connection->unsent_length;
        connection->unsent = g_realloc(connection->unsent, old + length - sent);
        memcpy(connection->unsent + old, bytes + sent, length - sent);
        connection->unsent_length = old + length - sent;
        return true;
}

static bool send_unsent(struct h2_connection *connection)
{
        while (connection->unsent != NULL) {
                ssize_t n = send(connection->fd, connection->unsent + connection->unsent_offset,
                        connection->unsent_length - connection->unsent_offset, MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN;
                connection->unsent_offset += (size_t)n;
                if (connection->unsent_offset == connection->unsent_length) {
                        g_clear_pointer(&connection->unsent, g_free);
                        connection->unsent_length = connection->unsent_offset = 0;
                }
        }
        return true;
}

static bool send_frames(struct h2_connection *connection)
{
        uint8_t buffer[WRITE_BYTES];
        size_t filled = 0;
        while (connection->unsent == NULL) {
                const uint8_t *frame;
                ssize_t length = nghttp2_session_mem_send(connection->session, &frame);
                if (length < 0)
                        return false;
                if (length == 0)
                        break;
                if ((size_t)length > sizeof buffer - filled) {
                        if (!send_bytes(connection, buffer, filled))
                                return false;
                        filled = 0;
                }
                if ((size_t)length > sizeof buffer || connection->unsent != NULL) {
                        if (!send_bytes(connection, frame, (size_t)length))
                                return false;
                } else {
                        memcpy(buffer + filled, frame, (size_t)length);
                        filled += (size_t)length;
                }
        }
        return filled == 0 || send_bytes(connection, buffer, filled);
}

static void watch(struct h2_connection *connection)
{
        bool blocked = connection->unsent != NULL;
        bool choked = blocked && nghttp2_session_get_outbound_queue_size(connection->session) > MAX_QUEUED_FRAMES;
        int events = (choked ? 0 : UV_READABLE) | (blocked ? UV_WRITABLE : 0);
        if (events != connection->watched_events)
                loop_watch_change(connection->watch, events);
        connection->watched_events = events;
}

static void write_out(struct h2_connection *connection)
{
        nghttp2_session *session = connection->session;
        if (!send_unsent(connection) || !send_frames(connection)) {
                h2_connection_close(&connection->base);
                return;
        }
        bool idle = connection->unsent == NULL && nghttp2_session_want_write(session) == 0;
        bool over = connection->ending || nghttp2_session_want_read(session) == 0 ||
                    (connection->draining && connection->n_streams == 0);
        if (idle && over)
                h2_connection_close(&connection->base);
        else
                watch(connection);
}

void h2_connection_flush(struct rpc_connection *base)
{
        struct h2_connection *connection = of(base);
        if (connection->session == NULL)
                return;
        h2_message_retry_waiting(connection);
        if (connection->withheld_bytes > 0 && !rpc_connection_is_over_budget(base)) {
                nghttp2_session_consume_connection(connection->session, connection->withheld_bytes);
                connection->withheld_bytes = 0;
        }
        write_out(connection);
}

// ---- reading

// False: the peer is gone, or not to be talked to any more.
static bool read_socket(struct h2_connection *connection)
{
        uint8_t buffer[READ_BYTES];
        for (int i = 0; i < READS_PER_TURN; i++) {
                ssize_t n = recv(connection->fd, buffer, sizeof buffer, 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return true;
                if (n <= 0)
                        return false;
                connection->last_read_ns = clock_monotonic_ns();
                connection->ping_sent = false;
                if (nghttp2_session_mem_recv(connection->session, buffer, (size_t)n) < 0)
                        return false;
                if ((size_t)n < sizeof buffer)
                        return true;
        }
        return true;
}

static void on_socket(void *data, int events)
{
        struct h2_connection *connection = data;
        bool alive = true;
        if ((events & ~UV_WRITABLE) != 0)
                alive = read_socket(connection);
        if (alive)
                write_out(connection);
        else
                h2_connection_close(&connection->base);
}

// ---- nghttp2's callbacks

static struct h2_stream *find(nghttp2_session *session, int32_t stream_id)
{
        return nghttp2_session_get_stream_user_data(session, stream_id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
        struct h2_connection *connection = data;
        if (frame->hd.type != NGHTTP2_HEADERS)
                return 0;
        struct h2_stream *stream = find(session, frame->hd.stream_id);
        if (stream == NULL && connection->side->is_server && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
                stream = h2_stream_new(connection, frame->hd.stream_id);
                nghttp2_session_set_stream_user_data(session, stream->id, stream);
        }
        if (stream == NULL)
                return 0;
        stream->header_bytes = stream->n_headers = 0;
        return connection->side->on_headers_begin(stream);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name, nghttp2_rcbuf *value,
        uint8_t flags, void *data)
{
        const unsigned overhead = 32; // RFC 9113, section 6.5.2
        struct h2_stream *stream = find(session, frame->hd.stream_id);
        if (stream == NULL)
                return 0;
        nghttp2_vec n = nghttp2_rcbuf_get_buf(name), v = nghttp2_rcbuf_get_buf(value);
        stream->header_bytes += n.len + v.len + overhead;
        if (stream->header_bytes > RPC_MAX_METADATA_BYTES || ++stream->n_headers > H2_MAX_HEADERS) {
                h2_stream_reset(stream, NGHTTP2_FRAME_SIZE_ERROR);
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
        if (memchr(n.base, '\0', n.len) != NULL || memchr(v.base, '\0', v.len) != NULL) {
                h2_stream_reset(stream, NGHTTP2_PROTOCOL_ERROR);
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
        return stream->connection->side->on_header(stream, (const char *)n.base, (const char *)v.base);
}

static int on_data(
        nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *bytes, size_t length, void *data)
{
        struct h2_connection *connection = data;
        struct h2_stream *stream = find(session, stream_id);
        if (stream != NULL)
                h2_message_receive(stream, bytes, length);
        else
                nghttp2_session_consume_stream(session, stream_id, length);
        if (rpc_connection_is_over_budget(&connection->base))
                connection->withheld_bytes += length;
        else
                nghttp2_session_consume_connection(session, length);
        return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
        struct h2_connection *connection = data;
        const struct h2_side *side = connection->side;
        bool end_stream = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
        struct h2_stream *stream = frame->hd.stream_id == 0 ? NULL : find(session, frame->hd.stream_id);
        switch (frame->hd.type) {
        case NGHTTP2_HEADERS:
                return stream == NULL ? 0 : side->on_headers_end(stream, end_stream);
        case NGHTTP2_DATA:
                if (stream != NULL && end_stream)
                        side->on_end_stream(stream);
                return 0;
        case NGHTTP2_SETTINGS:
                connection->greeted = true;
                return 0;
        case NGHTTP2_PING:
                if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0 && side->on_ping != NULL)
                        side->on_ping(connection);
                return 0;
        case NGHTTP2_RST_STREAM:
                if (side->on_reset != NULL)
                        side->on_reset(connection);
                return 0;
        case NGHTTP2_GOAWAY:
                if (side->on_goaway != NULL)
                        side->on_goaway(connection);
                return 0;
        default:
                return 0;
        }
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
        struct h2_connection *connection = data;
        if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
                return 0;
        connection->has_written = true;
        struct h2_stream *stream = find(session, frame->hd.stream_id);
        // A server's last frame before the client's: the rest of the request is not wanted.
        if (connection->side->is_server && stream != NULL && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
                nghttp2_session_get_stream_remote_close(session, stream->id) == 0)
                h2_stream_reset(stream, NGHTTP2_NO_ERROR);
        return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *data)
{
        struct h2_connection *connection = data;
        struct h2_stream *stream = find(session, stream_id);
        if (stream == NULL)
                return 0;
        nghttp2_session_set_stream_user_data(session, stream_id, NULL);
        connection->side->on_close(stream, error_code);
        h2_stream_free(stream);
        return 0;
}

static nghttp2_session_callbacks *callbacks_new(void)
{
        nghttp2_session_callbacks *callbacks = NULL;
        g_assert(nghttp2_session_callbacks_new(&callbacks) == 0);
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
        nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
        return callbacks;
}

// ---- the connection

struct h2_connection *h2_connection_new(
        const struct rpc_connection_options *options, int fd, const struct h2_side *side)
{
        struct h2_connection *connection = g_new0(struct h2_connection, 1);
        rpc_connection_init(&connection->base, options);
        connection->fd = fd;
        connection->side = side;
        nghttp2_session_callbacks *callbacks = callbacks_new();
        nghttp2_option *option = NULL;
        g_assert(nghttp2_option_new(&option) == 0);
        nghttp2_option_set_no_auto_window_update(option, 1);
        nghttp2_option_set_no_closed_streams(option, 1);
#ifdef HAVE_NGHTTP2_RESET_RATE_LIMIT
        nghttp2_option_set_stream_reset_rate_limit(option, RESET_BURST, RESETS_PER_SECOND);
#endif
        int result;
        if (side->is_server) {
                // nghttp2 would refuse a socket's path as :authority, which clients send: h2_request.c checks.
                nghttp2_option_set_no_http_messaging(option, 1);
                result = nghttp2_session_server_new2(&connection->session, callbacks, connection, option);
        } else {
                result = nghttp2_session_client_new2(&connection->session, callbacks, connection, option);
        }
        g_assert(result == 0);
        nghttp2_option_del(option);
        nghttp2_session_callbacks_del(callbacks);
        return connection;
}

static void start_keepalive(struct h2_connection *connection, int64_t delay_ms);

static void on_keepalive(void *data)
{
        struct h2_connection *connection = data;
        connection->keepalive = NULL;
        int64_t idle_ms = (clock_monotonic_ns() - connection->last_read_ns) / NS_PER_MS;
        int64_t ping_ms = connection->greeted ? connection->keepalive_ms : GREETING_MS;
        if (idle_ms < ping_ms) {
                start_keepalive(connection, ping_ms - idle_ms);
        } else if (!connection->greeted || connection->ping_sent) {
                h2_connection_close(&connection->base);
        } else {
                connection->ping_sent = true;
                nghttp2_submit_ping(connection->session, NGHTTP2_FLAG_NONE, NULL);
                start_keepalive(connection, PING_ANSWER_MS);
                write_out(connection);
        }
}

static void start_keepalive(struct h2_connection *connection, int64_t delay_ms)
{
        connection->keepalive = loop_timer_start(connection->base.loop, (uint64_t)delay_ms, on_keepalive, connection);
}

void h2_connection_open(struct rpc_connection *base)
{
        struct h2_connection *connection = of(base);
        connection->watched_events = UV_READABLE;
        connection->watch = loop_watch_start(base->loop, connection->fd, UV_READABLE, on_socket, connection);
        connection->last_read_ns = clock_monotonic_ns();
        if (connection->keepalive_ms > 0)
                start_keepalive(connection, MIN(GREETING_MS, connection->keepalive_ms));
        write_out(connection);
}

void h2_connection_close(struct rpc_connection *base)
{
        struct h2_connection *connection = of(base);
        if (connection->session == NULL)
                return;
        for (struct h2_stream *stream; (stream = connection->streams) != NULL;) {
                nghttp2_session_set_stream_user_data(connection->session, stream->id, NULL);
                h2_stream_detach(stream, connection->side->lost());
                connection->side->on_close(stream, NGHTTP2_INTERNAL_ERROR);
                h2_stream_free(stream);
        }
        nghttp2_session_del(g_steal_pointer(&connection->session));
        g_clear_pointer(&connection->unsent, g_free);
        if (connection->keepalive != NULL)
                loop_timer_stop(g_steal_pointer(&connection->keepalive));
        if (connection->watch != NULL)
                loop_watch_stop(g_steal_pointer(&connection->watch));
        close(connection->fd);
        rpc_connection_closed(base);
}

void h2_connection_free(struct rpc_connection *base)
{
        struct h2_connection *connection = of(base);
        g_assert(connection->session == NULL);
        rpc_connection_done(base);
        g_free(connection);
}
