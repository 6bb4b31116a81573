// SPDX-License-Identifier: Apache-2.0
//
// What a server may do wrong, byte by byte, and how the client's calls end. The other end of the client's socket is the
// test's: it reads until the request is there and writes what the case says.
#include "rpc/h2_fixture.h"

#include "google/protobuf/any.pb-c.h"
#include "io/loop.h"
#include "rpc/client.h"

#include <string.h>
#include <sys/socket.h>

struct fixture {
        struct loop *loop;
        struct rpc_client *client;
        int fd;
        GString *log;
        unsigned n_ended, n_closed;
};

static void on_closed(void *data)
{
        ((struct fixture *)data)->n_closed++;
}

static void connect_client(struct fixture *f)
{
        int ends[2];
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), ==, 0);
        const struct rpc_client_options options = {.max_message_bytes = 1000, .on_closed = on_closed, .data = f};
        f->client = rpc_client_new(f->loop, RPC_GRPC, ends[0], &options);
        f->fd = ends[1];
        f->n_ended = f->n_closed = 0;
        g_string_truncate(f->log, 0);
}

static void disconnect(struct fixture *f)
{
        rpc_client_unref(f->client);
        if (f->fd >= 0)
                close(f->fd);
        for (int i = 0; i < 4; i++)
                uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
}

static void set_up(struct fixture *f, gconstpointer data)
{
        f->loop = loop_new(NULL);
        f->log = g_string_new(NULL);
        connect_client(f);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
        disconnect(f);
        g_string_free(f->log, TRUE);
        loop_free(f->loop);
}

static void on_done(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct fixture *f = data;
        f->n_ended++;
        if (error != NULL)
                g_string_append_printf(f->log, "%d %s;", error->code, error->message);
        else
                g_string_append_printf(f->log, "%s;", ((const Google__Protobuf__Any *)response)->type_url);
}

static void begin_call(struct fixture *f)
{
        Google__Protobuf__Any message = GOOGLE__PROTOBUF__ANY__INIT;
        const struct rpc_request request = {.service = "S",
                .method = "M",
                .message = &message.base,
                .response = &google__protobuf__any__descriptor};
        rpc_client_call(f->client, &request, on_done, f);
}

// Lets the loop run until nothing moves any more; what the client writes is dropped.
static void settle(struct fixture *f)
{
        for (int quiet = 0; quiet < 5; quiet++) {
                uint8_t buffer[4096];
                uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
                if (f->fd >= 0 && recv(f->fd, buffer, sizeof buffer, 0) > 0)
                        quiet = 0;
        }
}

static void write_all(struct fixture *f, GByteArray *bytes)
{
        g_assert_cmpint(send(f->fd, bytes->data, bytes->len, MSG_NOSIGNAL), ==, bytes->len);
        g_byte_array_unref(bytes);
        settle(f);
}

static void wait_for_end(struct fixture *f, unsigned n)
{
        while (f->n_ended < n)
                uv_run(loop_uv(f->loop), UV_RUN_ONCE);
}

#define OK_HEADERS ":status: 200|content-type: application/grpc"
#define GOOD_MESSAGE "\0\0\0\0\3\x0a\1a"
#define GOOD_LENGTH 8

struct answer {
        const char *headers, *message;
        size_t length;
        const char *trailers; // NULL: none; the end comes with what is before
        const char *outcome;
};

static GByteArray *bytes_of(const struct answer *answer)
{
        GByteArray *bytes = g_byte_array_new();
        h2_add_frame(bytes, SETTINGS, 0, 0, NULL);
        bool only_headers = answer->message == NULL && answer->trailers == NULL;
        h2_add_request(bytes, 1, answer->headers, only_headers);
        if (answer->message != NULL)
                h2_add_message(bytes, 1, answer->message, answer->length, answer->trailers == NULL);
        if (answer->trailers != NULL)
                h2_add_request(bytes, 1, answer->trailers, true);
        return bytes;
}

