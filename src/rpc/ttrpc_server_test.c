// SPDX-License-Identifier: Apache-2.0
//
// The server of ttrpc, frame by frame: what it answers to each kind of call, and to what is wrong.
#include "rpc/ttrpc_fixture.h"

#include <sys/socket.h>

// ---- the service

static void on_echo(struct rpc_call *call, void *service)
{
        rpc_call_reply(call, rpc_call_request(call));
}

static void on_hold(struct rpc_call *call, void *service)
{
        ((struct ttrpc_fixture *)service)->held = call;
}

static void on_fail(struct rpc_call *call, void *service)
{
        rpc_call_fail(call, g_error_new_literal(SKIFF_ERROR, ERROR_NOT_FOUND, "thing: not found"));
}

static void on_message(void *state, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        rpc_stream_send(stream, message);
}

static void on_half_close(void *state, struct rpc_stream *stream)
{
        rpc_stream_finish(stream, NULL);
}

static void on_sum_half_close(void *state, struct rpc_stream *stream)
{
        Ttrpc__KeyValue message = TTRPC__KEY_VALUE__INIT;
        message.key = (char *)"sum";
        rpc_stream_send(stream, &message.base);
        rpc_stream_finish(stream, NULL);
}

static void ignore(void *state, struct rpc_stream *stream, const ProtobufCMessage *message)
{
}

static void *on_open(struct rpc_stream *stream, void *service)
{
        return NULL;
}

static void on_close(void *state)
{
}

static const struct rpc_stream_handler repeat = {
        .open = on_open, .on_message = on_message, .on_half_close = on_half_close, .close = on_close};
static const struct rpc_stream_handler sum = {
        .open = on_open, .on_message = ignore, .on_half_close = on_sum_half_close, .close = on_close};

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Echo", LANE_FAST, ttrpc__key_value, ttrpc__key_value, on_echo),
        RPC_METHOD_UNARY("Hold", LANE_FAST, ttrpc__key_value, ttrpc__key_value, on_hold),
        RPC_METHOD_UNARY("Fail", LANE_FAST, ttrpc__key_value, ttrpc__key_value, on_fail),
        RPC_METHOD_STREAM("Once", RPC_SERVER_STREAM, LANE_FAST, ttrpc__key_value, ttrpc__key_value, &repeat),
        RPC_METHOD_STREAM("Sum", RPC_CLIENT_STREAM, LANE_FAST, ttrpc__key_value, ttrpc__key_value, &sum),
        RPC_METHOD_STREAM("Chat", RPC_BIDI_STREAM, LANE_FAST, ttrpc__key_value, ttrpc__key_value, &repeat),
};
static const struct rpc_service service = {"S", methods, G_N_ELEMENTS(methods)};

static void set_up(struct ttrpc_fixture *f, gconstpointer data)
{
        int end = ttrpc_begin(f);
        f->lanes = lanes_new_inline(f->loop);
        f->server = rpc_server_new(f->loop, f->lanes, NULL);
        rpc_server_add(f->server, &service, f, RPC_TTRPC);
        rpc_server_add_connection(f->server, RPC_TTRPC, end);
}

// payload NULL: none.
static void send_request(struct ttrpc_fixture *f, uint32_t id, const char *method, uint8_t flags, const char *payload)
{
        uint8_t message[64], bytes[256];
        Ttrpc__Request request = TTRPC__REQUEST__INIT;
        request.service = (char *)"S";
        request.method = (char *)method;
        if (payload != NULL)
                request.payload = (ProtobufCBinaryData){ttrpc_pack_key(payload, message), message};
        ttrpc_send_frame(f, id, TTRPC_REQUEST, flags, bytes, ttrpc__request__pack(&request, bytes));
}

// ---- tests

