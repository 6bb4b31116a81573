// SPDX-License-Identifier: Apache-2.0
//
// See grpc_fixture.h. What belongs to the loop's thread is posted to it.
#include "rpc/grpc_fixture.h"

#include <string.h>
#include <sys/socket.h>

static void run_loop(void *data)
{
        loop_run(data);
}

static void add_connection(void *data)
{
        struct {
                struct grpc_fixture *f;
                int fd;
                struct waiter *waiter;
        } *job = data;
        rpc_server_add_connection(job->f->server, RPC_GRPC, job->fd);
        waiter_signal(job->waiter);
}

int grpc_connect(struct grpc_fixture *f)
{
        int ends[2];
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), ==, 0);
        struct {
                struct grpc_fixture *f;
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
        waiter_signal(((struct grpc_fixture *)data)->closed);
}

static void on_call_start(void *data, struct rpc_call *call)
{
        g_assert_cmpstr(rpc_call_service_name(call), ==, "skiff.test.Service");
        atomic_fetch_add(&((struct grpc_fixture *)data)->n_started, 1);
}

static void on_call_end(void *data, struct rpc_call *call, const GError *status)
{
        struct grpc_fixture *f = data;
        g_assert_nonnull(rpc_call_method_name(call));
        atomic_fetch_add(&f->n_failed, status != NULL);
        atomic_fetch_add(&f->n_ended, 1);
}

void grpc_set_up(struct grpc_fixture *f, gconstpointer data)
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
        f->client = rpc_client_new(f->loop, RPC_GRPC, grpc_connect(f), &client_options);
}

static void on_drained(void *data)
{
        waiter_signal(((struct grpc_fixture *)data)->drained);
}

static void start_drain(void *data)
{
        struct grpc_fixture *f = data;
        rpc_server_drain(f->server, 60000, on_drained, f); // longer than a test may take
}

static void free_server(void *data)
{
        struct grpc_fixture *f = data;
        rpc_server_free(f->server);
        loop_stop(f->loop);
}

void grpc_drain(struct grpc_fixture *f)
{
        loop_post(f->loop, start_drain, f);
        g_assert_true(waiter_wait(f->drained, -1));
        f->is_drained = true;
}

void grpc_tear_down(struct grpc_fixture *f, gconstpointer data)
{
        rpc_client_unref(f->client);
        if (!f->is_drained)
                grpc_drain(f);
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

struct rpc_request grpc_request_to(const char *method, const Google__Protobuf__Any *message)
{
        return (struct rpc_request){.service = "skiff.test.Service",
                .method = method,
                .message = message == NULL ? NULL : &message->base,
                .response = &google__protobuf__any__descriptor};
}

Google__Protobuf__Any grpc_any(const char *text, const void *bytes, size_t length)
{
        Google__Protobuf__Any message = GOOGLE__PROTOBUF__ANY__INIT;
        message.type_url = (char *)text;
        message.value.data = (uint8_t *)bytes;
        message.value.len = length;
        return message;
}

// "text/number of bytes", or "code message".
char *grpc_call(struct grpc_fixture *f, const char *method, const char *text, const char *value)
{
        AUTO(arena) arena = arena_new();
        g_autoptr(GError) error = NULL;
        Google__Protobuf__Any message = grpc_any(text, value, strlen(value));
        struct rpc_request request = grpc_request_to(method, &message);
        const Google__Protobuf__Any *response =
                (const Google__Protobuf__Any *)rpc_client_call_wait(f->client, &request, arena, &error);
        if (response == NULL)
                return g_strdup_printf("%d %s", error->code, error->message);
        return g_strdup_printf("%s/%zu", response->type_url, response->value.len);
}

void grpc_wait_for(atomic_uint *counter, unsigned at_least)
{
        while (atomic_load(counter) < at_least)
                uv_sleep(1);
}

static void on_message(void *data, struct rpc_client_stream *stream, const ProtobufCMessage *message)
{
        struct grpc_seen *seen = data;
        const Google__Protobuf__Any *response = (const Google__Protobuf__Any *)message;
        g_free(seen->last);
        seen->last = g_strdup(response->type_url);
        atomic_fetch_add(&seen->n_bytes, response->value.len);
        atomic_fetch_add(&seen->n_messages, 1);
}

static void on_writable(void *data, struct rpc_client_stream *stream)
{
        atomic_fetch_add(&((struct grpc_seen *)data)->n_writable, 1);
}

static void on_end(void *data, struct rpc_client_stream *stream, const GError *error)
{
        struct grpc_seen *seen = data;
        seen->error = error == NULL ? NULL : g_error_copy(error);
        waiter_signal(seen->ended);
}

static const struct rpc_client_stream_handler handler = {on_message, on_writable, on_end};

struct rpc_client_stream *grpc_open_stream(struct grpc_fixture *f, const char *method, enum rpc_kind kind,
        const Google__Protobuf__Any *first, struct grpc_seen *seen)
{
        seen->ended = waiter_new();
        struct rpc_request request = grpc_request_to(method, first);
        return rpc_client_stream_open(f->client, &request, kind, &handler, seen);
}

void grpc_seen_done(struct grpc_seen *seen)
{
        waiter_free(seen->ended);
        g_clear_error(&seen->error);
        g_free(seen->last);
}

void grpc_on_done(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct grpc_answer *answer = data;
        answer->code = error == NULL ? 0 : error->code;
        waiter_signal(answer->waiter);
}