static void test_answers_are_judged_as_grpc_go_does(struct fixture *f, gconstpointer data)
{
        static const struct answer cases[] = {
                {OK_HEADERS, GOOD_MESSAGE, GOOD_LENGTH, "grpc-status: 0", "a;"},
                {OK_HEADERS, GOOD_MESSAGE, GOOD_LENGTH, "grpc-status: 0|grpc-message: ", "a;"},
                {":status: 200|content-type: application/grpc+proto", GOOD_MESSAGE, GOOD_LENGTH, "grpc-status: 0",
                        "a;"},
                {OK_HEADERS "|grpc-status: 5|grpc-message: 50%25 %C3%A4%zz", NULL, 0, NULL, "5 50% ä%zz;"},
                {OK_HEADERS "|grpc-status: 7", NULL, 0, NULL, "7 ;"},
                {OK_HEADERS, GOOD_MESSAGE, GOOD_LENGTH, "grpc-status: 9|grpc-message: late", "9 late;"},
                {OK_HEADERS "|grpc-status: 99|grpc-message: new", NULL, 0, NULL, "2 new;"},
                {OK_HEADERS "|grpc-status: x", NULL, 0, NULL, "2 transport: malformed grpc-status: x;"},
                {OK_HEADERS "|grpc-status: ", NULL, 0, NULL, "2 transport: malformed grpc-status: ;"},
                {OK_HEADERS, GOOD_MESSAGE, GOOD_LENGTH, NULL, "13 server closed the stream without sending trailers;"},
                {OK_HEADERS, NULL, 0, "other: x", "13 server closed the stream without sending trailers;"},
                {":status: 503", NULL, 0, NULL, "14 unexpected HTTP status code received from server: 503;"},
                {":status: 404|content-type: text/html", "no", 2, NULL,
                        "12 unexpected HTTP status code received from server: 404;"},
                {":status: 200|content-type: text/html", "hello", 5, NULL,
                        "2 transport: received unexpected content-type \"text/html\";"},
                {OK_HEADERS, NULL, 0, "grpc-status: 0",
                        "13 cardinality violation: received no response message from non-server-streaming RPC;"},
                {OK_HEADERS, GOOD_MESSAGE GOOD_MESSAGE, 2 * GOOD_LENGTH, "grpc-status: 0",
                        "13 cardinality violation: expected <EOF> for non server-streaming RPCs, but received another "
                        "message;"},
                {OK_HEADERS, GOOD_MESSAGE, GOOD_LENGTH - 1, "grpc-status: 0", "13 unexpected EOF;"},
                {OK_HEADERS, "\1" GOOD_MESSAGE, GOOD_LENGTH, "grpc-status: 0",
                        "13 grpc: compressed flag set with identity or empty encoding;"},
                {OK_HEADERS, "\0\0\0\3\xe9", 5, "grpc-status: 0",
                        "8 grpc: received message larger than max (1001 vs. 1000);"},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                begin_call(f);
                settle(f);
                write_all(f, bytes_of(&cases[i]));
                wait_for_end(f, 1);
                g_assert_cmpstr(f->log->str, ==, cases[i].outcome);
                disconnect(f);
                connect_client(f);
        }
}

static void test_a_message_that_is_none_fails_its_call(struct fixture *f, gconstpointer data)
{
        const struct answer wrong = {OK_HEADERS, "\0\0\0\0\3\x0a\7a", 8, "grpc-status: 0", NULL};
        begin_call(f);
        settle(f);
        write_all(f, bytes_of(&wrong));
        wait_for_end(f, 1);
        g_assert_true(g_str_has_prefix(f->log->str, "13 "));
        g_assert_false(rpc_client_is_closed(f->client));
}

static void test_provisional_headers_are_passed_over(struct fixture *f, gconstpointer data)
{
        begin_call(f);
        settle(f);
        GByteArray *bytes = g_byte_array_new();
        h2_add_frame(bytes, SETTINGS, 0, 0, NULL);
        h2_add_request(bytes, 1, ":status: 103|link: x", false);
        h2_add_request(bytes, 1, OK_HEADERS, false);
        h2_add_message(bytes, 1, GOOD_MESSAGE, GOOD_LENGTH, false);
        h2_add_request(bytes, 1, "grpc-status: 0", true);
        write_all(f, bytes);
        g_assert_cmpstr(f->log->str, ==, "a;");
}

static void test_resets_become_codes(struct fixture *f, gconstpointer data)
{
        static const struct {
                uint32_t reset;
                enum error_code code;
        } cases[] = {
                {NGHTTP2_REFUSED_STREAM, ERROR_UNAVAILABLE},
                {NGHTTP2_CANCEL, ERROR_CANCELED},
                {NGHTTP2_ENHANCE_YOUR_CALM, ERROR_RESOURCE_EXHAUSTED},
                {NGHTTP2_INTERNAL_ERROR, ERROR_INTERNAL},
                {NGHTTP2_NO_ERROR, ERROR_INTERNAL},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                begin_call(f);
                settle(f);
                const uint8_t code[4] = {0, 0, 0, (uint8_t)cases[i].reset};
                GByteArray *bytes = g_byte_array_new();
                h2_add_frame(bytes, SETTINGS, 0, 0, NULL);
                h2_add_raw_frame(bytes, RST_STREAM, 0, 1, code, sizeof code);
                write_all(f, bytes);
                wait_for_end(f, 1);
                g_autofree char *expected = g_strdup_printf("%d stream terminated by RST_STREAM", cases[i].code);
                g_assert_true(g_str_has_prefix(f->log->str, expected));
                disconnect(f);
                connect_client(f);
        }
}