static void test_answers_each_kind(struct ttrpc_fixture *f, gconstpointer data)
{
        send_request(f, 1, "Echo", 0, "a");
        ASSERT_GOT(f, "1 response a;");
        send_request(f, 3, "Fail", 0, "a");
        ASSERT_GOT(f, "3 response 5 thing: not found (0);");
        send_request(f, 5, "Once", TTRPC_REMOTE_CLOSED, "a");
        ASSERT_GOT(f, "5 data 00 a;5 data 05 ;");
        send_request(f, 7, "Once", TTRPC_REMOTE_CLOSED, NULL); // an empty payload is a message
        ASSERT_GOT(f, "7 data 00 ;7 data 05 ;");
        send_request(f, 9, "Sum", TTRPC_REMOTE_OPEN, NULL);
        ttrpc_send_data(f, 9, 0, "1");
        ttrpc_send_data(f, 9, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL);
        ASSERT_GOT(f, "9 response sum;");
        send_request(f, 11, "Chat", TTRPC_REMOTE_OPEN, NULL); // here it is none
        ASSERT_GOT(f, "");
        ttrpc_send_data(f, 11, 0, "x");
        ttrpc_send_data(f, 11, 0, NULL); // an empty message
        ASSERT_GOT(f, "11 data 00 x;11 data 00 ;");
        ttrpc_send_data(f, 11, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL);
        ASSERT_GOT(f, "11 data 05 ;");
        send_request(f, 13, "Chat", TTRPC_REMOTE_OPEN, "first");
        ASSERT_GOT(f, "13 data 00 first;");
        send_request(f, 15, "Sum", TTRPC_REMOTE_CLOSED, "only");
        ASSERT_GOT(f, "15 response sum;");
}

static void test_answers_in_any_order(struct ttrpc_fixture *f, gconstpointer data)
{
        send_request(f, 1, "Hold", 0, "a");
        send_request(f, 3, "Echo", 0, "b");
        ASSERT_GOT(f, "3 response b;");
        rpc_call_reply(f->held, rpc_call_request(f->held));
        ASSERT_GOT(f, "1 response a;");
}

static void test_names_what_it_has_not(struct ttrpc_fixture *f, gconstpointer data)
{
        uint8_t bytes[64];
        Ttrpc__Request request = TTRPC__REQUEST__INIT;
        request.service = (char *)"None";
        request.method = (char *)"Echo";
        ttrpc_send_frame(f, 1, TTRPC_REQUEST, 0, bytes, ttrpc__request__pack(&request, bytes));
        ASSERT_GOT(f, "1 response 12 unknown service None (0);");
        send_request(f, 3, "None", 0, NULL);
        ASSERT_GOT(f, "3 response 12 unknown method None for service S (0);");
        send_request(f, 5, "Chat", TTRPC_REMOTE_OPEN, NULL);
        ttrpc_send_data(f, 5, TTRPC_REMOTE_CLOSED, "last words");
        ASSERT_GOT(f, "5 response 3 data close message cannot include data (0);");
        ttrpc_send_data(f, 5, 0, "more");
        ASSERT_GOT(f, "5 response 3 StreamID is no longer active (0);");
}

static void test_refuses_data_after_the_end_of_data(struct ttrpc_fixture *f, gconstpointer data)
{
        send_request(f, 1, "Hold", 0, NULL);
        ttrpc_send_data(f, 1, 0, "more");
        ASSERT_GOT(f, "1 response 3 data handling error: ttrpc: stream closed (0);");
        rpc_call_reply(f->held, rpc_call_request(f->held)); // too late
        ASSERT_GOT(f, "");
        send_request(f, 3, "Echo", 0, "b");
        ASSERT_GOT(f, "3 response b;");
}

static void test_drops_what_is_too_long_alone(struct ttrpc_fixture *f, gconstpointer data)
{
        g_autofree char *large = g_malloc0(TTRPC_MAX_DATA_BYTES + 1);
        send_request(f, 1, "Chat", TTRPC_REMOTE_OPEN, NULL);
        send_request(f, 3, "Chat", TTRPC_REMOTE_OPEN, NULL);
        ttrpc_send_frame(f, 5, TTRPC_REQUEST, 0, large, TTRPC_MAX_DATA_BYTES + 1);
        ASSERT_GOT(f, "5 response 8 message length 4194305 exceed maximum message size of 4194304 (0);");
        ttrpc_send_frame(f, 1, TTRPC_DATA, 0, large, TTRPC_MAX_DATA_BYTES + 1);
        ASSERT_GOT(f, "1 response 8 message length 4194305 exceed maximum message size of 4194304 (0);");
        ttrpc_send_data(f, 3, 0, "still there");
        ASSERT_GOT(f, "3 data 00 still there;");
}

