// SPDX-License-Identifier: Apache-2.0
//
// gRPC server and client face each other over socket pairs: the loop on a thread of its own, handlers on lanes, the
// test waiting for answers. So the same tests show races under TSan.
#include "google/protobuf/any.pb-c.h"
#include "io/loop.h"
#include "io/waiter.h"
#include "rpc/client.h"
#include "rpc/test_service.h"

#include <string.h>
#include <sys/socket.h>

struct fixture {
        struct loop *loop;
        struct lanes *lanes;
        uv_thread_t thread;
        struct rpc_server *server;
        struct rpc_client *client;
        struct test_service service;
        struct waiter *drained, *closed;
        bool is_drained;
        atomic_uint n_started, n_ended, n_failed;
};

static void run_loop(void *data)
{
        loop_run(data);
}

static void add_connection(void *data)
{
        struct {
                struct fixture *f;
                int fd;
                struct waiter *waiter;
        } *job = data;
        rpc_server_add_connection(job->f->server, RPC_GRPC, job->fd);
        waiter_signal(job->waiter);
}

static int connect_server(struct fixture *f)
{
        int ends[2];
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), ==, 0);
        struct {
                struct fixture *f;
                int fd;
                struct waiter *waiter;
        } job = {f, ends[0], waiter_new()};
        loop_post(f->loop, add_connection, &job);
        waiter_wait(job.waiter, -1);
        waiter_free(job.waiter);
        return ends[1];
}

static void on_closed(void *data)
{
        waiter_signal(((struct fixture *)data)->closed);
}

static void on_call_start(void *data, struct rpc_call *call)
{
        g_assert_cmpstr(rpc_call_service_name(call), ==, "skiff.test.Service");
        atomic_fetch_add(&((struct fixture *)data)->n_started, 1);
}

static void on_call_end(void *data, struct rpc_call *call, const GError *status)
{
        struct fixture *f = data;
        g_assert_nonnull(rpc_call_method_name(call));
        atomic_fetch_add(&f->n_failed, status != NULL);
        atomic_fetch_add(&f->n_ended, 1);
}

static void set_up(struct fixture *f, gconstpointer data)
{
        struct rpc_server_options options = *(const struct rpc_server_options *)data;
        options.on_call_start = on_call_start;
        options.on_call_end = on_call_end;
        options.data = f;
        f->loop = loop_new(NULL);
        f->lanes = lanes_new(NULL);
        f->drained = waiter_new();
        f->closed = waiter_new();
        f->server = rpc_server_new(f->loop, f->lanes, &options);
        rpc_server_add(f->server, &test_service, &f->service, RPC_GRPC);
        uv_thread_create(&f->thread, run_loop, f->loop);
        struct rpc_client_options client_options = {
                .lanes = f->lanes, .lane = LANE_FAST, .on_closed = on_closed, .data = f};
        f->client = rpc_client_new(f->loop, RPC_GRPC, connect_server(f), &client_options);
}

static void on_drained(void *data)
{
        waiter_signal(((struct fixture *)data)->drained);
}

static void start_drain(void *data)
{
        struct fixture *f = data;
        rpc_server_drain(f->server, 5000, on_drained, f);
}

static void free_server(void *data)
{
        struct fixture *f = data;
        rpc_server_free(f->server);
        loop_stop(f->loop);
}

static void drain(struct fixture *f)
{
        loop_post(f->loop, start_drain, f);
        g_assert_true(waiter_wait(f->drained, -1));
        f->is_drained = true;
}

static void tear_down(struct fixture *f, gconstpointer data)
{
        rpc_client_unref(f->client);
        if (!f->is_drained)
                drain(f);
        loop_post(f->loop, free_server, f);
        uv_thread_join(&f->thread);
        lanes_free(f->lanes);
        loop_free(f->loop);
        waiter_free(f->drained);
        waiter_free(f->closed);
        g_assert_cmpuint(atomic_load(&f->service.n_opened), ==, atomic_load(&f->service.n_closed));
        g_assert_cmpuint(atomic_load(&f->n_started), ==, atomic_load(&f->n_ended));
}

// ---- helpers

static struct rpc_request request_to(const char *method, const Google__Protobuf__Any *message)
{
        return (struct rpc_request){.service = "skiff.test.Service",
                .method = method,
                .message = message == NULL ? NULL : &message->base,
                .response = &google__protobuf__any__descriptor};
}