static void test_a_connection_that_ends_fails_its_calls(struct fixture *f, gconstpointer data)
{
        begin_call(f);
        begin_call(f);
        settle(f);
        close(f->fd);
        f->fd = -1;
        wait_for_end(f, 2);
        g_assert_cmpstr(f->log->str, ==, "14 error reading from server: EOF;14 error reading from server: EOF;");
        settle(f);
        g_assert_cmpuint(f->n_closed, ==, 1);
        begin_call(f);
        wait_for_end(f, 3);
        g_assert_nonnull(strstr(f->log->str, "EOF;14 "));
}

static void test_broken_framing_ends_the_connection(struct fixture *f, gconstpointer data)
{
        static const struct {
                unsigned type, flags;
                uint32_t stream;
                const char *payload;
                size_t length;
        } cases[] = {
                {DATA, 0, 0, "x", 1},
                {HEADERS, END_HEADERS, 1, "\xff\xff\xff\xff\xff\xff", 6},
                {HEADERS, END_HEADERS, 2, "", 0},
                {5, END_HEADERS, 1, "\0\0\0\2", 4}, // a push
                {PING, 0, 0, "1234", 4},
                {WINDOW, 0, 0, "\0\0\0\0", 4},
                {SETTINGS, 0, 0, "12345", 5},
                {GOAWAY, 0, 0, "123", 3},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                begin_call(f);
                settle(f);
                GByteArray *bytes = g_byte_array_new();
                h2_add_frame(bytes, SETTINGS, 0, 0, NULL);
                h2_add_frame(bytes, SETTINGS, 1, 0, NULL); // an answer to the client's: pushes are off now
                h2_add_raw_frame(
                        bytes, cases[i].type, cases[i].flags, cases[i].stream, cases[i].payload, cases[i].length);
                write_all(f, bytes);
                wait_for_end(f, 1);
                g_assert_true(g_str_has_prefix(f->log->str, "14 "));
                settle(f);
                g_assert_cmpuint(f->n_closed, ==, 1);
                disconnect(f);
                connect_client(f);
        }
}

static void test_goaway_lets_begun_calls_end(struct fixture *f, gconstpointer data)
{
        begin_call(f);
        begin_call(f);
        settle(f);
        GByteArray *bytes = g_byte_array_new();
        h2_add_frame(bytes, SETTINGS, 0, 0, NULL);
        h2_add_raw_frame(bytes, GOAWAY, 0, 0, "\0\0\0\1\0\0\0\0", 8); // the second was not begun
        write_all(f, bytes);
        wait_for_end(f, 1);
        g_assert_true(g_str_has_prefix(f->log->str, "14 "));
        g_string_truncate(f->log, 0);
        begin_call(f);
        wait_for_end(f, 2);
        g_assert_cmpstr(f->log->str, ==, "14 the server is draining the connection;");
        g_string_truncate(f->log, 0);
        bytes = g_byte_array_new();
        h2_add_request(bytes, 1, OK_HEADERS, false);
        h2_add_message(bytes, 1, GOOD_MESSAGE, GOOD_LENGTH, false);
        h2_add_request(bytes, 1, "grpc-status: 0", true);
        write_all(f, bytes);
        g_assert_cmpstr(f->log->str, ==, "a;");
        settle(f);
        g_assert_cmpuint(f->n_closed, ==, 1);
}

static void test_endless_headers_fail_their_call(struct fixture *f, gconstpointer data)
{
        g_autofree char *value = g_strnfill(16000, 'x');
        g_autoptr(GByteArray) block = g_byte_array_new();
        for (int i = 0; i < 5; i++) {
                g_autofree char *line = g_strdup_printf("x-%d: %s", i, value);
                g_autoptr(GByteArray) part = h2_block_of(line);
                g_byte_array_append(block, part->data, part->len);
        }
        begin_call(f);
        settle(f);
        GByteArray *bytes = g_byte_array_new();
        h2_add_frame(bytes, SETTINGS, 0, 0, NULL);
        g_autoptr(GByteArray) first = h2_block_of(OK_HEADERS);
        h2_add_frame(bytes, HEADERS, 0, 1, first);
        for (guint at = 0; at < block->len; at += 16000) {
                guint n = MIN(16000, block->len - at);
                h2_add_raw_frame(bytes, MORE, at + n == block->len ? END_HEADERS : 0, 1, block->data + at, n);
        }
        write_all(f, bytes);
        wait_for_end(f, 1);
        g_assert_true(g_str_has_prefix(f->log->str, "13 "));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/h2_client/" #name, struct fixture, NULL, set_up, test_##name, tear_down)
        ADD(answers_are_judged_as_grpc_go_does);
        ADD(a_message_that_is_none_fails_its_call);
        ADD(provisional_headers_are_passed_over);
        ADD(resets_become_codes);
        ADD(a_connection_that_ends_fails_its_calls);
        ADD(broken_framing_ends_the_connection);
        ADD(goaway_lets_begun_calls_end);
        ADD(endless_headers_fail_their_call);
        return g_test_run();
}
