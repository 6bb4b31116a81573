// SPDX-License-Identifier: Apache-2.0
//
// Server and client face each other over a socket pair on one loop. What each does with the frames of a stranger is in
// ttrpc_server_test.c and ttrpc_client_test.c.
#include "io/loop.h"
#include "rpc/client.h"
#include "rpc/server.h"
#include "rpc/ttrpc_frame.h"
#include "ttrpc/ttrpc.pb-c.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

struct fixture {
        struct loop *loop;
        struct lanes *lanes;
        struct rpc_server *server;
        struct rpc_client *client;
        struct rpc_call *held;
        unsigned n_cancelled, n_closed;
        GString *log;
};

// ---- the service: messages are ttrpc.KeyValue

static void reply(struct rpc_call *call, const char *key, const char *value)
{
        Ttrpc__KeyValue response = TTRPC__KEY_VALUE__INIT;
        response.key = (char *)key;
        response.value = (char *)value;
        rpc_call_reply(call, &response.base);
}

static void on_echo(struct rpc_call *call, void *service)
{
        const Ttrpc__KeyValue *request = (const Ttrpc__KeyValue *)rpc_call_request(call);
        const char *metadata = rpc_call_metadata(call, "who");
        reply(call, request->key, metadata != NULL ? metadata : request->value);
}

static void on_fail(struct rpc_call *call, void *service)
{
        rpc_call_fail(call, g_error_new_literal(SKIFF_ERROR, ERROR_NOT_FOUND, "thing: not found"));
}

static void on_cancelled(void *data)
{
        struct fixture *f = data;
        f->n_cancelled++;
        loop_stop(f->loop);
}

static void on_hold(struct rpc_call *call, void *service)
{
        struct fixture *f = service;
        f->held = call;
        cancel_watch(rpc_call_cancel(call), on_cancelled, f);
}

static void on_large(struct rpc_call *call, void *service)
{
        g_autofree char *large = g_strnfill(TTRPC_MAX_DATA_BYTES, 'x');
        reply(call, "", large);
}

static void *on_open(struct rpc_stream *stream, void *service)
{
        return g_new0(unsigned, 1);
}

static void send_number(struct rpc_stream *stream, unsigned number)
{
        char text[12];
        g_snprintf(text, sizeof text, "%u", number);
        Ttrpc__KeyValue message = TTRPC__KEY_VALUE__INIT;
        message.key = text;
        rpc_stream_send(stream, &message.base);
}

static void on_count_message(void *state, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        for (unsigned i = 1; i <= 3; i++)
                send_number(stream, i);
        rpc_stream_finish(stream, NULL);
}

static void on_sum_message(void *state, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        *(unsigned *)state += (unsigned)atoi(((const Ttrpc__KeyValue *)message)->key);
}

static void on_sum_half_close(void *state, struct rpc_stream *stream)
{
        send_number(stream, *(unsigned *)state);
        rpc_stream_finish(stream, NULL);
}

static void on_chat_message(void *state, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        if (strcmp(((const Ttrpc__KeyValue *)message)->key, "bad") == 0)
                rpc_stream_finish(stream, g_error_new_literal(SKIFF_ERROR, ERROR_ABORTED, "no"));
        else
                rpc_stream_send(stream, message);
}

static void on_chat_half_close(void *state, struct rpc_stream *stream)
{
        rpc_stream_finish(stream, NULL);
}

static const struct rpc_stream_handler count = {.open = on_open, .on_message = on_count_message, .close = g_free};
static const struct rpc_stream_handler sum = {
        .open = on_open, .on_message = on_sum_message, .on_half_close = on_sum_half_close, .close = g_free};
static const struct rpc_stream_handler chat = {
        .open = on_open, .on_message = on_chat_message, .on_half_close = on_chat_half_close, .close = g_free};

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Echo", LANE_FAST, ttrpc__key_value, ttrpc__key_value, on_echo),
        RPC_METHOD_UNARY("Fail", LANE_FAST, ttrpc__key_value, ttrpc__key_value, on_fail),
        RPC_METHOD_UNARY("Hold", LANE_FAST, ttrpc__key_value, ttrpc__key_value, on_hold),
        RPC_METHOD_UNARY("Large", LANE_FAST, ttrpc__key_value, ttrpc__key_value, on_large),
        RPC_METHOD_STREAM("Count", RPC_SERVER_STREAM, LANE_FAST, ttrpc__key_value, ttrpc__key_value, &count),
        RPC_METHOD_STREAM("Sum", RPC_CLIENT_STREAM, LANE_FAST, ttrpc__key_value, ttrpc__key_value, &sum),
        RPC_METHOD_STREAM("Chat", RPC_BIDI_STREAM, LANE_FAST, ttrpc__key_value, ttrpc__key_value, &chat),
};
static const struct rpc_service service = {"test.Service", methods, G_N_ELEMENTS(methods)};