static void test_keeps_its_word_on_timeouts(struct ttrpc_fixture *f, gconstpointer data)
{
        uint8_t bytes[64];
        Ttrpc__Request request = TTRPC__REQUEST__INIT;
        request.service = (char *)"S";
        request.method = (char *)"Hold";
        request.timeout_nano = 100 * 1000000; // long enough for the method to be called
        ttrpc_send_frame(f, 1, TTRPC_REQUEST, 0, bytes, ttrpc__request__pack(&request, bytes));
        while (f->got->len == 0)
                ttrpc_settle(f);
        ASSERT_GOT(f, "1 response 4 context deadline exceeded (0);");
        rpc_call_reply(f->held, rpc_call_request(f->held));
        request.timeout_nano = -1;
        ttrpc_send_frame(f, 3, TTRPC_REQUEST, 0, bytes, ttrpc__request__pack(&request, bytes));
        ASSERT_GOT(f, "3 response 4 context deadline exceeded (0);");
}

static void test_ids_must_be_odd_and_rise(struct ttrpc_fixture *f, gconstpointer data)
{
        send_request(f, 2, "Echo", 0, "a");
        ASSERT_GOT(f, "2 response 3 StreamID must be odd for client initiated streams (0);");
        send_request(f, 5, "Echo", 0, "a");
        ASSERT_GOT(f, "5 response a;");
        send_request(f, 5, "Echo", 0, "a");
        ASSERT_GOT(f, "5 response 3 StreamID cannot be re-used and must increment (0);");
        send_request(f, 3, "Echo", 0, "a");
        ASSERT_GOT(f, "3 response 3 StreamID cannot be re-used and must increment (0);");
        ttrpc_send_data(f, 7, 0, "x");
        ASSERT_GOT(f, "7 response 3 StreamID is no longer active (0);");
        ttrpc_send_frame(f, 9, 77, 0, "??", 2); // of an unknown type
        send_request(f, 9, "Echo", 0, "b");
        ASSERT_GOT(f, "9 response b;");
}

static void test_wrong_requests_are_answered(struct ttrpc_fixture *f, gconstpointer data)
{
        ttrpc_send_frame(f, 1, TTRPC_REQUEST, 0, "\xff\xff\xff", 3);
        ttrpc_settle(f);
        g_assert_true(g_str_has_prefix(f->got->str, "1 response 3 unmarshal request error: "));
        g_string_truncate(f->got, 0);
        static const char bad_payload[] = "\x0a\1S\x12\4Echo\x1a\2\xff\xff";
        ttrpc_send_frame(f, 3, TTRPC_REQUEST, 0, bad_payload, sizeof bad_payload - 1);
        ttrpc_settle(f);
        g_assert_true(g_str_has_prefix(f->got->str, "3 response 13 "));
}

static void on_cancelled(void *data)
{
        *(bool *)data = true;
}

static void test_end_of_connection_cancels_calls(struct ttrpc_fixture *f, gconstpointer data)
{
        send_request(f, 1, "Hold", 0, NULL);
        ttrpc_settle(f);
        bool cancelled = false;
        cancel_watch(rpc_call_cancel(f->held), on_cancelled, &cancelled);
        shutdown(f->fd, SHUT_RDWR);
        while (!cancelled)
                uv_run(loop_uv(f->loop), UV_RUN_ONCE);
        rpc_call_reply(f->held, rpc_call_request(f->held));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/ttrpc_server/" #name, struct ttrpc_fixture, NULL, set_up, test_##name, ttrpc_tear_down)
        ADD(answers_each_kind);
        ADD(answers_in_any_order);
        ADD(names_what_it_has_not);
        ADD(refuses_data_after_the_end_of_data);
        ADD(drops_what_is_too_long_alone);
        ADD(keeps_its_word_on_timeouts);
        ADD(ids_must_be_odd_and_rise);
        ADD(wrong_requests_are_answered);
        ADD(end_of_connection_cancels_calls);
        return g_test_run();
}