static Google__Protobuf__Any any(const char *text, const void *bytes, size_t length)
{
        Google__Protobuf__Any message = GOOGLE__PROTOBUF__ANY__INIT;
        message.type_url = (char *)text;
        message.value.data = (uint8_t *)bytes;
        message.value.len = length;
        return message;
}

// "text/number of bytes", or "code message".
static char *call(struct fixture *f, const char *method, const char *text, const char *value)
{
        AUTO(arena) arena = arena_new();
        g_autoptr(GError) error = NULL;
        Google__Protobuf__Any message = any(text, value, strlen(value));
        struct rpc_request request = request_to(method, &message);
        const Google__Protobuf__Any *response =
                (const Google__Protobuf__Any *)rpc_client_call_wait(f->client, &request, arena, &error);
        if (response == NULL)
                return g_strdup_printf("%d %s", error->code, error->message);
        return g_strdup_printf("%s/%zu", response->type_url, response->value.len);
}

#define ASSERT_CALL(f, method, text, value, expected)                                                                  \
        do {                                                                                                           \
                g_autofree char *got = call(f, method, text, value);                                                   \
                g_assert_cmpstr(got, ==, expected);                                                                    \
        } while (0)

static void wait_for(atomic_uint *counter, unsigned at_least)
{
        while (atomic_load(counter) < at_least)
                uv_sleep(1);
}

// A stream that counts what comes.
struct seen {
        atomic_uint n_messages, n_writable;
        atomic_size_t n_bytes;
        char *last;
        GError *error;
        struct waiter *ended;
};

static void on_message(void *data, struct rpc_client_stream *stream, const ProtobufCMessage *message)
{
        struct seen *seen = data;
        const Google__Protobuf__Any *response = (const Google__Protobuf__Any *)message;
        g_free(seen->last);
        seen->last = g_strdup(response->type_url);
        atomic_fetch_add(&seen->n_bytes, response->value.len);
        atomic_fetch_add(&seen->n_messages, 1);
}

static void on_writable(void *data, struct rpc_client_stream *stream)
{
        atomic_fetch_add(&((struct seen *)data)->n_writable, 1);
}

static void on_end(void *data, struct rpc_client_stream *stream, const GError *error)
{
        struct seen *seen = data;
        seen->error = error == NULL ? NULL : g_error_copy(error);
        waiter_signal(seen->ended);
}

static const struct rpc_client_stream_handler handler = {on_message, on_writable, on_end};

static struct rpc_client_stream *open_stream(struct fixture *f, const char *method, enum rpc_kind kind,
        const Google__Protobuf__Any *first, struct seen *seen)
{
        seen->ended = waiter_new();
        struct rpc_request request = request_to(method, first);
        return rpc_client_stream_open(f->client, &request, kind, &handler, seen);
}

static void seen_done(struct seen *seen)
{
        waiter_free(seen->ended);
        g_clear_error(&seen->error);
        g_free(seen->last);
}

// ---- unary calls

static void test_unary_calls_are_answered(struct fixture *f, gconstpointer data)
{
        ASSERT_CALL(f, "Echo", "a", "bc", "a/2");
        ASSERT_CALL(f, "Echo", "", "", "/0");
        ASSERT_CALL(f, "Fail", "image \"x\": not found", "5", "5 image \"x\": not found");
        ASSERT_CALL(f, "Fail", "ä%\n\x01", "2", "2 ä%\n\x01");
        ASSERT_CALL(f, "None", "", "", "12 unknown method None for service skiff.test.Service");
        wait_for(&f->n_ended, 4);
        g_assert_cmpuint(atomic_load(&f->n_failed), ==, 2);
}