// ---- the fixture

static void on_closed(void *data)
{
        struct fixture *f = data;
        f->n_closed++;
        loop_stop(f->loop);
}

static void set_up(struct fixture *f, gconstpointer data)
{
        f->loop = loop_new(NULL);
        f->lanes = lanes_new_inline(f->loop);
        f->server = rpc_server_new(f->loop, f->lanes, NULL);
        f->log = g_string_new(NULL);
        rpc_server_add(f->server, &service, f, RPC_TTRPC);
        int ends[2];
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), ==, 0);
        rpc_server_add_connection(f->server, RPC_TTRPC, ends[0]);
        struct rpc_client_options options = {.on_closed = on_closed, .data = f};
        f->client = rpc_client_new(f->loop, RPC_TTRPC, ends[1], &options);
}

static void set(void *data)
{
        *(bool *)data = true;
}

static void tear_down(struct fixture *f, gconstpointer data)
{
        if (f->held != NULL)
                reply(f->held, "", "");
        rpc_client_unref(f->client);
        bool drained = false;
        rpc_server_drain(f->server, 1000, set, &drained);
        while (!drained)
                uv_run(loop_uv(f->loop), UV_RUN_ONCE);
        rpc_server_free(f->server);
        lanes_free(f->lanes);
        loop_free(f->loop);
        g_string_free(f->log, TRUE);
}

static void on_done(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct fixture *f = data;
        if (error != NULL)
                g_string_append_printf(f->log, "%d %s;", error->code, error->message);
        else
                g_string_append_printf(f->log, "%s=%s;", ((const Ttrpc__KeyValue *)response)->key,
                        ((const Ttrpc__KeyValue *)response)->value);
        loop_stop(f->loop);
}

static struct rpc_request request_to(const char *method, const Ttrpc__KeyValue *message)
{
        return (struct rpc_request){.service = "test.Service",
                .method = method,
                .message = &message->base,
                .response = &ttrpc__key_value__descriptor};
}

static void call(struct fixture *f, const char *method, const char *key, const char *value)
{
        Ttrpc__KeyValue message = TTRPC__KEY_VALUE__INIT;
        message.key = (char *)key;
        message.value = (char *)value;
        struct rpc_request request = request_to(method, &message);
        size_t before = f->log->len;
        rpc_client_call(f->client, &request, on_done, f);
        while (f->log->len == before)
                loop_run(f->loop);
}

// ---- calls

static void test_calls_are_answered(struct fixture *f, gconstpointer data)
{
        call(f, "Echo", "a", "b");
        call(f, "Fail", "", "");
        call(f, "None", "", "");
        call(f, "Echo", "", "");
        g_assert_cmpstr(f->log->str, ==, "a=b;5 thing: not found;12 unknown method None for service test.Service;=;");
}

static void test_metadata_arrives(struct fixture *f, gconstpointer data)
{
        Ttrpc__KeyValue message = TTRPC__KEY_VALUE__INIT;
        const char *metadata[] = {"other", "1", "who", "me", NULL};
        struct rpc_request request = request_to("Echo", &message);
        request.metadata = metadata;
        rpc_client_call(f->client, &request, on_done, f);
        loop_run(f->loop);
        g_assert_cmpstr(f->log->str, ==, "=me;");
}

static void test_deadline_ends_both_sides(struct fixture *f, gconstpointer data)
{
        Ttrpc__KeyValue message = TTRPC__KEY_VALUE__INIT;
        struct rpc_request request = request_to("Hold", &message);
        request.timeout_ns = 20 * 1000000;
        rpc_client_call(f->client, &request, on_done, f);
        while (f->n_cancelled == 0 || f->log->len == 0)
                loop_run(f->loop);
        g_assert_cmpstr(f->log->str, ==, "4 context deadline exceeded;");
        call(f, "Echo", "still", "there");
        g_assert_nonnull(strstr(f->log->str, "still=there"));
}

static void test_too_large_an_answer_fails_its_call_alone(struct fixture *f, gconstpointer data)
{
        call(f, "Large", "", "");
        g_assert_true(g_str_has_prefix(f->log->str, "8 "));
        g_string_truncate(f->log, 0);
        g_autofree char *large = g_strnfill(TTRPC_MAX_DATA_BYTES - 100, 'x');
        call(f, "Echo", "", large);
        g_assert_cmpuint(f->log->len, ==, TTRPC_MAX_DATA_BYTES - 100 + 2);
}

