// SPDX-License-Identifier: Apache-2.0
//
// Tasks.Create: from the container's record and the request to what the task runtime is asked for. Everything is
// borrowed from the call's arena, which lives until the answer.
#include "services/tasks.h"

#include "containerd/runc.pb-c.h"
#include "core/convert.h"
#include "services/service.h"

#include <string.h>

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

// The directory to restore from, if the client has one.
static bool set_checkpoint(
        struct arena *arena, const Tasks__CreateTaskRequest *request, struct task_create *create, GError **error)
{
        create->checkpoint = "";
        const Google__Protobuf__Any *options = request->options;
        if (options != NULL && strcmp(options->type_url, runc__options__descriptor.name) == 0) {
                const Runc__Options *runc =
                        runc__options__unpack(arena_allocator(arena), options->value.len, options->value.data);
                if (runc == NULL)
                        return error_fail(
                                error, ERROR_INVALID_ARGUMENT, "invalid task create option for %s", create->runtime);
                create->checkpoint = runc->criu_image_path;
        }
        const Types__Descriptor *checkpoint = request->checkpoint;
        for (size_t i = 0; checkpoint != NULL && i < checkpoint->n_annotations; i++) {
                if (strcmp(checkpoint->annotations[i]->key, "RestoreFromPath") == 0)
                        create->checkpoint = checkpoint->annotations[i]->value;
        }
        if (checkpoint != NULL && *create->checkpoint == '\0' &&
                strcmp(checkpoint->media_type, MEDIA_TYPE_CHECKPOINT) != 0)
                return error_fail(error, ERROR_UNKNOWN, "unsupported checkpoint type \"%s\"", checkpoint->media_type);
        return true;
}

static void reply(struct tasks_pending *pending, const ProtobufCMessage *message)
{
        Tasks__CreateTaskResponse response = TASKS__CREATE_TASK_RESPONSE__INIT;
        response.container_id = (char *)pending->id;
        response.pid = ((const ShimV3__CreateTaskResponse *)message)->pid;
        rpc_call_reply(pending->call, &response.base);
}

struct restoring {
        struct tasks_service *service;
        struct tasks_pending *pending;
        struct task_create *create;
        char *directory; // from the heap
};

static void on_restored(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct restoring *restoring = data;
        g_autofree char *directory = restoring->directory;
        if (error != NULL)
                checkpoints_remove_directory(restoring->service->checkpoints, g_steal_pointer(&directory));
        tasks_answer(restoring->pending, response, error);
}

static void on_loaded(void *data, char *directory, const GError *error)
{
        struct restoring *restoring = data;
        struct tasks_service *service = restoring->service;
        struct rpc_call *call = restoring->pending->call;
        if (error != NULL) {
                rpc_call_fail(call, g_error_copy(error));
                return;
        }
        restoring->directory = directory;
        restoring->create->checkpoint = directory;
        restoring->create->takes_checkpoint = true;
        service->runtime->ops->create(
                service->runtime, restoring->create, rpc_call_cancel(call), on_restored, restoring);
}

static bool restore(
        struct tasks_service *service, struct tasks_pending *pending, struct task_create *create, GError **error)
{
        struct rpc_call *call = pending->call;
        const Tasks__CreateTaskRequest *request = (const Tasks__CreateTaskRequest *)rpc_call_request(call);
        struct restoring *restoring = arena_new0(rpc_call_arena(call), struct restoring);
        *restoring = (struct restoring){.service = service, .pending = pending, .create = create};
        struct scope scope;
        return service_scope(call, &scope, error) &&
               checkpoints_load(service->checkpoints, &scope, request->checkpoint->digest, rpc_call_cancel(call),
                       on_loaded, restoring, error);
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
                .options = any_from_proto(request->options),
                .spec = container.spec,
                .stdin_path = request->stdin,
                .stdout_path = request->stdout,
                .stderr_path = request->stderr,
                .terminal = request->terminal,
        };
        set_rootfs(arena, request, create);
        pending->reply = reply;
        pending->id = request->container_id;
        GError *error = NULL;
        bool ours = set_checkpoint(arena, request, create, &error) && request->checkpoint != NULL &&
                    *create->checkpoint == '\0';
        if (ours)
                restore(service, pending, create, &error);
        if (error != NULL)
                rpc_call_fail(call, error);
        if (ours || error != NULL)
                return;
        service->runtime->ops->create(service->runtime, create, rpc_call_cancel(call), tasks_answer, pending);
}
