// SPDX-License-Identifier: Apache-2.0
//
// What a client may do wrong, byte by byte, and what it is told. Everything runs on one thread, so that a test can say
// "until nothing moves any more"; what the server wrote is turned into a line: "1 :status=200 grpc-status=0 …; 1 reset
// 8; goaway 11 too_many_pings; closed;".
#include "google/protobuf/any.pb-c.h"
#include "io/loop.h"
#include "rpc/test_service.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <string.h>
#include <sys/socket.h>

enum { DATA = 0, HEADERS = 1, PRIORITY = 2, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW = 8, MORE = 9 };
enum { END_STREAM = 1, END_HEADERS = 4 };
static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct fixture {
        struct loop *loop;
        struct lanes *lanes;
        struct rpc_server *server;
        struct test_service service;
        int fd;
        nghttp2_hd_inflater *inflater;
        GByteArray *received;
        GString *log;
        bool closed;
};

// ---- what the server says

static void log_headers(struct fixture *f, const uint8_t *bytes, size_t length)
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

static void log_frame(struct fixture *f, const uint8_t *head, const uint8_t *payload, size_t length)
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

static void log_frames(struct fixture *f)
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
static bool receive(struct fixture *f)
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

static void settle(struct fixture *f)
{
        for (int quiet = 0; quiet < 5; quiet++) {
                uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
                if (receive(f))
                        quiet = 0;
        }
}

// ---- what the client writes

