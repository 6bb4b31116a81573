// SPDX-License-Identifier: Apache-2.0
//
// The client of ttrpc, frame by frame: what it sends for each kind of call, and what it makes of what comes back.
#include "rpc/ttrpc_fixture.h"

static void set_up(struct ttrpc_fixture *f, gconstpointer data)
{
        int end = ttrpc_begin(f);
        f->client = rpc_client_new(f->loop, RPC_TTRPC, end, NULL);
}

static void on_done(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct ttrpc_fixture *f = data;
        if (error != NULL)
                g_string_append_printf(f->ended, "%d %s;", error->code, error->message);
        else
                g_string_append_printf(f->ended, "%s;", ((const Ttrpc__KeyValue *)response)->key);
}

static struct rpc_request request_to(const char *method, const Ttrpc__KeyValue *message)
{
        return (struct rpc_request){
                .service = "S", .method = method, .message = &message->base, .response = &ttrpc__key_value__descriptor};
}

static void call(struct ttrpc_fixture *f, const char *key)
{
        Ttrpc__KeyValue message = TTRPC__KEY_VALUE__INIT;
        message.key = (char *)key;
        const struct rpc_request request = request_to("M", &message);
        rpc_client_call(f->client, &request, on_done, f);
}

static void respond(struct ttrpc_fixture *f, uint32_t id, int code, const char *text)
{
        uint8_t message[64], bytes[256];
        GoogleRpc__Status status = GOOGLE_RPC__STATUS__INIT;
        status.code = code;
        status.message = (char *)text;
        Ttrpc__Response response = TTRPC__RESPONSE__INIT;
        if (code >= 0)
                response.status = &status;
        if (code <= 0)
                response.payload = (ProtobufCBinaryData){ttrpc_pack_key(text, message), message};
        ttrpc_send_frame(f, id, TTRPC_RESPONSE, 0, bytes, ttrpc__response__pack(&response, bytes));
}

#define ASSERT_ENDED(f, text)                                                                                          \
        do {                                                                                                           \
                ttrpc_settle(f);                                                                                       \
                g_assert_cmpstr((f)->ended->str, ==, text);                                                            \
                g_string_truncate((f)->ended, 0);                                                                      \
        } while (0)

static void test_ids_rise_and_answers_find_their_call(struct ttrpc_fixture *f, gconstpointer data)
{
        call(f, "a");
        call(f, "b");
        call(f, "c");
        ASSERT_GOT(f, "1 request 00 S/M a;3 request 00 S/M b;5 request 00 S/M c;");
        respond(f, 5, -1, "to c");
        respond(f, 1, 0, "to a"); // a status that says OK is success too
        respond(f, 3, 5, "none: not found");
        ASSERT_ENDED(f, "to c;to a;5 none: not found;");
}

static void test_says_how_long_and_who(struct ttrpc_fixture *f, gconstpointer data)
{
        Ttrpc__KeyValue message = TTRPC__KEY_VALUE__INIT;
        struct rpc_request request = request_to("M", &message);
        const char *metadata[] = {"containerd-namespace-ttrpc", "ns", "twice", "1", "twice", "2", NULL};
        request.metadata = metadata;
        request.timeout_ns = 60 * G_GINT64_CONSTANT(1000000000);
        rpc_client_call(f->client, &request, on_done, f);
        ASSERT_GOT(f, "1 request 00 S/M containerd-namespace-ttrpc=ns twice=1 twice=2 timeout ;");
        respond(f, 1, -1, "x");
        ASSERT_ENDED(f, "x;");
}

static void test_drops_what_it_did_not_ask_for(struct ttrpc_fixture *f, gconstpointer data)
{
        call(f, "a");
        ttrpc_settle(f);
        respond(f, 7, -1, "unasked");
        ttrpc_send_data(f, 9, 0, "unasked");
        ttrpc_send_frame(f, 1, 99, 0xff, "??", 2); // of an unknown type
        ASSERT_ENDED(f, "");
        respond(f, 1, -1, "b");
        respond(f, 1, -1, "again");
        ASSERT_ENDED(f, "b;");
        call(f, "c");
        ttrpc_settle(f);
        respond(f, 3, -1, "d");
        ASSERT_ENDED(f, "d;");
}