static void test_unknown_service_is_named(struct fixture *f, gconstpointer data)
{
        AUTO(arena) arena = arena_new();
        g_autoptr(GError) error = NULL;
        Google__Protobuf__Any message = any("", "", 0);
        struct rpc_request request = request_to("Echo", &message);
        request.service = "no.Such";
        g_assert_null(rpc_client_call_wait(f->client, &request, arena, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_UNIMPLEMENTED);
        g_assert_cmpstr(error->message, ==, "unknown service no.Such");
}

static void test_metadata_arrives(struct fixture *f, gconstpointer data)
{
        AUTO(arena) arena = arena_new();
        Google__Protobuf__Any message = any("containerd-namespace", "", 0);
        const char *metadata[] = {"x", "1", "containerd-namespace", "k8s.io", NULL};
        struct rpc_request request = request_to("Metadata", &message);
        request.metadata = metadata;
        const Google__Protobuf__Any *response =
                (const Google__Protobuf__Any *)rpc_client_call_wait(f->client, &request, arena, NULL);
        g_assert_cmpmem(response->value.data, response->value.len, "k8s.io", 6);
}

static void test_deadline_ends_both_sides(struct fixture *f, gconstpointer data)
{
        AUTO(arena) arena = arena_new();
        g_autoptr(GError) error = NULL;
        Google__Protobuf__Any message = any("", "", 0);
        struct rpc_request request = request_to("Hold", &message);
        request.timeout_ns = 30 * 1000000;
        g_assert_null(rpc_client_call_wait(f->client, &request, arena, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_DEADLINE_EXCEEDED);
        g_assert_cmpstr(error->message, ==, "context deadline exceeded");
        ASSERT_CALL(f, "Echo", "still", "there", "still/5");
}

struct answer {
        struct waiter *waiter;
        int code;
};

static void on_done(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct answer *answer = data;
        answer->code = error == NULL ? 0 : error->code;
        waiter_signal(answer->waiter);
}

static void test_cancel_token_ends_the_call(struct fixture *f, gconstpointer data)
{
        struct answer answer = {.waiter = waiter_new()};
        AUTO(cancel) cancel = cancel_new();
        Google__Protobuf__Any message = any("", "", 0);
        struct rpc_request request = request_to("Hold", &message);
        request.cancel = cancel;
        rpc_client_call(f->client, &request, on_done, &answer);
        wait_for(&f->service.n_held, 1);
        cancel_trigger(cancel, ERROR_CANCELED, "enough");
        waiter_wait(answer.waiter, -1);
        g_assert_cmpint(answer.code, ==, ERROR_CANCELED);
        // Already triggered: the call is not even begun.
        waiter_free(answer.waiter);
        answer.waiter = waiter_new();
        rpc_client_call(f->client, &request, on_done, &answer);
        waiter_wait(answer.waiter, -1);
        g_assert_cmpint(answer.code, ==, ERROR_CANCELED);
        waiter_free(answer.waiter);
}

static void test_messages_up_to_the_limit_pass(struct fixture *f, gconstpointer data)
{
        const size_t limit = 16 * 1024 * 1024;
        g_autofree char *large = g_strnfill(limit - 64, 'x');
        g_autofree char *expected = g_strdup_printf("a/%zu", limit - 64);
        ASSERT_CALL(f, "Echo", "a", large, expected);
        g_autofree char *over = g_strdup_printf("%zu", limit);
        g_autofree char *answer = call(f, "Large", over, "");
        g_assert_true(
                g_str_has_prefix(answer, "8 grpc: trying to send message larger than max (16777221 vs. 16777216)"));
}

// ---- streams

static void test_server_stream_sends_all(struct fixture *f, gconstpointer data)
{
        struct seen seen = {0};
        Google__Protobuf__Any first = any("5000", "0123456789", 10);
        struct rpc_client_stream *stream = open_stream(f, "Count", RPC_SERVER_STREAM, &first, &seen);
        waiter_wait(seen.ended, -1);
        g_assert_no_error(seen.error);
        g_assert_cmpuint(seen.n_messages, ==, 5000);
        g_assert_cmpuint(seen.n_bytes, ==, 50000);
        rpc_client_stream_unref(stream);
        seen_done(&seen);
}

static void test_empty_server_stream_ends_well(struct fixture *f, gconstpointer data)
{
        struct seen seen = {0};
        Google__Protobuf__Any first = any("0", NULL, 0);
        struct rpc_client_stream *stream = open_stream(f, "Count", RPC_SERVER_STREAM, &first, &seen);
        waiter_wait(seen.ended, -1);
        g_assert_no_error(seen.error);
        g_assert_cmpuint(seen.n_messages, ==, 0);
        rpc_client_stream_unref(stream);
        seen_done(&seen);
}

static void send_all(struct rpc_client_stream *stream, struct seen *seen, unsigned n, size_t length)
{
        g_autofree char *bytes = g_malloc0(length);
        Google__Protobuf__Any message = any("", bytes, length);
        for (unsigned i = 0; i < n; i++) {
                unsigned before = atomic_load(&seen->n_writable);
                if (!rpc_client_stream_send(stream, &message.base))
                        wait_for(&seen->n_writable, before + 1);
        }
        rpc_client_stream_half_close(stream);
}

static void test_client_stream_is_counted(struct fixture *f, gconstpointer data)
{
        struct seen seen = {0};
        struct rpc_client_stream *stream = open_stream(f, "Sum", RPC_CLIENT_STREAM, NULL, &seen);
        send_all(stream, &seen, 300, 40000);
        waiter_wait(seen.ended, -1);
        g_assert_no_error(seen.error);
        g_assert_cmpstr(seen.last, ==, "300 12000000");
        rpc_client_stream_unref(stream);
        seen_done(&seen);
}

static void test_bidi_stream_echoes(struct fixture *f, gconstpointer data)
{
        struct seen seen = {0};
        struct rpc_client_stream *stream = open_stream(f, "Chat", RPC_BIDI_STREAM, NULL, &seen);
        send_all(stream, &seen, 200, 100000);
        waiter_wait(seen.ended, -1);
        g_assert_no_error(seen.error);
        g_assert_cmpuint(seen.n_messages, ==, 200);
        g_assert_cmpuint(seen.n_bytes, ==, 20000000);
        rpc_client_stream_unref(stream);
        seen_done(&seen);
}

static void test_large_messages_in_a_stream(struct fixture *f, gconstpointer data)
{
        struct seen seen = {0};
        struct rpc_client_stream *stream = open_stream(f, "Sum", RPC_CLIENT_STREAM, NULL, &seen);
        send_all(stream, &seen, 12, 5000000);
        waiter_wait(seen.ended, -1);
        g_assert_no_error(seen.error);
        g_assert_cmpstr(seen.last, ==, "12 60000000");
        rpc_client_stream_unref(stream);
        seen_done(&seen);
}

static void test_large_messages_take_turns(struct fixture *f, gconstpointer data)
{
        // The budget holds one of them at a time; all arrive.
        struct seen seen[6] = {0};
        struct rpc_client_stream *streams[G_N_ELEMENTS(seen)];
        g_autofree char *bytes = g_malloc0(5000000);
        Google__Protobuf__Any message = any("", bytes, 5000000);
        for (unsigned i = 0; i < G_N_ELEMENTS(seen); i++) {
                streams[i] = open_stream(f, "Sum", RPC_CLIENT_STREAM, NULL, &seen[i]);
                rpc_client_stream_send(streams[i], &message.base);
                rpc_client_stream_half_close(streams[i]);
        }
        for (unsigned i = 0; i < G_N_ELEMENTS(seen); i++) {
                waiter_wait(seen[i].ended, -1);
                g_assert_no_error(seen[i].error);
                g_assert_cmpstr(seen[i].last, ==, "1 5000000");
                rpc_client_stream_unref(streams[i]);
                seen_done(&seen[i]);
        }
}

static void test_handler_ends_a_stream_with_an_error(struct fixture *f, gconstpointer data)
{
        struct seen seen = {0};
        Google__Protobuf__Any bad = any("bad", NULL, 0);
        struct rpc_client_stream *stream = open_stream(f, "Chat", RPC_BIDI_STREAM, &bad, &seen);
        waiter_wait(seen.ended, -1);
        g_assert_error(seen.error, SKIFF_ERROR, ERROR_ABORTED);
        g_assert_cmpstr(seen.error->message, ==, "bad message");
        g_assert_false(rpc_client_stream_send(stream, &bad.base));
        rpc_client_stream_unref(stream);
        seen_done(&seen);

        struct seen refused = {0};
        atomic_store(&f->service.refuse, true);
        stream = open_stream(f, "Chat", RPC_BIDI_STREAM, NULL, &refused);
        waiter_wait(refused.ended, -1);
        g_assert_error(refused.error, SKIFF_ERROR, ERROR_PERMISSION_DENIED);
        rpc_client_stream_unref(stream);
        seen_done(&refused);
}

static void test_client_cancels_a_stream(struct fixture *f, gconstpointer data)
{
        struct seen seen = {0};
        Google__Protobuf__Any hello = any("hello", NULL, 0);
        struct rpc_client_stream *stream = open_stream(f, "Chat", RPC_BIDI_STREAM, &hello, &seen);
        wait_for(&seen.n_messages, 1);
        rpc_client_stream_cancel(stream);
        waiter_wait(seen.ended, -1);
        g_assert_error(seen.error, SKIFF_ERROR, ERROR_CANCELED);
        wait_for(&f->service.n_cancelled, 1);
        wait_for(&f->service.n_closed, 1);
        rpc_client_stream_unref(stream);
        seen_done(&seen);
}

// ---- flow control

static void test_slow_reader_holds_the_sender_back(struct fixture *f, gconstpointer data)
{
        const unsigned n = 20000;
        struct seen seen = {0};
        g_autofree char *bytes = g_malloc0(4096);
        Google__Protobuf__Any first = any("20000", bytes, 4096);
        struct rpc_client_stream *stream = open_stream(f, "Count", RPC_SERVER_STREAM, &first, &seen);
        rpc_client_stream_pause(stream);
        // Other calls get through meanwhile, and the sender stops: 80 MB would otherwise be queued.
        unsigned before;
        do {
                before = atomic_load(&f->service.n_sent);
                for (int i = 0; i < 50; i++)
                        ASSERT_CALL(f, "Echo", "a", "b", "a/1");
        } while (atomic_load(&f->service.n_sent) != before);
        g_assert_cmpuint(before, <, (2 * 1024 * 1024) / 4096 + atomic_load(&seen.n_messages));
        rpc_client_stream_resume(stream);
        waiter_wait(seen.ended, -1);
        g_assert_no_error(seen.error);
        g_assert_cmpuint(seen.n_messages, ==, n);
        rpc_client_stream_unref(stream);
        seen_done(&seen);
}

static void test_empty_messages_weigh_something(struct fixture *f, gconstpointer data)
{
        struct seen seen = {0};
        Google__Protobuf__Any first = any("300000", NULL, 0);
        struct rpc_client_stream *stream = open_stream(f, "Count", RPC_SERVER_STREAM, &first, &seen);
        rpc_client_stream_pause(stream);
        unsigned before;
        do {
                before = atomic_load(&f->service.n_sent);
                for (int i = 0; i < 50; i++)
                        ASSERT_CALL(f, "Echo", "a", "b", "a/1");
        } while (atomic_load(&f->service.n_sent) != before);
        g_assert_cmpuint(before, <, 100000 + atomic_load(&seen.n_messages));
        rpc_client_stream_cancel(stream);
        waiter_wait(seen.ended, -1);
        rpc_client_stream_unref(stream);
        seen_done(&seen);
}

static void test_stuck_handler_holds_the_client_back(struct fixture *f, gconstpointer data)
{
        struct seen seen[20] = {0};
        struct rpc_client_stream *streams[G_N_ELEMENTS(seen)];
        g_autofree char *bytes = g_malloc0(100000);
        Google__Protobuf__Any message = any("", bytes, 100000);
        for (unsigned i = 0; i < G_N_ELEMENTS(seen); i++) {
                streams[i] = open_stream(f, "Stuck", RPC_CLIENT_STREAM, NULL, &seen[i]);
                unsigned n = 0;
                while (rpc_client_stream_send(streams[i], &message.base))
                        g_assert_cmpuint(n++, <, 100);
        }
        ASSERT_CALL(f, "Echo", "a", "b", "a/1");
        for (unsigned i = 0; i < G_N_ELEMENTS(seen); i++) {
                rpc_client_stream_cancel(streams[i]);
                waiter_wait(seen[i].ended, -1);
                rpc_client_stream_unref(streams[i]);
                seen_done(&seen[i]);
        }
}

// ---- many

static void test_thousands_of_calls_wait_at_once(struct fixture *f, gconstpointer data)
{
        enum { N = 3000 };
        g_autofree struct answer *answers = g_new0(struct answer, N);
        AUTO(cancel) cancel = cancel_new();
        Google__Protobuf__Any message = any("", "", 0);
        struct rpc_request request = request_to("Hold", &message);
        request.cancel = cancel;
        for (unsigned i = 0; i < N; i++) {
                answers[i].waiter = waiter_new();
                rpc_client_call(f->client, &request, on_done, &answers[i]);
        }
        wait_for(&f->service.n_held, N);
        ASSERT_CALL(f, "Echo", "a", "b", "a/1");
        cancel_trigger(cancel, ERROR_CANCELED, "enough");
        for (unsigned i = 0; i < N; i++) {
                waiter_wait(answers[i].waiter, -1);
                g_assert_cmpint(answers[i].code, ==, ERROR_CANCELED);
                waiter_free(answers[i].waiter);
        }
        ASSERT_CALL(f, "Echo", "a", "b", "a/1");
}

static void test_hundreds_of_connections(struct fixture *f, gconstpointer data)
{
        enum { N = 200 };
        struct rpc_client *first = f->client, *clients[N];
        for (unsigned i = 0; i < N; i++)
                clients[i] = rpc_client_new(f->loop, RPC_GRPC, connect_server(f), NULL);
        for (unsigned i = 0; i < N; i++) {
                f->client = clients[i];
                ASSERT_CALL(f, "Echo", "a", "b", "a/1");
        }
        for (unsigned i = 0; i < N; i++)
                rpc_client_unref(clients[i]);
        f->client = first;
}

// ---- ends

static void test_drain_lets_calls_finish(struct fixture *f, gconstpointer data)
{
        struct seen seen = {0};
        Google__Protobuf__Any hello = any("hello", NULL, 0);
        struct rpc_client_stream *stream = open_stream(f, "Chat", RPC_BIDI_STREAM, &hello, &seen);
        wait_for(&seen.n_messages, 1);
        struct answer answer = {.waiter = waiter_new()};
        Google__Protobuf__Any large = any("8000000", "", 0);
        struct rpc_request request = request_to("Large", &large);
        rpc_client_call(f->client, &request, on_done, &answer);
        ASSERT_CALL(f, "Echo", "a", "b", "a/1");
        drain(f);
        waiter_wait(answer.waiter, -1);
        g_assert_cmpint(answer.code, ==, 0);
        waiter_wait(seen.ended, -1);
        g_assert_error(seen.error, SKIFF_ERROR, ERROR_UNAVAILABLE);
        waiter_wait(f->closed, -1);
        g_assert_true(rpc_client_is_closed(f->client));
        g_autofree char *late = call(f, "Echo", "a", "b");
        g_assert_true(g_str_has_prefix(late, "14 "));
        waiter_free(answer.waiter);
        rpc_client_stream_unref(stream);
        seen_done(&seen);
}

static void test_client_that_goes_cancels_its_calls(struct fixture *f, gconstpointer data)
{
        struct answer answer = {.waiter = waiter_new()};
        Google__Protobuf__Any message = any("", "", 0);
        struct rpc_request request = request_to("Hold", &message);
        struct rpc_client *client = rpc_client_new(f->loop, RPC_GRPC, connect_server(f), NULL);
        rpc_client_call(client, &request, on_done, &answer);
        wait_for(&f->service.n_held, 1);
        rpc_client_unref(client);
        waiter_wait(answer.waiter, -1);
        g_assert_cmpint(answer.code, !=, 0);
        waiter_free(answer.waiter);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        static const struct rpc_server_options plain, little = {.max_connection_queue_bytes = 6000000},
                                                      little_in_all = {.max_total_queue_bytes = 6000000};
#define ADD(name) g_test_add("/grpc/" #name, struct fixture, &plain, set_up, test_##name, tear_down)
        ADD(unary_calls_are_answered);
        ADD(unknown_service_is_named);
        ADD(metadata_arrives);
        ADD(deadline_ends_both_sides);
        ADD(cancel_token_ends_the_call);
        ADD(messages_up_to_the_limit_pass);
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
        ADD(thousands_of_calls_wait_at_once);
        ADD(hundreds_of_connections);
        ADD(drain_lets_calls_finish);
        ADD(client_that_goes_cancels_its_calls);
        g_test_add("/grpc/large_messages_take_turns_on_a_connection", struct fixture, &little, set_up,
                test_large_messages_take_turns, tear_down);
        g_test_add("/grpc/large_messages_take_turns_on_a_server", struct fixture, &little_in_all, set_up,
                test_large_messages_take_turns, tear_down);
        return g_test_run();
}
