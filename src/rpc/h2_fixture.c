// SPDX-License-Identifier: Apache-2.0
//
// See h2_fixture.h. nghttp2 is used to read header blocks alone; all that is written is made here.
#include "rpc/h2_fixture.h"

#include "io/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// ---- what the server says

static void log_headers(struct h2_fixture *f, const uint8_t *bytes, size_t length)
{
        while (length > 0) {
                nghttp2_nv nv;
                int flags = 0;
                ssize_t n = nghttp2_hd_inflate_hd2(f->inflater, &nv, &flags, bytes, length, 1);
                g_assert_cmpint(n, >=, 0);
                bytes += n;
                length -= (size_t)n;
                if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0 && strcmp((char *)nv.name, "content-type") != 0)
                        g_string_append_printf(f->log, " %s=%s", nv.name, nv.value);
                if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0)
                        break;
        }
        nghttp2_hd_inflate_end_headers(f->inflater);
}

static uint32_t be32(const uint8_t *bytes)
{
        return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void log_frame(struct h2_fixture *f, const uint8_t *head, const uint8_t *payload, size_t length)
{
        uint32_t stream = be32(head + 5);
        if (head[3] == HEADERS) {
                g_string_append_printf(f->log, "%u", stream);
                log_headers(f, payload, length);
                g_string_append(f->log, "; ");
        } else if (head[3] == DATA) {
                g_string_append_printf(f->log, "%u data %zu; ", stream, length);
        } else if (head[3] == RST_STREAM && be32(payload) != NGHTTP2_NO_ERROR) {
                g_string_append_printf(f->log, "%u reset %u; ", stream, be32(payload));
        } else if (head[3] == PING && head[4] == 0) {
                g_string_append(f->log, "ping; ");
        } else if (head[3] == GOAWAY) {
                g_string_append_printf(f->log, "goaway %u", be32(payload + 4));
                if (length > 8 && be32(payload + 4) == NGHTTP2_ENHANCE_YOUR_CALM)
                        g_string_append_printf(f->log, " %.*s", (int)length - 8, payload + 8);
                g_string_append(f->log, "; ");
        }
}

static void log_frames(struct h2_fixture *f)
{
        GByteArray *bytes = f->received;
        while (bytes->len >= 9) {
                size_t length = be32(bytes->data) >> 8;
                if (bytes->len < 9 + length)
                        return;
                log_frame(f, bytes->data, bytes->data + 9, length);
                g_byte_array_remove_range(bytes, 0, 9 + (guint)length);
        }
}

// True: something came.
bool h2_receive(struct h2_fixture *f)
{
        uint8_t buffer[65536];
        ssize_t n = recv(f->fd, buffer, sizeof buffer, MSG_DONTWAIT);
        if (n > 0) {
                g_byte_array_append(f->received, buffer, (guint)n);
                log_frames(f);
                return true;
        }
        if ((n == 0 || errno == ECONNRESET) && !f->closed) {
                f->closed = true;
                g_string_append(f->log, "closed; ");
        }
        return false;
}

void h2_settle(struct h2_fixture *f)
{
        for (int quiet = 0; quiet < 5; quiet++) {
                uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
                if (h2_receive(f))
                        quiet = 0;
        }
}

// ---- what the client writes

void h2_add_frame(GByteArray *bytes, unsigned type, unsigned flags, uint32_t stream, GByteArray *payload)
{
        uint32_t length = payload == NULL ? 0 : payload->len;
        const uint8_t head[9] = {(uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length, (uint8_t)type,
                (uint8_t)flags, (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8),
                (uint8_t)stream};
        g_byte_array_append(bytes, head, sizeof head);
        if (payload != NULL)
                g_byte_array_append(bytes, payload->data, payload->len);
}

void h2_add_raw_frame(
        GByteArray *bytes, unsigned type, unsigned flags, uint32_t stream, const void *payload, size_t length)
{
        g_autoptr(GByteArray) copy = g_byte_array_new();
        g_byte_array_append(copy, payload, (guint)length);
        h2_add_frame(bytes, type, flags, stream, copy);
}

static void add_text(GByteArray *block, const char *text)
{
        size_t length = strlen(text);
        uint8_t size[4] = {(uint8_t)length};
        unsigned n = 1;
        if (length >= 127) { // RFC 7541, section 5.1
                size[0] = 127;
                for (length -= 127; length >= 128; length >>= 7)
                        size[n++] = (uint8_t)(length % 128 + 128);
                size[n++] = (uint8_t)length;
        }
        g_byte_array_append(block, size, n);
        g_byte_array_append(block, (const uint8_t *)text, (guint)strlen(text));
}

static void add_header(GByteArray *block, const char *name, const char *value)
{
        g_byte_array_append(block, (const uint8_t *)"\0", 1);
        add_text(block, name);
        add_text(block, value);
}

// "name: value|name: value"
GByteArray *h2_block_of(const char *headers)
{
        GByteArray *block = g_byte_array_new();
        g_auto(GStrv) lines = g_strsplit(headers, "|", -1);
        for (char **line = lines; *line != NULL; line++) {
                char *value = strstr(*line, ": ");
                *value = '\0';
                add_header(block, *line, value + 2);
        }
        return block;
}

void h2_add_request(GByteArray *bytes, uint32_t stream, const char *headers, bool end)
{
        g_autoptr(GByteArray) block = h2_block_of(headers);
        h2_add_frame(bytes, HEADERS, END_HEADERS | (end ? END_STREAM : 0), stream, block);
}

void h2_add_message(GByteArray *bytes, uint32_t stream, const char *message, size_t length, bool end)
{
        h2_add_raw_frame(bytes, DATA, end ? END_STREAM : 0, stream, message, length);
}

GByteArray *h2_start(void)
{
        GByteArray *bytes = g_byte_array_new();
        g_byte_array_append(bytes, (const uint8_t *)preface, strlen(preface));
        h2_add_frame(bytes, SETTINGS, 0, 0, NULL);
        return bytes;
}

void h2_write_all(struct h2_fixture *f, GByteArray *bytes)
{
        size_t sent = 0;
        while (sent < bytes->len && !f->closed) {
                ssize_t n = send(f->fd, bytes->data + sent, bytes->len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n > 0)
                        sent += (size_t)n;
                uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
                h2_receive(f);
        }
        g_byte_array_unref(bytes);
        h2_settle(f);
}

// ---- the fixture

static void connect_server(struct h2_fixture *f)
{
        int ends[2];
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), ==, 0);
        rpc_server_add_connection(f->server, RPC_GRPC, ends[0]);
        f->fd = ends[1];
        f->closed = false;
        g_assert_cmpint(nghttp2_hd_inflate_new(&f->inflater), ==, 0);
        f->received = g_byte_array_new();
        f->log = g_string_new(NULL);
}