static void test_fails_one_call_for_what_is_wrong(struct ttrpc_fixture *f, gconstpointer data)
{
        g_autofree char *large = g_malloc0(TTRPC_MAX_DATA_BYTES + 1);
        for (int i = 0; i < 6; i++)
                call(f, "a");
        ttrpc_settle(f);
        ttrpc_send_frame(f, 1, TTRPC_RESPONSE, 0, large, TTRPC_MAX_DATA_BYTES + 1);
        ASSERT_ENDED(f, "8 message length 4194305 exceed maximum message size of 4194304;");
        ttrpc_send_frame(f, 3, TTRPC_RESPONSE, 0, "\xff\xff", 2);
        ttrpc_settle(f);
        g_assert_true(g_str_has_prefix(f->ended->str, "13 ttrpc: "));
        g_string_truncate(f->ended, 0);
        ttrpc_send_frame(f, 5, TTRPC_RESPONSE, 0, "\x12\x02\xff\xff", 4); // a payload that is no message
        ttrpc_settle(f);
        g_assert_true(g_str_has_prefix(f->ended->str, "13 "));
        g_string_truncate(f->ended, 0);
        respond(f, 7, 77, "a code of tomorrow");
        ttrpc_send_data(f, 9, 0, "data where a response is due");
        ASSERT_ENDED(f, "2 a code of tomorrow;13 ttrpc: unexpected data;");
        respond(f, 11, -1, "well");
        ASSERT_ENDED(f, "well;");
}

static void test_sends_nothing_too_long(struct ttrpc_fixture *f, gconstpointer data)
{
        g_autofree char *large =
                g_strnfill(TTRPC_MAX_DATA_BYTES - 5, 'x'); // fits alone, not with the request around it
        call(f, large);
        call(f, "b");
        ASSERT_GOT(f, "1 request 00 S/M b;");
        ttrpc_settle(f);
        g_assert_true(g_str_has_prefix(f->ended->str, "8 message length "));
        g_string_truncate(f->ended, 0);
        respond(f, 1, -1, "c");
        ASSERT_ENDED(f, "c;");
}

static void on_stream_message(void *data, struct rpc_client_stream *stream, const ProtobufCMessage *message)
{
        g_string_append_printf(((struct ttrpc_fixture *)data)->ended, "%s,", ((const Ttrpc__KeyValue *)message)->key);
}

static void on_stream_end(void *data, struct rpc_client_stream *stream, const GError *error)
{
        g_string_append_printf(((struct ttrpc_fixture *)data)->ended, "%s;", error != NULL ? error->message : "end");
}

static struct rpc_client_stream *open_stream(struct ttrpc_fixture *f, enum rpc_kind kind, bool first)
{
        static const struct rpc_client_stream_handler handler = {
                .on_message = on_stream_message, .on_end = on_stream_end};
        Ttrpc__KeyValue message = TTRPC__KEY_VALUE__INIT;
        message.key = (char *)"first";
        struct rpc_request request = request_to("M", &message);
        if (!first)
                request.message = NULL;
        return rpc_client_stream_open(f->client, &request, kind, &handler, f);
}

static void test_streams_of_each_kind(struct ttrpc_fixture *f, gconstpointer data)
{
        Ttrpc__KeyValue more = TTRPC__KEY_VALUE__INIT;
        struct rpc_client_stream *server = open_stream(f, RPC_SERVER_STREAM, true);
        ASSERT_GOT(f, "1 request 01 S/M first;");
        ttrpc_send_data(f, 1, 0, "x");
        ttrpc_send_data(f, 1, 0, NULL);
        ttrpc_send_data(f, 1, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, NULL);
        ASSERT_ENDED(f, "x,,end;");
        rpc_client_stream_unref(server);

        struct rpc_client_stream *client = open_stream(f, RPC_CLIENT_STREAM, false);
        more.key = (char *)"1";
        rpc_client_stream_send(client, &more.base);
        more.key = (char *)"";
        rpc_client_stream_send(client, &more.base);
        rpc_client_stream_half_close(client);
        ASSERT_GOT(f, "3 request 02 S/M ;3 data 00 1;3 data 00 ;3 data 05 ;");
        respond(f, 3, -1, "sum");
        ASSERT_ENDED(f, "sum,end;");
        rpc_client_stream_unref(client);

        struct rpc_client_stream *both = open_stream(f, RPC_BIDI_STREAM, false);
        ASSERT_GOT(f, "5 request 02 S/M ;");
        ttrpc_send_data(f, 5, 0, "y");
        respond(f, 5, 10, "enough");
        ASSERT_ENDED(f, "y,enough;");
        rpc_client_stream_half_close(both);
        ASSERT_GOT(f, "");
        rpc_client_stream_unref(both);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/ttrpc_client/" #name, struct ttrpc_fixture, NULL, set_up, test_##name, ttrpc_tear_down)
        ADD(ids_rise_and_answers_find_their_call);
        ADD(says_how_long_and_who);
        ADD(drops_what_it_did_not_ask_for);
        ADD(fails_one_call_for_what_is_wrong);
        ADD(sends_nothing_too_long);
        ADD(streams_of_each_kind);
        return g_test_run();
}