static void add_frame(GByteArray *bytes, unsigned type, unsigned flags, uint32_t stream, GByteArray *payload)
{
        uint32_t length = payload == NULL ? 0 : payload->len;
        const uint8_t head[9] = {(uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length, (uint8_t)type,
                (uint8_t)flags, (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8),
                (uint8_t)stream};
        g_byte_array_append(bytes, head, sizeof head);
        if (payload != NULL)
                g_byte_array_append(bytes, payload->data, payload->len);
}

static void add_raw_frame(
        GByteArray *bytes, unsigned type, unsigned flags, uint32_t stream, const void *payload, size_t length)
{
        g_autoptr(GByteArray) copy = g_byte_array_new();
        g_byte_array_append(copy, payload, (guint)length);
        add_frame(bytes, type, flags, stream, copy);
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
static GByteArray *block_of(const char *headers)
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

#define GOOD ":method: POST|:scheme: http|:path: /skiff.test.Service/"
#define GRPC "|content-type: application/grpc|te: trailers"
#define ECHO_CALL GOOD "Echo|:authority: localhost" GRPC
#define HOLD_CALL GOOD "Hold|:authority: localhost" GRPC

static void add_request(GByteArray *bytes, uint32_t stream, const char *headers, bool end)
{
        g_autoptr(GByteArray) block = block_of(headers);
        add_frame(bytes, HEADERS, END_HEADERS | (end ? END_STREAM : 0), stream, block);
}

static void add_message(GByteArray *bytes, uint32_t stream, const char *message, size_t length, bool end)
{
        add_raw_frame(bytes, DATA, end ? END_STREAM : 0, stream, message, length);
}

static GByteArray *start(void)
{
        GByteArray *bytes = g_byte_array_new();
        g_byte_array_append(bytes, (const uint8_t *)preface, strlen(preface));
        add_frame(bytes, SETTINGS, 0, 0, NULL);
        return bytes;
}

static void write_all(struct fixture *f, GByteArray *bytes)
{
        size_t sent = 0;
        while (sent < bytes->len && !f->closed) {
                ssize_t n = send(f->fd, bytes->data + sent, bytes->len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n > 0)
                        sent += (size_t)n;
                uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
                receive(f);
        }
        g_byte_array_unref(bytes);
        settle(f);
}

// ---- the fixture

static void connect_server(struct fixture *f)
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

static void disconnect(struct fixture *f)
{
        close(f->fd);
        nghttp2_hd_inflate_del(f->inflater);
        g_byte_array_unref(f->received);
        g_string_free(f->log, TRUE);
}

static void set_up(struct fixture *f, gconstpointer options)
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

static void tear_down(struct fixture *f, gconstpointer options)
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
static void assert_alive(struct fixture *f, uint32_t stream)
{
        g_string_truncate(f->log, 0);
        GByteArray *bytes = g_byte_array_new();
        add_request(bytes, stream, ECHO_CALL, false);
        add_message(bytes, stream, "\0\0\0\0\3\x0a\1a", 8, true);
        write_all(f, bytes);
        g_autofree char *expected =
                g_strdup_printf("%u :status=200; %u data 8; %u grpc-status=0 grpc-message=; ", stream, stream, stream);
        g_assert_cmpstr(f->log->str, ==, expected);
}

static void again(struct fixture *f)
{
        disconnect(f);
        connect_server(f);
}

// ---- requests

static void test_headers_are_judged_as_grpc_go_does(struct fixture *f, gconstpointer data)
{
        static const struct {
                const char *headers, *answer;
        } cases[] = {
                {GOOD "Echo|:authority: /run/x.sock" GRPC, "1 :status=200 grpc-status=2 grpc-message=EOF; "},
                {GOOD "Echo" GRPC, "1 :status=200 grpc-status=2 grpc-message=EOF; "},
                {":method: GET|:scheme: http|:path: /skiff.test.Service/Echo|:authority: localhost" GRPC,
                        "1 :status=405 grpc-status=13 grpc-message=Received a HEADERS frame with :method \"GET\" which "
                        "should be POST; "},
                {GOOD "Echo|content-type: text/html", "1 :status=415 grpc-status=3 grpc-message=invalid gRPC request "
                                                      "content-type \"text/html\"; "},
                {GOOD "Echo|te: trailers",
                        "1 :status=415 grpc-status=3 grpc-message=invalid gRPC request content-type \"\"; "},
                {GOOD "Echo|content-type: application/grpc+proto", "1 :status=200 grpc-status=2 grpc-message=EOF; "},
                {GOOD "Echo|content-type: application/grpcx", "1 :status=415 grpc-status=3 grpc-message=invalid gRPC "
                                                              "request content-type \"application/grpcx\"; "},
                {":method: POST|:scheme: http|:path: x" GRPC,
                        "1 :status=200 grpc-status=12 grpc-message=malformed method name: \"x\" "
                        "grpc-accept-encoding=identity; "},
                {":method: POST|:scheme: http|:path: /x" GRPC,
                        "1 :status=200 grpc-status=12 grpc-message=malformed method name: \"/x\" "
                        "grpc-accept-encoding=identity; "},
                {":method: POST|:scheme: http|:path: /a/b/c" GRPC, "1 :status=200 grpc-status=12 grpc-message=unknown "
                                                                   "service a/b grpc-accept-encoding=identity; "},
                {":method: POST|:scheme: http" GRPC,
                        "1 :status=200 grpc-status=12 grpc-message=malformed method name: \"\" "
                        "grpc-accept-encoding=identity; "},
                {ECHO_CALL "|grpc-encoding: gzip",
                        "1 :status=200 grpc-status=12 grpc-message=grpc: Decompressor is not "
                        "installed for grpc-encoding "
                        "\"gzip\" grpc-accept-encoding=identity; "},
                {ECHO_CALL "|grpc-timeout: 1",
                        "1 :status=400 grpc-status=13 grpc-message=malformed grpc-timeout: transport: "
                        "timeout string is too short: \"1\"; "},
                {ECHO_CALL "|grpc-timeout: 123456789S",
                        "1 :status=400 grpc-status=13 grpc-message=malformed grpc-timeout: "
                        "transport: timeout string is "
                        "too long: \"123456789S\"; "},
                {ECHO_CALL "|grpc-timeout: 1x",
                        "1 :status=400 grpc-status=13 grpc-message=malformed grpc-timeout: transport: "
                        "timeout unit is not recognized: \"1x\"; "},
                {ECHO_CALL "|grpc-timeout: -1S", "1 :status=400 grpc-status=13 grpc-message=malformed grpc-timeout: "
                                                 "strconv.ParseUint: parsing \"-1\": invalid syntax; "},
                {ECHO_CALL "|grpc-timeout: 0S", "1 :status=200 grpc-status=4 grpc-message=context deadline exceeded; "},
                {ECHO_CALL "|x-bin: !",
                        "1 :status=400 grpc-status=13 grpc-message=malformed binary metadata \"!\" in header "
                        "\"x-bin\": illegal base64; "},
                {ECHO_CALL "|host: a|host: b",
                        "1 :status=400 grpc-status=13 grpc-message=num values of host: 2, must only "
                        "have 1 value as per HTTP/2 spec; "},
                {ECHO_CALL "|te: gzip", "1 reset 1; "},
                {ECHO_CALL "|connection: close", "1 reset 1; "},
                {ECHO_CALL "|Upper: x", "1 reset 1; "},
                {ECHO_CALL "|:path: /again/x", "1 reset 1; "},
                {ECHO_CALL "|a\nb: x", "1 reset 1; "},
                {GOOD "Echo|:path: /b/c" GRPC, "1 reset 1; "},
                {GOOD "Echo|:unknown: x" GRPC, "1 reset 1; "},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                GByteArray *bytes = start();
                add_request(bytes, 1, cases[i].headers, true);
                write_all(f, bytes);
                g_assert_cmpstr(f->log->str, ==, cases[i].answer);
                assert_alive(f, 3);
                again(f);
        }
}

static void test_messages_are_checked(struct fixture *f, gconstpointer data)
{
        static const struct {
                const char *message;
                size_t length;
                const char *answer;
        } cases[] = {
                {"\0\0\0\0\0", 5, "1 :status=200; 1 data 5; 1 grpc-status=0 grpc-message=; "},
                {"", 0, "1 :status=200 grpc-status=2 grpc-message=EOF; "},
                {"\0\0\0\0", 4, "1 :status=200 grpc-status=2 grpc-message=unexpected EOF; "},
                {"\0\0\0\0\3\x0a", 6, "1 :status=200 grpc-status=2 grpc-message=unexpected EOF; "},
                {"\0\0\0\0\3\x0a\5a", 8,
                        "1 :status=200 grpc-status=13 grpc-message=grpc: error unmarshalling request: proto: cannot "
                        "parse invalid wire-format data; "},
                {"\0\0\0\0\3\x0a\1\xff", 8,
                        "1 :status=200 grpc-status=13 grpc-message=grpc: error unmarshalling request: string field "
                        "contains invalid UTF-8; "},
                {"\1\0\0\0\0", 5,
                        "1 :status=200 grpc-status=13 grpc-message=grpc: compressed flag set with identity or "
                        "empty encoding; "},
                {"\2\0\0\0\0", 5,
                        "1 :status=200 grpc-status=13 grpc-message=grpc: received unexpected payload format 2; "},
                {"\0\x01\0\0\1", 5,
                        "1 :status=200 grpc-status=8 grpc-message=grpc: received message larger than max "
                        "(16777217 vs. 16777216); "},
                {"\0\xff\xff\xff\xff", 5,
                        "1 :status=200 grpc-status=8 grpc-message=grpc: received message larger than "
                        "max (4294967295 vs. 16777216); "},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                GByteArray *bytes = start();
                add_request(bytes, 1, ECHO_CALL, false);
                add_message(bytes, 1, cases[i].message, cases[i].length, true);
                write_all(f, bytes);
                g_assert_cmpstr(f->log->str, ==, cases[i].answer);
                assert_alive(f, 3);
                again(f);
        }
}

static void test_split_messages_are_put_together(struct fixture *f, gconstpointer data)
{
        const char message[] = "\0\0\0\0\3\x0a\1a\0\0\0\0\0";
        GByteArray *bytes = start();
        add_request(bytes, 1, GOOD "Chat" GRPC, false);
        for (size_t i = 0; i < sizeof message - 1; i++)
                add_message(bytes, 1, message + i, 1, i == sizeof message - 2);
        write_all(f, bytes);
        // Both messages, in one frame or two.
        g_assert_true(g_str_has_prefix(f->log->str, "1 :status=200; 1 data "));
        g_assert_true(g_str_has_suffix(f->log->str, "1 grpc-status=0 grpc-message=; "));
}

static void test_a_message_of_empty_parts_does_not_grow(struct fixture *f, gconstpointer data)
{
        // Unknown fields are kept by protobuf-c, one struct each: two bytes become many.
        const size_t n = 200000;
        GByteArray *bytes = start();
        add_request(bytes, 1, ECHO_CALL, false);
        const uint8_t prefix[5] = {
                0, (uint8_t)(2 * n >> 24), (uint8_t)(2 * n >> 16), (uint8_t)(2 * n >> 8), (uint8_t)(2 * n)};
        add_raw_frame(bytes, DATA, 0, 1, prefix, sizeof prefix);
        write_all(f, bytes);
        uint8_t part[16000];
        for (size_t i = 0; i < sizeof part; i += 2) {
                part[i] = 0x18; // field 3, varint
                part[i + 1] = 0;
        }
        for (size_t sent = 0; sent < 2 * n; sent += sizeof part) {
                bytes = g_byte_array_new();
                add_raw_frame(bytes, DATA, sent + sizeof part == 2 * n ? END_STREAM : 0, 1, part, sizeof part);
                write_all(f, bytes);
        }
        g_assert_nonnull(strstr(f->log->str, "1 :status=200"));
        g_assert_null(strstr(f->log->str, "closed"));
}

// ---- connections

static void test_broken_framing_ends_the_connection(struct fixture *f, gconstpointer data)
{
        static const struct {
                unsigned type, flags;
                uint32_t stream;
                const char *payload;
                size_t length;
                const char *answer;
        } cases[] = {
                {DATA, 0, 0, "x", 1, "goaway 1; closed; "},
                {DATA, 0, 1, "x", 1, "goaway 1; closed; "}, // an idle stream
                {HEADERS, END_HEADERS, 2, "", 0, "goaway 1; closed; "},
                {HEADERS, END_HEADERS, 1, "\xff\xff\xff\xff\xff\xff", 6, "goaway 9; closed; "},
                {SETTINGS, 0, 0, "xyz", 3, "goaway 6; closed; "}, {SETTINGS, 0, 1, "", 0, "goaway 1; closed; "},
                {PING, 0, 0, "short", 5, "goaway 6; closed; "}, {WINDOW, 0, 0, "\0\0\0\0", 4, "goaway 1; closed; "},
                {WINDOW, 0, 0, "\x7f\xff\xff\xff", 4, "goaway 3; closed; "},
                {RST_STREAM, 0, 1, "\0\0\0\0", 4, "goaway 1; closed; "},
                {MORE, END_HEADERS, 1, "", 0, "goaway 1; closed; "}, {PRIORITY, 0, 1, "xx", 2, "goaway 6; closed; "},
                {5, END_HEADERS, 1, "\0\0\0\2", 4, "goaway 1; closed; "}, // PUSH_PROMISE
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                GByteArray *bytes = start();
                add_raw_frame(bytes, cases[i].type, cases[i].flags, cases[i].stream, cases[i].payload, cases[i].length);
                write_all(f, bytes);
                g_assert_cmpstr(f->log->str, ==, cases[i].answer);
                again(f);
        }
}

static void test_wrong_prefaces_are_hung_up_on(struct fixture *f, gconstpointer data)
{
        const char *prefaces[] = {"GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", "\x16\x03\x01\x02"};
        for (size_t i = 0; i < G_N_ELEMENTS(prefaces); i++) {
                GByteArray *bytes = g_byte_array_new();
                g_byte_array_append(bytes, (const uint8_t *)prefaces[i], (guint)strlen(prefaces[i]));
                write_all(f, bytes);
                g_assert_true(g_str_has_suffix(f->log->str, "closed; "));
                again(f);
        }
}

static void test_oversize_frame_ends_the_connection(struct fixture *f, gconstpointer data)
{
        g_autofree char *large = g_malloc0(16385);
        GByteArray *bytes = start();
        add_request(bytes, 1, HOLD_CALL, false);
        add_raw_frame(bytes, DATA, 0, 1, large, 16385);
        write_all(f, bytes);
        g_assert_cmpstr(f->log->str, ==, "goaway 6; closed; ");
}

static void test_unknown_frames_are_ignored(struct fixture *f, gconstpointer data)
{
        GByteArray *bytes = start();
        add_raw_frame(bytes, 0x77, 0xff, 0, "what", 4);
        add_raw_frame(bytes, 0x77, 0xff, 9, "what", 4);
        write_all(f, bytes);
        assert_alive(f, 1);
}

static void test_large_headers_are_refused(struct fixture *f, gconstpointer data)
{
        g_autofree char *value = g_strnfill(7000, 'x');
        g_autofree char *headers = g_strdup_printf(ECHO_CALL "|a: %s|b: %s", value, value);
        GByteArray *bytes = start();
        g_autoptr(GByteArray) block = block_of(headers);
        add_frame(bytes, HEADERS, END_STREAM, 1, block);
        for (int i = 0; i < 6; i++) {
                g_autofree char *more = g_strdup_printf("c: %s|d: %s", value, value);
                g_autoptr(GByteArray) part = block_of(more);
                add_frame(bytes, MORE, i == 5 ? END_HEADERS : 0, 1, part);
        }
        write_all(f, bytes);
        g_assert_cmpstr(f->log->str, ==, "1 reset 6; ");
        assert_alive(f, 3);
}

static void test_endless_header_blocks_are_hung_up_on(struct fixture *f, gconstpointer data)
{
        GByteArray *bytes = start();
        g_autoptr(GByteArray) block = block_of(ECHO_CALL);
        add_frame(bytes, HEADERS, 0, 1, block);
        for (int i = 0; i < 2000; i++)
                add_frame(bytes, MORE, 0, 1, NULL);
        write_all(f, bytes);
        g_assert_true(g_str_has_suffix(f->log->str, "closed; "));
}

static void test_more_than_the_window_is_an_error(struct fixture *f, gconstpointer data)
{
        g_autofree char *part = g_malloc0(16384);
        GByteArray *bytes = start();
        add_request(bytes, 1, GOOD "Stuck" GRPC, false);
        // Small messages, none of which is handled.
        for (int i = 0; i + 5 < 16384; i += 5)
                part[i] = 0;
        for (int i = 0; i < 20; i++)
                add_raw_frame(bytes, DATA, 0, 1, part, 16380);
        write_all(f, bytes);
        g_assert_nonnull(strstr(f->log->str, " 3; ")); // FLOW_CONTROL_ERROR, on the stream or the connection
}

// ---- floods

static void test_reset_flood_is_stopped(struct fixture *f, gconstpointer data)
{
        GByteArray *bytes = start();
        for (uint32_t i = 0; i < 30000; i++) {
                add_request(bytes, 2 * i + 1, HOLD_CALL, false);
                add_message(bytes, 2 * i + 1, "\0\0\0\0\0", 5, true);
                add_raw_frame(bytes, RST_STREAM, 0, 2 * i + 1, "\0\0\0\x8", 4);
        }
        write_all(f, bytes);
        g_assert_true(g_str_has_suffix(f->log->str, "goaway 11 too_many_resets; closed; "));
        g_assert_cmpuint(atomic_load(&f->service.n_held), <, 20000);
}

static void test_ping_flood_is_stopped_as_grpc_go_does(struct fixture *f, gconstpointer data)
{
        GByteArray *bytes = start();
        for (int i = 0; i < 3; i++)
                add_raw_frame(bytes, PING, 0, 0, "12345678", 8);
        write_all(f, bytes);
        g_assert_cmpstr(f->log->str, ==, "");
        bytes = g_byte_array_new();
        add_raw_frame(bytes, PING, 0, 0, "12345678", 8);
        write_all(f, bytes);
        g_assert_cmpstr(f->log->str, ==, "goaway 11 too_many_pings; closed; ");
}

static void test_settings_flood_is_stopped(struct fixture *f, gconstpointer data)
{
        g_autoptr(GByteArray) bytes = start();
        for (int i = 0; i < 200000; i++)
                add_frame(bytes, SETTINGS, 0, 0, NULL);
        // Nothing is read: either the server hangs up, or it stops reading.
        size_t sent = 0;
        for (int stalled = 0; sent < bytes->len && stalled < 10;) {
                ssize_t n = send(f->fd, bytes->data + sent, bytes->len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n < 0 && errno != EAGAIN)
                        break;
                stalled = n > 0 ? 0 : stalled + 1;
                sent += n > 0 ? (size_t)n : 0;
                uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
        }
        g_assert_cmpuint(sent, <, bytes->len);
}

static void test_streams_above_the_limit_are_refused(struct fixture *f, gconstpointer options)
{
        GByteArray *bytes = start();
        for (uint32_t i = 0; i < 6; i++) {
                add_request(bytes, 2 * i + 1, HOLD_CALL, false);
                add_message(bytes, 2 * i + 1, "\0\0\0\0\0", 5, true);
        }
        write_all(f, bytes);
        g_assert_cmpstr(f->log->str, ==, "9 reset 7; 11 reset 7; ");
        g_assert_cmpuint(atomic_load(&f->service.n_held), ==, 4);
}

static void test_incomplete_messages_are_bounded(struct fixture *f, gconstpointer options)
{
        g_autofree char *part = g_malloc0(16000);
        part[3] = 0x3f;
        part[4] = (char)0xff; // 16383 bytes, so that each lacks a few
        GByteArray *bytes = start();
        for (uint32_t i = 0; i < 40; i++) {
                add_request(bytes, 2 * i + 1, ECHO_CALL, false);
                add_message(bytes, 2 * i + 1, part, 16000, false);
        }
        write_all(f, bytes);
        unsigned n = 0;
        for (const char *at = f->log->str; (at = strstr(at, "grpc-status=8")) != NULL; at++)
                n++;
        g_assert_cmpuint(n, >=, 20);
        g_assert_nonnull(strstr(f->log->str, "too many incomplete messages"));
}

static void test_silent_clients_are_pinged(struct fixture *f, gconstpointer options)
{
        write_all(f, start());
        while (f->log->len == 0) {
                uv_run(loop_uv(f->loop), UV_RUN_ONCE);
                receive(f);
        }
        g_assert_cmpstr(f->log->str, ==, "ping; ");
        assert_alive(f, 1);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        static const struct rpc_server_options plain, few_streams = {.max_streams = 4},
                                                      little_memory = {.max_connection_queue_bytes = 256 * 1024};
#define ADD(name, options) g_test_add("/h2_abuse/" #name, struct fixture, &options, set_up, test_##name, tear_down)
        ADD(headers_are_judged_as_grpc_go_does, plain);
        ADD(messages_are_checked, plain);
        ADD(split_messages_are_put_together, plain);
        ADD(a_message_of_empty_parts_does_not_grow, plain);
        ADD(broken_framing_ends_the_connection, plain);
        ADD(wrong_prefaces_are_hung_up_on, plain);
        ADD(oversize_frame_ends_the_connection, plain);
        ADD(unknown_frames_are_ignored, plain);
        ADD(large_headers_are_refused, plain);
        ADD(endless_header_blocks_are_hung_up_on, plain);
        ADD(more_than_the_window_is_an_error, plain);
        ADD(reset_flood_is_stopped, plain);
        ADD(ping_flood_is_stopped_as_grpc_go_does, plain);
        ADD(settings_flood_is_stopped, plain);
        ADD(streams_above_the_limit_are_refused, few_streams);
        ADD(incomplete_messages_are_bounded, little_memory);
        static const struct rpc_server_options impatient = {.keepalive_ms = 30};
        ADD(silent_clients_are_pinged, impatient);
        return g_test_run();
}
