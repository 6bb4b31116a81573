// SPDX-License-Identifier: Apache-2.0
//
// What a client may do wrong, byte by byte, and what it is told.
#include "rpc/h2_fixture.h"

#include "io/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

// ---- requests

static void test_headers_are_judged_as_grpc_go_does(struct h2_fixture *f, gconstpointer data)
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
                GByteArray *bytes = h2_start();
                h2_add_request(bytes, 1, cases[i].headers, true);
                h2_write_all(f, bytes);
                g_assert_cmpstr(f->log->str, ==, cases[i].answer);
                h2_assert_alive(f, 3);
                h2_again(f);
        }
}

static void test_messages_are_checked(struct h2_fixture *f, gconstpointer data)
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
                GByteArray *bytes = h2_start();
                h2_add_request(bytes, 1, ECHO_CALL, false);
                h2_add_message(bytes, 1, cases[i].message, cases[i].length, true);
                h2_write_all(f, bytes);
                g_assert_cmpstr(f->log->str, ==, cases[i].answer);
                h2_assert_alive(f, 3);
                h2_again(f);
        }
}

static void test_split_messages_are_put_together(struct h2_fixture *f, gconstpointer data)
{
        const char message[] = "\0\0\0\0\3\x0a\1a\0\0\0\0\0";
        GByteArray *bytes = h2_start();
        h2_add_request(bytes, 1, GOOD "Chat" GRPC, false);
        for (size_t i = 0; i < sizeof message - 1; i++)
                h2_add_message(bytes, 1, message + i, 1, i == sizeof message - 2);
        h2_write_all(f, bytes);
        // Both messages, in one frame or two.
        g_assert_true(g_str_has_prefix(f->log->str, "1 :status=200; 1 data "));
        g_assert_true(g_str_has_suffix(f->log->str, "1 grpc-status=0 grpc-message=; "));
}

static void test_a_message_of_empty_parts_does_not_grow(struct h2_fixture *f, gconstpointer data)
{
        // Unknown fields are kept by protobuf-c, one struct each: two bytes become many.
        const size_t n = 200000;
        GByteArray *bytes = h2_start();
        h2_add_request(bytes, 1, ECHO_CALL, false);
        const uint8_t prefix[5] = {
                0, (uint8_t)(2 * n >> 24), (uint8_t)(2 * n >> 16), (uint8_t)(2 * n >> 8), (uint8_t)(2 * n)};
        h2_add_raw_frame(bytes, DATA, 0, 1, prefix, sizeof prefix);
        h2_write_all(f, bytes);
        uint8_t part[16000];
        for (size_t i = 0; i < sizeof part; i += 2) {
                part[i] = 0x18; // field 3, varint
                part[i + 1] = 0;
        }
        for (size_t sent = 0; sent < 2 * n; sent += sizeof part) {
                bytes = g_byte_array_new();
                h2_add_raw_frame(bytes, DATA, sent + sizeof part == 2 * n ? END_STREAM : 0, 1, part, sizeof part);
                h2_write_all(f, bytes);
        }
        g_assert_nonnull(strstr(f->log->str, "1 :status=200"));
        g_assert_null(strstr(f->log->str, "closed"));
}

// ---- connections

static void test_broken_framing_ends_the_connection(struct h2_fixture *f, gconstpointer data)
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
                GByteArray *bytes = h2_start();
                h2_add_raw_frame(
                        bytes, cases[i].type, cases[i].flags, cases[i].stream, cases[i].payload, cases[i].length);
                h2_write_all(f, bytes);
                g_assert_cmpstr(f->log->str, ==, cases[i].answer);
                h2_again(f);
        }
}

static void test_wrong_prefaces_are_hung_up_on(struct h2_fixture *f, gconstpointer data)
{
        const char *prefaces[] = {"GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", "\x16\x03\x01\x02"};
        for (size_t i = 0; i < G_N_ELEMENTS(prefaces); i++) {
                GByteArray *bytes = g_byte_array_new();
                g_byte_array_append(bytes, (const uint8_t *)prefaces[i], (guint)strlen(prefaces[i]));
                h2_write_all(f, bytes);
                g_assert_true(g_str_has_suffix(f->log->str, "closed; "));
                h2_again(f);
        }
}

static void test_oversize_frame_ends_the_connection(struct h2_fixture *f, gconstpointer data)
{
        g_autofree char *large = g_malloc0(16385);
        GByteArray *bytes = h2_start();
        h2_add_request(bytes, 1, HOLD_CALL, false);
        h2_add_raw_frame(bytes, DATA, 0, 1, large, 16385);
        h2_write_all(f, bytes);
        g_assert_cmpstr(f->log->str, ==, "goaway 6; closed; ");
}

static void test_unknown_frames_are_ignored(struct h2_fixture *f, gconstpointer data)
{
        GByteArray *bytes = h2_start();
        h2_add_raw_frame(bytes, 0x77, 0xff, 0, "what", 4);
        h2_add_raw_frame(bytes, 0x77, 0xff, 9, "what", 4);
        h2_write_all(f, bytes);
        h2_assert_alive(f, 1);
}

static void test_large_headers_are_refused(struct h2_fixture *f, gconstpointer data)
{
        g_autofree char *value = g_strnfill(7000, 'x');
        g_autofree char *headers = g_strdup_printf(ECHO_CALL "|a: %s|b: %s", value, value);
        GByteArray *bytes = h2_start();
        g_autoptr(GByteArray) block = h2_block_of(headers);
        h2_add_frame(bytes, HEADERS, END_STREAM, 1, block);
        for (int i = 0; i < 6; i++) {
                g_autofree char *more = g_strdup_printf("c: %s|d: %s", value, value);
                g_autoptr(GByteArray) part = h2_block_of(more);
                h2_add_frame(bytes, MORE, i == 5 ? END_HEADERS : 0, 1, part);
        }
        h2_write_all(f, bytes);
        g_assert_cmpstr(f->log->str, ==, "1 reset 6; ");
        h2_assert_alive(f, 3);
}

