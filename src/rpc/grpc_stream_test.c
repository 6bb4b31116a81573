// SPDX-License-Identifier: Apache-2.0
//
// gRPC from end to end: streams of all kinds, and that neither side can make the other hold more than it should.
#include "rpc/grpc_fixture.h"

#include <string.h>

// ---- streams

static void test_server_stream_sends_all(struct grpc_fixture *f, gconstpointer data)
{
        struct grpc_seen seen = {0};
        Google__Protobuf__Any first = grpc_any("5000", "0123456789", 10);
        struct rpc_client_stream *stream = grpc_open_stream(f, "Count", RPC_SERVER_STREAM, &first, &seen);
        waiter_wait(seen.ended, -1);
        g_assert_no_error(seen.error);
        g_assert_cmpuint(seen.n_messages, ==, 5000);
        g_assert_cmpuint(seen.n_bytes, ==, 50000);
        rpc_client_stream_unref(stream);
        grpc_seen_done(&seen);
}

static void test_empty_server_stream_ends_well(struct grpc_fixture *f, gconstpointer data)
{
        struct grpc_seen seen = {0};
        Google__Protobuf__Any first = grpc_any("0", NULL, 0);
        struct rpc_client_stream *stream = grpc_open_stream(f, "Count", RPC_SERVER_STREAM, &first, &seen);
        waiter_wait(seen.ended, -1);
        g_assert_no_error(seen.error);
        g_assert_cmpuint(seen.n_messages, ==, 0);
        rpc_client_stream_unref(stream);
        grpc_seen_done(&seen);
}

static void send_all(struct rpc_client_stream *stream, struct grpc_seen *seen, unsigned n, size_t length)
{
        g_autofree char *bytes = g_malloc0(length);
        Google__Protobuf__Any message = grpc_any("", bytes, length);
        for (unsigned i = 0; i < n; i++) {
                unsigned before = atomic_load(&seen->n_writable);
                if (!rpc_client_stream_send(stream, &message.base))
                        grpc_wait_for(&seen->n_writable, before + 1);
        }
        rpc_client_stream_half_close(stream);
}

static void sum(struct grpc_fixture *f, unsigned n, size_t bytes, const char *expected)
{
        struct grpc_seen seen = {0};
        struct rpc_client_stream *stream = grpc_open_stream(f, "Sum", RPC_CLIENT_STREAM, NULL, &seen);
        send_all(stream, &seen, n, bytes);
        waiter_wait(seen.ended, -1);
        g_assert_no_error(seen.error);
        g_assert_cmpstr(seen.last, ==, expected);
        rpc_client_stream_unref(stream);
        grpc_seen_done(&seen);
}

static void test_client_stream_is_counted(struct grpc_fixture *f, gconstpointer data)
{
        sum(f, 300, 40000, "300 12000000");
}

static void test_bidi_stream_echoes(struct grpc_fixture *f, gconstpointer data)
{
        struct grpc_seen seen = {0};
        struct rpc_client_stream *stream = grpc_open_stream(f, "Chat", RPC_BIDI_STREAM, NULL, &seen);
        send_all(stream, &seen, 200, 100000);
        waiter_wait(seen.ended, -1);
        g_assert_no_error(seen.error);
        g_assert_cmpuint(seen.n_messages, ==, 200);
        g_assert_cmpuint(seen.n_bytes, ==, 20000000);
        rpc_client_stream_unref(stream);
        grpc_seen_done(&seen);
}

static void test_large_messages_in_a_stream(struct grpc_fixture *f, gconstpointer data)
{
        sum(f, 12, 5000000, "12 60000000");
}

static void test_large_messages_take_turns(struct grpc_fixture *f, gconstpointer data)
{
        // The budget holds one of them at a time; all arrive.
        struct grpc_seen seen[6] = {0};
        struct rpc_client_stream *streams[G_N_ELEMENTS(seen)];
        g_autofree char *bytes = g_malloc0(5000000);
        Google__Protobuf__Any message = grpc_any("", bytes, 5000000);
        for (unsigned i = 0; i < G_N_ELEMENTS(seen); i++) {
                streams[i] = grpc_open_stream(f, "Sum", RPC_CLIENT_STREAM, NULL, &seen[i]);
                rpc_client_stream_send(streams[i], &message.base);
                rpc_client_stream_half_close(streams[i]);
        }
        for (unsigned i = 0; i < G_N_ELEMENTS(seen); i++) {
                waiter_wait(seen[i].ended, -1);
                g_assert_no_error(seen[i].error);
                g_assert_cmpstr(seen[i].last, ==, "1 5000000");
                rpc_client_stream_unref(streams[i]);
                grpc_seen_done(&seen[i]);
        }
}

static void test_handler_ends_a_stream_with_an_error(struct grpc_fixture *f, gconstpointer data)
{
        struct grpc_seen seen = {0};
        Google__Protobuf__Any bad = grpc_any("bad", NULL, 0);
        struct rpc_client_stream *stream = grpc_open_stream(f, "Chat", RPC_BIDI_STREAM, &bad, &seen);
        waiter_wait(seen.ended, -1);
        g_assert_error(seen.error, SKIFF_ERROR, ERROR_ABORTED);
        g_assert_cmpstr(seen.error->message, ==, "bad message");
        g_assert_false(rpc_client_stream_send(stream, &bad.base));
        rpc_client_stream_unref(stream);
        grpc_seen_done(&seen);

        struct grpc_seen refused = {0};
        atomic_store(&f->service.refuse, true);
        stream = grpc_open_stream(f, "Chat", RPC_BIDI_STREAM, NULL, &refused);
        waiter_wait(refused.ended, -1);
        g_assert_error(refused.error, SKIFF_ERROR, ERROR_PERMISSION_DENIED);
        rpc_client_stream_unref(stream);
        grpc_seen_done(&refused);
}