static void disconnect(struct h2_fixture *f)
{
        close(f->fd);
        nghttp2_hd_inflate_del(f->inflater);
        g_byte_array_unref(f->received);
        g_string_free(f->log, TRUE);
}

void h2_set_up(struct h2_fixture *f, gconstpointer options)
{
        f->loop = loop_new(NULL);
        f->lanes = lanes_new_inline(f->loop);
        f->server = rpc_server_new(f->loop, f->lanes, options);
        rpc_server_add(f->server, &test_service, &f->service, RPC_GRPC);
        connect_server(f);
}

static void set(void *data)
{
        *(bool *)data = true;
}

void h2_tear_down(struct h2_fixture *f, gconstpointer options)
{
        disconnect(f);
        bool drained = false;
        rpc_server_drain(f->server, 1000, set, &drained);
        while (!drained)
                uv_run(loop_uv(f->loop), UV_RUN_ONCE);
        rpc_server_free(f->server);
        lanes_free(f->lanes);
        loop_free(f->loop);
}

// The connection still works.
void h2_assert_alive(struct h2_fixture *f, uint32_t stream)
{
        g_string_truncate(f->log, 0);
        GByteArray *bytes = g_byte_array_new();
        h2_add_request(bytes, stream, ECHO_CALL, false);
        h2_add_message(bytes, stream, "\0\0\0\0\3\x0a\1a", 8, true);
        h2_write_all(f, bytes);
        g_autofree char *expected =
                g_strdup_printf("%u :status=200; %u data 8; %u grpc-status=0 grpc-message=; ", stream, stream, stream);
        g_assert_cmpstr(f->log->str, ==, expected);
}

void h2_again(struct h2_fixture *f)
{
        disconnect(f);
        connect_server(f);
}
