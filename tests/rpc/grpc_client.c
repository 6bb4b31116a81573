// SPDX-License-Identifier: Apache-2.0
//
// Our client against somebody else's server: makes one call or stream and prints what came, a line each.
//   grpc_client SOCKET unary|server|client|bidi METHOD TEXT [TIMEOUT_MS]
// A client stream sends TEXT five times, the others once; all in google.protobuf.Any, as test_service.h has it.
#include "google/protobuf/any.pb-c.h"
#include "io/loop.h"
#include "io/waiter.h"
#include "rpc/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct program {
        struct loop *loop;
        struct waiter *ended;
};

static void print_end(const GError *error)
{
        if (error == NULL)
                printf("ok\n");
        else
                printf("error %d %s\n", error->code, error->message);
}

static void print_message(const ProtobufCMessage *message)
{
        const Google__Protobuf__Any *any = (const Google__Protobuf__Any *)message;
        printf("%s/%zu\n", any->type_url, any->value.len);
}

static void on_done(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct program *program = data;
        if (response != NULL)
                print_message(response);
        print_end(error);
        waiter_signal(program->ended);
}

static void on_message(void *data, struct rpc_client_stream *stream, const ProtobufCMessage *message)
{
        print_message(message);
}

static void on_end(void *data, struct rpc_client_stream *stream, const GError *error)
{
        struct program *program = data;
        print_end(error);
        waiter_signal(program->ended);
}

static void run_stream(
        struct program *program, struct rpc_client *client, const struct rpc_request *request, const char *kind)
{
        static const struct rpc_client_stream_handler handler = {.on_message = on_message, .on_end = on_end};
        enum rpc_kind rpc_kind = strcmp(kind, "server") == 0   ? RPC_SERVER_STREAM
                                 : strcmp(kind, "client") == 0 ? RPC_CLIENT_STREAM
                                                               : RPC_BIDI_STREAM;
        struct rpc_client_stream *stream = rpc_client_stream_open(client, request, rpc_kind, &handler, program);
        if (rpc_kind != RPC_SERVER_STREAM) {
                for (int i = 1; i < 5; i++)
                        rpc_client_stream_send(stream, request->message);
                rpc_client_stream_half_close(stream);
        }
        waiter_wait(program->ended, -1);
        rpc_client_stream_unref(stream);
}

static void run_loop(void *data)
{
        loop_run(data);
}

static void stop(void *data)
{
        loop_stop(data);
}

int main(int argc, char **argv)
{
        if (argc < 5) {
                fprintf(stderr, "usage: grpc_client SOCKET unary|server|client|bidi METHOD TEXT [TIMEOUT_MS]\n");
                return 2;
        }
        g_autoptr(GError) error = NULL;
        int fd = rpc_connect_unix(argv[1], 5000, &error);
        if (fd < 0) {
                print_end(error);
                return 1;
        }
        struct program program = {loop_new(NULL), waiter_new()};
        struct rpc_client *client = rpc_client_new(program.loop, RPC_GRPC, fd, NULL);
        uv_thread_t thread;
        uv_thread_create(&thread, run_loop, program.loop);

        Google__Protobuf__Any message = GOOGLE__PROTOBUF__ANY__INIT;
        message.type_url = argv[4];
        const char *metadata[] = {"containerd-namespace", "testing", NULL};
        struct rpc_request request = {
                .service = "skiff.test.Service",
                .method = argv[3],
                .message = &message.base,
                .response = &google__protobuf__any__descriptor,
                .metadata = metadata,
                .timeout_ns = argc > 5 ? (int64_t)atoi(argv[5]) * 1000000 : 0,
        };
        if (strcmp(argv[2], "unary") == 0) {
                rpc_client_call(client, &request, on_done, &program);
                waiter_wait(program.ended, -1);
        } else {
                run_stream(&program, client, &request, argv[2]);
        }

        rpc_client_unref(client);
        loop_post(program.loop, stop, program.loop);
        uv_thread_join(&thread);
        loop_free(program.loop);
        waiter_free(program.ended);
        return 0;
}
