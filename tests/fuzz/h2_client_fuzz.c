// SPDX-License-Identifier: Apache-2.0
// What a gRPC server (a shim, a proxy plugin) may answer to the client: the bytes of its side of a connection on which
// a unary call and a stream were begun.
#include "fuzz.h"
#include "google/protobuf/any.pb-c.h"
#include "io/loop.h"
#include "rpc/client.h"

#include <sys/socket.h>
#include <unistd.h>

static void on_done(void *data, const ProtobufCMessage *response, const GError *error)
{
        ++*(unsigned *)data;
}

static void on_message(void *data, struct rpc_client_stream *stream, const ProtobufCMessage *message)
{
        rpc_client_stream_send(stream, message);
}

static void on_end(void *data, struct rpc_client_stream *stream, const GError *error)
{
        ++*(unsigned *)data;
}

static void run(struct loop *loop)
{
        for (int i = 0; i < 4; i++)
                uv_run(loop_uv(loop), UV_RUN_NOWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct rpc_client_stream_handler handler = {.on_message = on_message, .on_end = on_end};
        int ends[2];
        if (size > 64 * 1024 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
                return 0;
        struct loop *loop = loop_new(NULL);
        struct rpc_client_options options = {.max_message_bytes = 64 * 1024};
        struct rpc_client *client = rpc_client_new(loop, RPC_GRPC, ends[0], &options);
        Google__Protobuf__Any message = GOOGLE__PROTOBUF__ANY__INIT;
        struct rpc_request request = {.service = "S",
                .method = "M",
                .message = &message.base,
                .response = &google__protobuf__any__descriptor};
        unsigned n_ended = 0;
        rpc_client_call(client, &request, on_done, &n_ended);
        struct rpc_client_stream *stream =
                rpc_client_stream_open(client, &request, RPC_BIDI_STREAM, &handler, &n_ended);
        run(loop);
        ssize_t n = send(ends[1], data, size / 2, MSG_NOSIGNAL);
        run(loop);
        if (n >= 0)
                send(ends[1], data + n, size - (size_t)n, MSG_NOSIGNAL);
        run(loop);
        close(ends[1]);
        while (n_ended < 2)
                uv_run(loop_uv(loop), UV_RUN_ONCE);
        rpc_client_stream_unref(stream);
        rpc_client_unref(client);
        run(loop);
        loop_free(loop);
        return 0;
}
