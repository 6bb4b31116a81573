// SPDX-License-Identifier: Apache-2.0
//
// gRPC from end to end: calls, many of them, and how connections end.
#include "base/clock.h"
#include "rpc/grpc_fixture.h"

#include <string.h>
#include <unistd.h>

// ---- unary calls

static void test_unary_calls_are_answered(struct grpc_fixture *f, gconstpointer data)
{
        ASSERT_CALL(f, "Echo", "a", "bc", "a/2");
        ASSERT_CALL(f, "Echo", "", "", "/0");
        ASSERT_CALL(f, "Fail", "image \"x\": not found", "5", "5 image \"x\": not found");
        ASSERT_CALL(f, "Fail", "ä%\n\x01", "2", "2 ä%\n\x01");
        ASSERT_CALL(f, "None", "", "", "12 unknown method None for service skiff.test.Service");
        grpc_wait_for(&f->n_ended, 4);
        g_assert_cmpuint(atomic_load(&f->n_failed), ==, 2);
}

static void test_unknown_service_is_named(struct grpc_fixture *f, gconstpointer data)
{
        AUTO(arena) arena = arena_new();
        g_autoptr(GError) error = NULL;
        Google__Protobuf__Any message = grpc_any("", "", 0);
        struct rpc_request request = grpc_request_to("Echo", &message);
        request.service = "no.Such";
        g_assert_null(rpc_client_call_wait(f->client, &request, arena, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_UNIMPLEMENTED);
        g_assert_cmpstr(error->message, ==, "unknown service no.Such");
}

static void test_metadata_arrives(struct grpc_fixture *f, gconstpointer data)
{
        AUTO(arena) arena = arena_new();
        Google__Protobuf__Any message = grpc_any("containerd-namespace", "", 0);
        const char *metadata[] = {"x", "1", "containerd-namespace", "k8s.io", NULL};
        struct rpc_request request = grpc_request_to("Metadata", &message);
        request.metadata = metadata;
        const Google__Protobuf__Any *response =
                (const Google__Protobuf__Any *)rpc_client_call_wait(f->client, &request, arena, NULL);
        g_assert_cmpmem(response->value.data, response->value.len, "k8s.io", 6);
}

static void test_deadline_ends_both_sides(struct grpc_fixture *f, gconstpointer data)
{
        AUTO(arena) arena = arena_new();
        g_autoptr(GError) error = NULL;
        Google__Protobuf__Any message = grpc_any("", "", 0);
        struct rpc_request request = grpc_request_to("Hold", &message);
        request.timeout_ns = 30 * 1000000;
        g_assert_null(rpc_client_call_wait(f->client, &request, arena, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_DEADLINE_EXCEEDED);
        g_assert_cmpstr(error->message, ==, "context deadline exceeded");
        ASSERT_CALL(f, "Echo", "still", "there", "still/5");
}

static void test_limit_of_a_method_ends_calls_without_a_deadline(struct grpc_fixture *f, gconstpointer data)
{
        ASSERT_CALL(
                f, "Brief", "", "", "4 not done within the 0.03 s that the method may take: context deadline exceeded");
        g_assert_cmpuint(atomic_load(&f->service.n_held), ==, 1);

        AUTO(arena) arena = arena_new();
        g_autoptr(GError) error = NULL;
        Google__Protobuf__Any message = grpc_any("", "", 0);
        struct rpc_request request = grpc_request_to("Brief", &message);
        request.timeout_ns = 3600 * NS_PER_SECOND; // farther away
        g_assert_null(rpc_client_call_wait(f->client, &request, arena, &error));
        g_assert_true(g_str_has_prefix(error->message, "not done within"));
        g_clear_error(&error);
        request.timeout_ns = 1;
        g_assert_null(rpc_client_call_wait(f->client, &request, arena, &error));
        g_assert_cmpstr(error->message, ==, "context deadline exceeded");
}

static void test_cancel_token_ends_the_call(struct grpc_fixture *f, gconstpointer data)
{
        struct grpc_answer answer = {.waiter = waiter_new()};
        AUTO(cancel) cancel = cancel_new();
        Google__Protobuf__Any message = grpc_any("", "", 0);
        struct rpc_request request = grpc_request_to("Hold", &message);
        request.cancel = cancel;
        rpc_client_call(f->client, &request, grpc_on_done, &answer);
        grpc_wait_for(&f->service.n_held, 1);
        cancel_trigger(cancel, ERROR_CANCELED, "enough");
        waiter_wait(answer.waiter, -1);
        g_assert_cmpint(answer.code, ==, ERROR_CANCELED);
        // Already triggered: the call is not even begun.
        waiter_free(answer.waiter);
        answer.waiter = waiter_new();
        rpc_client_call(f->client, &request, grpc_on_done, &answer);
        waiter_wait(answer.waiter, -1);
        g_assert_cmpint(answer.code, ==, ERROR_CANCELED);
        waiter_free(answer.waiter);
}

static void test_messages_up_to_the_limit_pass(struct grpc_fixture *f, gconstpointer data)
{
        const size_t limit = 16 * 1024 * 1024;
        g_autofree char *large = g_strnfill(limit - 64, 'x');
        g_autofree char *expected = g_strdup_printf("a/%zu", limit - 64);
        ASSERT_CALL(f, "Echo", "a", large, expected);
        g_autofree char *over = g_strdup_printf("%zu", limit);
        g_autofree char *answer = grpc_call(f, "Large", over, "");
        g_assert_true(
                g_str_has_prefix(answer, "8 grpc: trying to send message larger than max (16777221 vs. 16777216)"));
}

// ---- many

static void test_thousands_of_calls_wait_at_once(struct grpc_fixture *f, gconstpointer data)
{
        enum { N = 3000 };
        g_autofree struct grpc_answer *answers = g_new0(struct grpc_answer, N);
        AUTO(cancel) cancel = cancel_new();
        Google__Protobuf__Any message = grpc_any("", "", 0);
        struct rpc_request request = grpc_request_to("Hold", &message);
        request.cancel = cancel;
        for (unsigned i = 0; i < N; i++) {
                answers[i].waiter = waiter_new();
                rpc_client_call(f->client, &request, grpc_on_done, &answers[i]);
        }
        grpc_wait_for(&f->service.n_held, N);
        ASSERT_CALL(f, "Echo", "a", "b", "a/1");
        cancel_trigger(cancel, ERROR_CANCELED, "enough");
        for (unsigned i = 0; i < N; i++) {
                waiter_wait(answers[i].waiter, -1);
                g_assert_cmpint(answers[i].code, ==, ERROR_CANCELED);
                waiter_free(answers[i].waiter);
        }
        ASSERT_CALL(f, "Echo", "a", "b", "a/1");
}

static void test_hundreds_of_connections(struct grpc_fixture *f, gconstpointer data)
{
        enum { N = 200 };
        struct rpc_client *first = f->client, *clients[N];
        for (unsigned i = 0; i < N; i++)
                clients[i] = rpc_client_new(f->loop, RPC_GRPC, grpc_connect(f), NULL);
        for (unsigned i = 0; i < N; i++) {
                f->client = clients[i];
                ASSERT_CALL(f, "Echo", "a", "b", "a/1");
        }
        for (unsigned i = 0; i < N; i++)
                rpc_client_unref(clients[i]);
        f->client = first;
}

// ---- the list of calls

static void add_line(void *data, const struct rpc_call *call)
{
        int64_t since_ns;
        g_autofree char *waits_for = rpc_call_waits_for(call, &since_ns);
        struct rpc_peer peer = rpc_call_peer(call);
        g_assert_cmpint(peer.pid, ==, getpid());
        g_assert_cmpuint(peer.uid, ==, getuid());
        g_assert_cmpint(rpc_call_started_ns(call), <=, since_ns);
        g_assert_cmpint(since_ns, <=, clock_monotonic_ns());
        g_string_append_printf(data, "%s waits for %s%s\n", rpc_call_method_name(call), waits_for,
                cancel_is_set(rpc_call_cancel(call)) ? ", cancelled" : "");
}

// Waits until the list is that: how far a thread is, nobody is told.
static void wait_for_list(struct grpc_fixture *f, const char *expected)
{
        for (;;) {
                g_autoptr(GString) list = g_string_new(NULL);
                rpc_server_each_call(f->server, add_line, list);
                if (strcmp(list->str, expected) == 0)
                        return;
                uv_sleep(1);
        }
}

static void test_list_says_what_calls_wait_for(struct grpc_fixture *f, gconstpointer data)
{
        struct grpc_answer hold = {.waiter = waiter_new()}, keep = {.waiter = waiter_new()};
        struct grpc_seen chat = {0};
        Google__Protobuf__Any message = grpc_any("the kettle", "", 0);
        AUTO(cancel) cancel = cancel_new();
        struct rpc_request request = grpc_request_to("Hold", &message);
        request.cancel = cancel;
        rpc_client_call(f->client, &request, grpc_on_done, &hold);
        wait_for_list(f, "Hold waits for the kettle\n");
        request.method = "Keep";
        rpc_client_call(f->client, &request, grpc_on_done, &keep);
        wait_for_list(f, "Hold waits for the kettle\nKeep waits for its answer\n");
        struct rpc_client_stream *stream = grpc_open_stream(f, "Chat", RPC_BIDI_STREAM, NULL, &chat);
        wait_for_list(f, "Hold waits for the kettle\nKeep waits for its answer\nChat waits for messages\n");
        rpc_client_stream_half_close(stream);
        waiter_wait(chat.ended, -1);
        // The client goes; the handler that does not mind stays in the list.
        cancel_trigger(cancel, ERROR_CANCELED, "enough");
        wait_for_list(f, "Keep waits for its answer, cancelled\n");
        rpc_call_fail(atomic_load(&f->service.kept), g_error_new_literal(SKIFF_ERROR, ERROR_ABORTED, "too late"));
        wait_for_list(f, "");
        waiter_wait(hold.waiter, -1);
        waiter_wait(keep.waiter, -1);
        waiter_free(hold.waiter);
        waiter_free(keep.waiter);
        rpc_client_stream_unref(stream);
        grpc_seen_done(&chat);
}

// ---- ends

static void test_drain_lets_calls_finish(struct grpc_fixture *f, gconstpointer data)
{
        struct grpc_seen seen = {0};
        Google__Protobuf__Any hello = grpc_any("hello", NULL, 0);
        struct rpc_client_stream *stream = grpc_open_stream(f, "Chat", RPC_BIDI_STREAM, &hello, &seen);
        grpc_wait_for(&seen.n_messages, 1);
        struct grpc_answer answer = {.waiter = waiter_new()};
        Google__Protobuf__Any large = grpc_any("8000000", "", 0);
        struct rpc_request request = grpc_request_to("Large", &large);
        rpc_client_call(f->client, &request, grpc_on_done, &answer);
        struct grpc_answer endless = {.waiter = waiter_new()};
        Google__Protobuf__Any message = grpc_any("endless", NULL, 0);
        request = grpc_request_to("Hold", &message);
        rpc_client_call(f->client, &request, grpc_on_done, &endless);
        ASSERT_CALL(f, "Echo", "a", "b", "a/1");
        grpc_drain(f);
        waiter_wait(answer.waiter, -1);
        g_assert_cmpint(answer.code, ==, 0);
        waiter_wait(endless.waiter, -1);
        g_assert_cmpint(endless.code, ==, ERROR_UNAVAILABLE);
        waiter_free(endless.waiter);
        waiter_wait(seen.ended, -1);
        g_assert_error(seen.error, SKIFF_ERROR, ERROR_UNAVAILABLE);
        waiter_wait(f->closed, -1);
        g_assert_true(rpc_client_is_closed(f->client));
        g_autofree char *late = grpc_call(f, "Echo", "a", "b");
        g_assert_true(g_str_has_prefix(late, "14 "));
        waiter_free(answer.waiter);
        rpc_client_stream_unref(stream);
        grpc_seen_done(&seen);
}

static void test_client_that_goes_cancels_its_calls(struct grpc_fixture *f, gconstpointer data)
{
        struct grpc_answer answer = {.waiter = waiter_new()};
        Google__Protobuf__Any message = grpc_any("", "", 0);
        struct rpc_request request = grpc_request_to("Hold", &message);
        struct rpc_client *client = rpc_client_new(f->loop, RPC_GRPC, grpc_connect(f), NULL);
        rpc_client_call(client, &request, grpc_on_done, &answer);
        grpc_wait_for(&f->service.n_held, 1);
        rpc_client_unref(client);
        waiter_wait(answer.waiter, -1);
        g_assert_cmpint(answer.code, !=, 0);
        waiter_free(answer.waiter);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        static const struct rpc_server_options plain;
#define ADD(name) g_test_add("/grpc/" #name, struct grpc_fixture, &plain, grpc_set_up, test_##name, grpc_tear_down)
        ADD(unary_calls_are_answered);
        ADD(unknown_service_is_named);
        ADD(metadata_arrives);
        ADD(deadline_ends_both_sides);
        ADD(limit_of_a_method_ends_calls_without_a_deadline);
        ADD(cancel_token_ends_the_call);
        ADD(messages_up_to_the_limit_pass);
        ADD(thousands_of_calls_wait_at_once);
        ADD(hundreds_of_connections);
        ADD(list_says_what_calls_wait_for);
        ADD(drain_lets_calls_finish);
        ADD(client_that_goes_cancels_its_calls);
        return g_test_run();
}
