// SPDX-License-Identifier: Apache-2.0
//
// Tasks.Create: from the container's record and the request to what the task runtime is asked for. Everything is
// borrowed from the call's arena, which lives until the answer.
#include "services/tasks.h"

#include "containerd/runc.pb-c.h"
#include "services/service.h"

#include <string.h>

static struct any any_of(const Google__Protobuf__Any *any)
{
        if (any == NULL)
                return (struct any){0};
        return (struct any){any->type_url, any->value.data, any->value.len};
}

static void set_rootfs(struct arena *arena, const Tasks__CreateTaskRequest *request, struct task_create *create)
{
        struct task_mount *mounts = arena_array(arena, struct task_mount, request->n_rootfs);
        for (size_t i = 0; i < request->n_rootfs; i++) {
                const Types__Mount *mount = request->rootfs[i];
                const char **options = arena_array(arena, const char *, mount->n_options + 1);
                for (size_t k = 0; k < mount->n_options; k++)
                        options[k] = mount->options[k];
                mounts[i] = (struct task_mount){mount->type, mount->source, mount->target, options};
        }
        create->rootfs = mounts;
        create->n_rootfs = request->n_rootfs;
}

static bool set_checkpoint(
        struct arena *arena, const Tasks__CreateTaskRequest *request, struct task_create *create, GError **error)
{
        create->checkpoint = "";
        const Google__Protobuf__Any *options = request->options;
        if (options != NULL && strcmp(options->type_url, "containerd.runc.v1.Options") == 0) {
                const Runc__Options *runc =
                        runc__options__unpack(arena_allocator(arena), options->value.len, options->value.data);
                if (runc == NULL)
                        return error_fail(
                                error, ERROR_INVALID_ARGUMENT, "invalid task create option for %s", create->runtime);
                create->checkpoint = runc->criu_image_path;
        }
        if (request->checkpoint != NULL && *create->checkpoint == 0)
                return error_fail(error, ERROR_UNIMPLEMENTED,
                        "restore from a checkpoint in the content store is not implemented: give the directory of the "
                        "CRIU image in the runtime options");
        return true;
}

static void reply(struct tasks_pending *pending, const ProtobufCMessage *message)
{
        Tasks__CreateTaskResponse response = TASKS__CREATE_TASK_RESPONSE__INIT;
        response.container_id = (char *)pending->id;
        response.pid = ((const ShimV3__CreateTaskResponse *)message)->pid;
        rpc_call_reply(pending->call, &response.base);
}

void tasks_on_create(struct rpc_call *call, void *object)
{
        struct tasks_service *service = object;
        const Tasks__CreateTaskRequest *request = (const Tasks__CreateTaskRequest *)rpc_call_request(call);
        struct arena *arena = rpc_call_arena(call);
        struct container container;
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, &container);
        if (pending == NULL)
                return;
        struct task_create *create = arena_new0(arena, struct task_create);
        *create = (struct task_create){
                .namespace_ = service_namespace(call, NULL),
                .id = request->container_id,
                .runtime = *request->runtime_path != 0 ? request->runtime_path : container.runtime_name,
                .runtime_options = container.runtime_options,
                .options = any_of(request->options),
                .spec = container.spec,
                .stdin_path = request->stdin,
                .stdout_path = request->stdout,
                .stderr_path = request->stderr,
                .terminal = request->terminal,
        };
        set_rootfs(arena, request, create);
        GError *error = NULL;
        if (!set_checkpoint(arena, request, create, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        pending->reply = reply;
        pending->id = request->container_id;
        service->runtime->ops->create(service->runtime, create, rpc_call_cancel(call), tasks_answer, pending);
}
