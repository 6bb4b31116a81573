// SPDX-License-Identifier: Apache-2.0
//
// One RPC connection. References are counted on the loop's thread: each task of the shim holds one.
#include "plugins/runtime_v2/shim.h"

#include "io/loop.h"

struct shim {
        unsigned references;
        char *address;
        int version;
        struct rpc_client *client;
        bool closed;
        void (*on_closed)(void *data);
        void *data;
};

static void on_client_closed(void *data)
{
        struct shim *shim = data;
        shim->closed = true;
        shim_ref(shim);
        shim->on_closed(shim->data);
        shim_unref(shim);
}

struct shim *shim_new(
        struct loop *loop, const struct bundle_address *address, int fd, void (*on_closed)(void *data), void *data)
{
        struct shim *shim = g_new0(struct shim, 1);
        shim->references = 1;
        shim->address = g_strdup(address->address);
        shim->version = address->version;
        shim->on_closed = on_closed;
        shim->data = data;
        enum rpc_protocol protocol = g_str_equal(address->protocol, "grpc") ? RPC_GRPC : RPC_TTRPC;
        struct rpc_client_options options = {.on_closed = on_client_closed, .data = shim};
        shim->client = rpc_client_new(loop, protocol, fd, &options);
        return shim;
}

struct shim *shim_ref(struct shim *shim)
{
        shim->references++;
        return shim;
}

void shim_unref(struct shim *shim)
{
        if (shim == NULL || --shim->references > 0)
                return;
        rpc_client_unref(shim->client);
        g_free(shim->address);
        g_free(shim);
}

const char *shim_address(const struct shim *shim)
{
        return shim->address;
}

bool shim_is_closed(const struct shim *shim)
{
        return shim->closed;
}

unsigned shim_n_references(const struct shim *shim)
{
        return shim->references;
}

void shim_call(struct shim *shim, const struct shim_call *call, task_done_fn done, void *data)
{
        const char *const metadata[] = {
                "containerd-namespace-ttrpc", call->namespace_, "containerd-namespace", call->namespace_, NULL};
        struct rpc_request request = {
                .service = shim->version >= 3 ? "containerd.task.v3.Task" : "containerd.task.v2.Task",
                .method = call->method,
                .message = call->request,
                .response = call->response,
                .metadata = metadata,
                .timeout_ns = call->timeout_ns,
                .cancel = call->cancel,
        };
        rpc_client_call(shim->client, &request, done, data);
}
