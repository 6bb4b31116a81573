// SPDX-License-Identifier: Apache-2.0
// What a client may write to a gRPC server: the bytes of a connection (HTTP/2 frames), to the test service.
#include "fuzz.h"
#include "io/loop.h"
#include "rpc/test_service.h"

#include <sys/socket.h>
#include <unistd.h>

static void on_drained(void *data)
{
        *(bool *)data = true;
}

static void run(struct loop *loop)
{
        for (int i = 0; i < 4; i++)
                uv_run(loop_uv(loop), UV_RUN_NOWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        int ends[2];
        if (size > 64 * 1024 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
                return 0;
        struct loop *loop = loop_new(NULL);
        struct lanes *lanes = lanes_new_inline(loop);
        struct test_service service = {0};
        struct rpc_server_options options = {.max_message_bytes = 64 * 1024, .max_connection_queue_bytes = 128 * 1024};
        struct rpc_server *server = rpc_server_new(loop, lanes, &options);
        rpc_server_add(server, &test_service, &service, RPC_GRPC);
        rpc_server_add_connection(server, RPC_GRPC, ends[0]);
        // In two pieces, so that what lies across the cut is put together.
        ssize_t n = send(ends[1], data, size / 2, MSG_NOSIGNAL);
        run(loop);
        if (n >= 0)
                send(ends[1], data + n, size - (size_t)n, MSG_NOSIGNAL);
        run(loop);
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
