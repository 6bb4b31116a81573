// SPDX-License-Identifier: Apache-2.0
//
// Serves the test service on a unix socket until SIGTERM, then drains: what test_grpc.py and a person with any gRPC
// client talk to. grpc_server SOCKET
#include "io/loop.h"
#include "rpc/test_service.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

struct program {
        struct loop *loop;
        struct rpc_server *server;
};

static void on_drained(void *data)
{
        loop_stop(((struct program *)data)->loop);
}

static void on_signal(uv_signal_t *signal, int number)
{
        struct program *program = signal->data;
        uv_close((uv_handle_t *)signal, NULL);
        rpc_server_drain(program->server, 2000, on_drained, program);
}

static int listen_on(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        if (strlen(path) >= sizeof address.sun_path)
                return -1;
        memcpy(address.sun_path, path, strlen(path) + 1);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, SOMAXCONN) < 0)
                return -1;
        return fd;
}

int main(int argc, char **argv)
{
        int fd = argc == 2 ? listen_on(argv[1]) : -1;
        if (fd < 0) {
                fprintf(stderr, "usage: grpc_server SOCKET (which must not exist)\n");
                return 2;
        }
        struct test_service service = {0};
        struct program program = {.loop = loop_new(NULL)};
        struct lanes *lanes = lanes_new(NULL);
        program.server = rpc_server_new(program.loop, lanes, NULL);
        rpc_server_add(program.server, &test_service, &service, RPC_GRPC);
        uv_signal_t signal = {.data = &program};
        uv_signal_init(loop_uv(program.loop), &signal);
        uv_signal_start(&signal, on_signal, SIGTERM);
        if (!rpc_server_listen(program.server, RPC_GRPC, fd, NULL))
                return 1;
        printf("ready\n");
        fflush(stdout);
        loop_run(program.loop);
        rpc_server_free(program.server);
        lanes_free(lanes);
        loop_free(program.loop);
        return 0;
}