// ---- streams

static void on_stream_message(void *data, struct rpc_client_stream *stream, const ProtobufCMessage *message)
{
        struct fixture *f = data;
        g_string_append_printf(f->log, "%s;", ((const Ttrpc__KeyValue *)message)->key);
}

static void on_stream_end(void *data, struct rpc_client_stream *stream, const GError *error)
{
        struct fixture *f = data;
        g_string_append(f->log, error != NULL ? error->message : "end");
        loop_stop(f->loop);
}

static const struct rpc_client_stream_handler to_log = {.on_message = on_stream_message, .on_end = on_stream_end};

static void stream(struct fixture *f, const char *method, enum rpc_kind kind, const char *const *keys)
{
        Ttrpc__KeyValue message = TTRPC__KEY_VALUE__INIT;
        struct rpc_request request = request_to(method, &message);
        if (kind != RPC_SERVER_STREAM)
                request.message = NULL;
        struct rpc_client_stream *opened = rpc_client_stream_open(f->client, &request, kind, &to_log, f);
        for (; *keys != NULL; keys++) {
                message.key = (char *)*keys;
                rpc_client_stream_send(opened, &message.base);
        }
        rpc_client_stream_half_close(opened);
        loop_run(f->loop);
        rpc_client_stream_unref(opened);
}

static void test_streams_of_every_kind(struct fixture *f, gconstpointer data)
{
        const char *none[] = {NULL}, *numbers[] = {"1", "20", "300", NULL}, *words[] = {"a", "", "b", NULL},
                   *bad[] = {"a", "bad", "b", NULL};
        stream(f, "Count", RPC_SERVER_STREAM, none);
        g_assert_cmpstr(f->log->str, ==, "1;2;3;end");
        g_string_truncate(f->log, 0);
        stream(f, "Sum", RPC_CLIENT_STREAM, numbers);
        g_assert_cmpstr(f->log->str, ==, "321;end");
        g_string_truncate(f->log, 0);
        stream(f, "Chat", RPC_BIDI_STREAM, words);
        g_assert_cmpstr(f->log->str, ==, "a;;b;end");
        g_string_truncate(f->log, 0);
        stream(f, "Chat", RPC_BIDI_STREAM, bad);
        g_assert_cmpstr(f->log->str, ==, "a;no");
}

// ---- frames

static bool count_frame(void *data, const struct ttrpc_frame *frame)
{
        GString *log = data;
        if (frame->oversize)
                g_string_append_printf(log, "[%u over %zu]", frame->stream, frame->n_data);
        else
                g_string_append_printf(log, "[%u %.*s]", frame->stream, (int)frame->n_data, (const char *)frame->data);
        return true;
}

static void test_frames_may_be_cut_anywhere(void)
{
        GByteArray *bytes = g_byte_array_new();
        static const char *const bodies[] = {"hello", "", "too long by far", "x"};
        for (uint32_t i = 0; i < G_N_ELEMENTS(bodies); i++) {
                struct ttrpc_frame frame = {.stream = i, .type = TTRPC_DATA, .n_data = strlen(bodies[i])};
                uint8_t header[TTRPC_HEADER_BYTES];
                ttrpc_pack_header(header, &frame);
                g_byte_array_append(bytes, header, sizeof header);
                g_byte_array_append(bytes, (const uint8_t *)bodies[i], (guint)frame.n_data);
        }
        for (guint cut = 1; cut <= bytes->len; cut++) {
                g_autoptr(GString) log = g_string_new(NULL);
                struct ttrpc_reader reader;
                ttrpc_reader_init(&reader, 8);
                for (guint at = 0; at < bytes->len; at += cut)
                        ttrpc_reader_feed(&reader, bytes->data + at, MIN(cut, bytes->len - at), count_frame, log);
                ttrpc_reader_done(&reader);
                g_assert_cmpstr(log->str, ==, "[0 hello][1 ][2 over 15][3 x]");
        }
        g_byte_array_unref(bytes);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/ttrpc/frames_may_be_cut_anywhere", test_frames_may_be_cut_anywhere);
#define ADD(name) g_test_add("/ttrpc/" #name, struct fixture, NULL, set_up, test_##name, tear_down)
        ADD(calls_are_answered);
        ADD(metadata_arrives);
        ADD(deadline_ends_both_sides);
        ADD(too_large_an_answer_fails_its_call_alone);
        ADD(streams_of_every_kind);
        return g_test_run();
}