static void test_endless_header_blocks_are_hung_up_on(struct h2_fixture *f, gconstpointer data)
{
        GByteArray *bytes = h2_start();
        g_autoptr(GByteArray) block = h2_block_of(ECHO_CALL);
        h2_add_frame(bytes, HEADERS, 0, 1, block);
        for (int i = 0; i < 2000; i++)
                h2_add_frame(bytes, MORE, 0, 1, NULL);
        h2_write_all(f, bytes);
        g_assert_true(g_str_has_suffix(f->log->str, "closed; "));
}

static void test_more_than_the_window_is_an_error(struct h2_fixture *f, gconstpointer data)
{
        g_autofree char *part = g_malloc0(16384);
        GByteArray *bytes = h2_start();
        h2_add_request(bytes, 1, GOOD "Stuck" GRPC, false);
        // Small messages, none of which is handled.
        for (int i = 0; i + 5 < 16384; i += 5)
                part[i] = 0;
        for (int i = 0; i < 20; i++)
                h2_add_raw_frame(bytes, DATA, 0, 1, part, 16380);
        h2_write_all(f, bytes);
        g_assert_nonnull(strstr(f->log->str, " 3; ")); // FLOW_CONTROL_ERROR, on the stream or the connection
}

// ---- floods

static void test_reset_flood_is_stopped(struct h2_fixture *f, gconstpointer data)
{
        GByteArray *bytes = h2_start();
        for (uint32_t i = 0; i < 30000; i++) {
                h2_add_request(bytes, 2 * i + 1, HOLD_CALL, false);
                h2_add_message(bytes, 2 * i + 1, "\0\0\0\0\0", 5, true);
                h2_add_raw_frame(bytes, RST_STREAM, 0, 2 * i + 1, "\0\0\0\x8", 4);
        }
        h2_write_all(f, bytes);
        g_assert_true(g_str_has_suffix(f->log->str, "goaway 11 too_many_resets; closed; "));
        g_assert_cmpuint(atomic_load(&f->service.n_held), <, 20000);
}

static void test_ping_flood_is_stopped_as_grpc_go_does(struct h2_fixture *f, gconstpointer data)
{
        GByteArray *bytes = h2_start();
        for (int i = 0; i < 3; i++)
                h2_add_raw_frame(bytes, PING, 0, 0, "12345678", 8);
        h2_write_all(f, bytes);
        g_assert_cmpstr(f->log->str, ==, "");
        bytes = g_byte_array_new();
        h2_add_raw_frame(bytes, PING, 0, 0, "12345678", 8);
        h2_write_all(f, bytes);
        g_assert_cmpstr(f->log->str, ==, "goaway 11 too_many_pings; closed; ");
}

static void test_settings_flood_is_stopped(struct h2_fixture *f, gconstpointer data)
{
        g_autoptr(GByteArray) bytes = h2_start();
        for (int i = 0; i < 200000; i++)
                h2_add_frame(bytes, SETTINGS, 0, 0, NULL);
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

static void test_streams_above_the_limit_are_refused(struct h2_fixture *f, gconstpointer options)
{
        GByteArray *bytes = h2_start();
        for (uint32_t i = 0; i < 6; i++) {
                h2_add_request(bytes, 2 * i + 1, HOLD_CALL, false);
                h2_add_message(bytes, 2 * i + 1, "\0\0\0\0\0", 5, true);
        }
        h2_write_all(f, bytes);
        g_assert_cmpstr(f->log->str, ==, "9 reset 7; 11 reset 7; ");
        g_assert_cmpuint(atomic_load(&f->service.n_held), ==, 4);
}

static void test_incomplete_messages_are_bounded(struct h2_fixture *f, gconstpointer options)
{
        g_autofree char *part = g_malloc0(16000);
        part[3] = 0x3f;
        part[4] = (char)0xff; // 16383 bytes, so that each lacks a few
        GByteArray *bytes = h2_start();
        for (uint32_t i = 0; i < 40; i++) {
                h2_add_request(bytes, 2 * i + 1, ECHO_CALL, false);
                h2_add_message(bytes, 2 * i + 1, part, 16000, false);
        }
        h2_write_all(f, bytes);
        unsigned n = 0;
        for (const char *at = f->log->str; (at = strstr(at, "grpc-status=8")) != NULL; at++)
                n++;
        g_assert_cmpuint(n, >=, 20);
        g_assert_nonnull(strstr(f->log->str, "too many incomplete messages"));
}

static void test_silent_clients_are_pinged(struct h2_fixture *f, gconstpointer options)
{
        h2_write_all(f, h2_start());
        while (f->log->len == 0) {
                uv_run(loop_uv(f->loop), UV_RUN_ONCE);
                h2_receive(f);
        }
        g_assert_cmpstr(f->log->str, ==, "ping; ");
        h2_assert_alive(f, 1);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        static const struct rpc_server_options plain, few_streams = {.max_streams = 4},
                                                      little_memory = {.max_connection_queue_bytes = 256 * 1024};
#define ADD(name, options)                                                                                             \
        g_test_add("/h2_abuse/" #name, struct h2_fixture, &options, h2_set_up, test_##name, h2_tear_down)
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