static void test_client_cancels_a_stream(struct grpc_fixture *f, gconstpointer data)
{
        struct grpc_seen seen = {0};
        Google__Protobuf__Any hello = grpc_any("hello", NULL, 0);
        struct rpc_client_stream *stream = grpc_open_stream(f, "Chat", RPC_BIDI_STREAM, &hello, &seen);
        grpc_wait_for(&seen.n_messages, 1);
        rpc_client_stream_cancel(stream);
        waiter_wait(seen.ended, -1);
        g_assert_error(seen.error, SKIFF_ERROR, ERROR_CANCELED);
        grpc_wait_for(&f->service.n_cancelled, 1);
        grpc_wait_for(&f->service.n_closed, 1);
        rpc_client_stream_unref(stream);
        grpc_seen_done(&seen);
}

// ---- flow control

// Other calls get through meanwhile. Returns how many messages the sender has given away.
static unsigned wait_until_sender_stops(struct grpc_fixture *f)
{
        unsigned before;
        do {
                before = atomic_load(&f->service.n_sent);
                for (int i = 0; i < 50; i++)
                        ASSERT_CALL(f, "Echo", "a", "b", "a/1");
        } while (atomic_load(&f->service.n_sent) != before);
        return before;
}

static void test_slow_reader_holds_the_sender_back(struct grpc_fixture *f, gconstpointer data)
{
        const unsigned n = 20000;
        struct grpc_seen seen = {0};
        g_autofree char *bytes = g_malloc0(4096);
        Google__Protobuf__Any first = grpc_any("20000", bytes, 4096);
        struct rpc_client_stream *stream = grpc_open_stream(f, "Count", RPC_SERVER_STREAM, &first, &seen);
        rpc_client_stream_pause(stream);
        // 80 MB would otherwise be queued.
        unsigned before = wait_until_sender_stops(f);
        g_assert_cmpuint(before, <, (2 * 1024 * 1024) / 4096 + atomic_load(&seen.n_messages));
        rpc_client_stream_resume(stream);
        waiter_wait(seen.ended, -1);
        g_assert_no_error(seen.error);
        g_assert_cmpuint(seen.n_messages, ==, n);
        rpc_client_stream_unref(stream);
        grpc_seen_done(&seen);
}

static void test_empty_messages_weigh_something(struct grpc_fixture *f, gconstpointer data)
{
        struct grpc_seen seen = {0};
        Google__Protobuf__Any first = grpc_any("300000", NULL, 0);
        struct rpc_client_stream *stream = grpc_open_stream(f, "Count", RPC_SERVER_STREAM, &first, &seen);
        rpc_client_stream_pause(stream);
        unsigned before = wait_until_sender_stops(f);
        g_assert_cmpuint(before, <, 100000 + atomic_load(&seen.n_messages));
        rpc_client_stream_cancel(stream);
        waiter_wait(seen.ended, -1);
        rpc_client_stream_unref(stream);
        grpc_seen_done(&seen);
}

static void test_stuck_handler_holds_the_client_back(struct grpc_fixture *f, gconstpointer data)
{
        struct grpc_seen seen[20] = {0};
        struct rpc_client_stream *streams[G_N_ELEMENTS(seen)];
        g_autofree char *bytes = g_malloc0(100000);
        Google__Protobuf__Any message = grpc_any("", bytes, 100000);
        for (unsigned i = 0; i < G_N_ELEMENTS(seen); i++) {
                streams[i] = grpc_open_stream(f, "Stuck", RPC_CLIENT_STREAM, NULL, &seen[i]);
                unsigned n = 0;
                while (rpc_client_stream_send(streams[i], &message.base))
                        g_assert_cmpuint(n++, <, 100);
        }
        ASSERT_CALL(f, "Echo", "a", "b", "a/1");
        for (unsigned i = 0; i < G_N_ELEMENTS(seen); i++) {
                rpc_client_stream_cancel(streams[i]);
                waiter_wait(seen[i].ended, -1);
                rpc_client_stream_unref(streams[i]);
                grpc_seen_done(&seen[i]);
        }
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        static const struct rpc_server_options plain, little = {.max_connection_queue_bytes = 6000000},
                                                      little_in_all = {.max_total_queue_bytes = 6000000};
#define ADD(name)                                                                                                      \
        g_test_add("/grpc_stream/" #name, struct grpc_fixture, &plain, grpc_set_up, test_##name, grpc_tear_down)
        ADD(server_stream_sends_all);
        ADD(empty_server_stream_ends_well);
        ADD(client_stream_is_counted);
        ADD(bidi_stream_echoes);
        ADD(large_messages_in_a_stream);
        ADD(handler_ends_a_stream_with_an_error);
        ADD(client_cancels_a_stream);
        ADD(slow_reader_holds_the_sender_back);
        ADD(empty_messages_weigh_something);
        ADD(stuck_handler_holds_the_client_back);
        g_test_add("/grpc_stream/large_messages_take_turns_on_a_connection", struct grpc_fixture, &little, grpc_set_up,
                test_large_messages_take_turns, grpc_tear_down);
        g_test_add("/grpc_stream/large_messages_take_turns_on_a_server", struct grpc_fixture, &little_in_all,
                grpc_set_up, test_large_messages_take_turns, grpc_tear_down);
        return g_test_run();
}
