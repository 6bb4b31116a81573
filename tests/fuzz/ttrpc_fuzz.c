// SPDX-License-Identifier: Apache-2.0
// What a client may write to a ttrpc server: the bytes of a connection, to a service with a unary and a streaming
// method.
#include "fuzz.h"
#include "io/loop.h"
#include "rpc/server.h"
#include "ttrpc/ttrpc.pb-c.h"

#include <sys/socket.h>
#include <unistd.h>

static void on_echo(struct rpc_call *call, void *service)
{
        rpc_call_reply(call, rpc_call_request(call));
}

static void *on_open(struct rpc_stream *stream, void *service)
{
        return NULL;
}

static void on_message(void *state, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        rpc_stream_send(stream, message);
}

static void on_half_close(void *state, struct rpc_stream *stream)
{
        rpc_stream_finish(stream, NULL);
}

static void on_close(void *state)
{
}

static void on_drained(void *data)
{
        *(bool *)data = true;
}

static const struct rpc_stream_handler chat = {
        .open = on_open, .on_message = on_message, .on_half_close = on_half_close, .close = on_close};
static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("E", LANE_FAST, ttrpc__key_value, ttrpc__key_value, on_echo),
        RPC_METHOD_STREAM("C", RPC_BIDI_STREAM, LANE_FAST, ttrpc__key_value, ttrpc__key_value, &chat),
};
static const struct rpc_service service = {"S", methods, G_N_ELEMENTS(methods)};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        int ends[2];
        if (size > 64 * 1024 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
                return 0;
        struct loop *loop = loop_new(NULL);
        struct lanes *lanes = lanes_new_inline(loop);
        struct rpc_server *server = rpc_server_new(loop, lanes, NULL);
        rpc_server_add(server, &service, NULL, RPC_TTRPC);
        rpc_server_add_connection(server, RPC_TTRPC, ends[0]);
        // In two pieces, so that the frame at the cut is put together.
        ssize_t n = send(ends[1], data, size / 2, MSG_NOSIGNAL);
        for (int i = 0; i < 3; i++)
                uv_run(loop_uv(loop), UV_RUN_NOWAIT);
        if (n >= 0)
                send(ends[1], data + n, size - (size_t)n, MSG_NOSIGNAL);
        for (int i = 0; i < 3; i++)
                uv_run(loop_uv(loop), UV_RUN_NOWAIT);
        close(ends[1]);
        bool drained = false;
        rpc_server_drain(server, 100, on_drained, &drained);
        while (!drained)
                uv_run(loop_uv(loop), UV_RUN_ONCE);
        rpc_server_free(server);
        lanes_free(lanes);
        loop_free(loop);
        return 0;
}
