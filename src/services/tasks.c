// SPDX-License-Identifier: Apache-2.0
//
// containerd.services.tasks.v1.Tasks: each method looks the container up, translates the request into the shim's, and
// passes it to the task runtime. No thread waits for a shim.
#include "services/tasks.h"

#include "base/identifier.h"
#include "rpc/server.h"
#include "services/service.h"
#include "services/services.h"

#include "containerd/runc.pb-c.h"

#include <string.h>

#define STATE_TIMEOUT_NS (2 * INT64_C(1000000000))

struct tasks_pending *tasks_begin(
        struct tasks_service *service, struct rpc_call *call, const char *container_id, struct container *ret_container)
{
        GError *error = NULL;
        struct container container;
        const char *namespace_ = service_namespace(call, &error);
        if (namespace_ == NULL || !container_get(service->metadata, namespace_, container_id, rpc_call_arena(call),
                                          ret_container != NULL ? ret_container : &container, &error)) {
                rpc_call_fail(call, error);
                return NULL;
        }
        struct tasks_pending *pending = arena_new0(rpc_call_arena(call), struct tasks_pending);
        pending->call = call;
        return pending;
}

void tasks_answer(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct tasks_pending *pending = data;
        if (error != NULL)
                rpc_call_fail(pending->call, g_error_copy(error));
        else if (pending->reply != NULL)
                pending->reply(pending, response);
        else
                service_reply_empty(pending->call, NULL);
}

static void forward(struct tasks_service *service, struct tasks_pending *pending, const char *container_id,
        enum task_method method, const ProtobufCMessage *request)
{
        struct task_call call = {
                .namespace_ = service_namespace(pending->call, NULL),
                .id = container_id,
                .method = method,
                .request = request,
                .timeout_ns = method == TASK_STATE ? STATE_TIMEOUT_NS : 0,
                .cancel = rpc_call_cancel(pending->call),
        };
        service->runtime->ops->call(service->runtime, &call, tasks_answer, pending);
}

// The messages of the shim API begin alike: `id` is the container's.
#define NEW_REQUEST(arena, type, prefix, container)                                                                    \
        ({                                                                                                             \
                type *new_request = arena_new0(arena, type);                                                           \
                prefix##__init(new_request);                                                                           \
                new_request->id = (container);                                                                         \
                new_request;                                                                                           \
        })

static void reply_start(struct tasks_pending *pending, const ProtobufCMessage *message)
{
        Tasks__StartResponse response = TASKS__START_RESPONSE__INIT;
        response.pid = ((const ShimV3__StartResponse *)message)->pid;
        rpc_call_reply(pending->call, &response.base);
}

static void on_start(struct rpc_call *call, void *service)
{
        const Tasks__StartRequest *request = (const Tasks__StartRequest *)rpc_call_request(call);
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, NULL);
        if (pending == NULL)
                return;
        ShimV3__StartRequest *start =
                NEW_REQUEST(rpc_call_arena(call), ShimV3__StartRequest, shim_v3__start_request, request->container_id);
        start->exec_id = request->exec_id;
        pending->reply = reply_start;
        forward(service, pending, request->container_id, TASK_START, &start->base);
}

static void reply_delete(struct tasks_pending *pending, const ProtobufCMessage *message)
{
        const ShimV3__DeleteResponse *deleted = (const ShimV3__DeleteResponse *)message;
        Tasks__DeleteResponse response = TASKS__DELETE_RESPONSE__INIT;
        response.id = (char *)pending->id;
        response.pid = deleted->pid;
        response.exit_status = deleted->exit_status;
        response.exited_at = deleted->exited_at;
        rpc_call_reply(pending->call, &response.base);
}

static void on_delete(struct rpc_call *call, void *object)
{
        struct tasks_service *service = object;
        const Tasks__DeleteTaskRequest *request = (const Tasks__DeleteTaskRequest *)rpc_call_request(call);
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, NULL);
        if (pending == NULL)
                return;
        pending->reply = reply_delete;
        pending->id = "";
        struct task_call remove = {
                .namespace_ = service_namespace(call, NULL),
                .id = request->container_id,
                .cancel = rpc_call_cancel(call),
        };
        service->runtime->ops->remove(service->runtime, &remove, tasks_answer, pending);
}

static void on_delete_process(struct rpc_call *call, void *service)
{
        const Tasks__DeleteProcessRequest *request = (const Tasks__DeleteProcessRequest *)rpc_call_request(call);
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, NULL);
        if (pending == NULL)
                return;
        if (*request->exec_id == 0) { // the shim would take it for the container itself
                GError *error = NULL;
                error_fail(&error, ERROR_INVALID_ARGUMENT, "exec id cannot be empty");
                rpc_call_fail(call, error);
                return;
        }
        ShimV3__DeleteRequest *delete = NEW_REQUEST(
                rpc_call_arena(call), ShimV3__DeleteRequest, shim_v3__delete_request, request->container_id);
        delete->exec_id = request->exec_id;
        pending->reply = reply_delete;
        pending->id = request->exec_id;
        forward(service, pending, request->container_id, TASK_DELETE_PROCESS, &delete->base);
}

TaskTypes__Process *tasks_process(struct arena *arena, const ShimV3__StateResponse *state, const char *id)
{
        TaskTypes__Process *process = arena_new0(arena, TaskTypes__Process);
        task_types__process__init(process);
        process->id = (char *)id;
        process->pid = state->pid;
        process->status = state->status;
        process->stdin = state->stdin;
        process->stdout = state->stdout;
        process->stderr = state->stderr;
        process->terminal = state->terminal;
        process->exit_status = state->exit_status;
        process->exited_at = state->exited_at;
        return process;
}

static void reply_get(struct tasks_pending *pending, const ProtobufCMessage *message)
{
        Tasks__GetResponse response = TASKS__GET_RESPONSE__INIT;
        response.process =
                tasks_process(rpc_call_arena(pending->call), (const ShimV3__StateResponse *)message, pending->id);
        rpc_call_reply(pending->call, &response.base);
}

static void on_get(struct rpc_call *call, void *service)
{
        const Tasks__GetRequest *request = (const Tasks__GetRequest *)rpc_call_request(call);
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, NULL);
        if (pending == NULL)
                return;
        ShimV3__StateRequest *state =
                NEW_REQUEST(rpc_call_arena(call), ShimV3__StateRequest, shim_v3__state_request, request->container_id);
        state->exec_id = request->exec_id;
        pending->reply = reply_get;
        pending->id = *request->exec_id != 0 ? request->exec_id : request->container_id;
        forward(service, pending, request->container_id, TASK_STATE, &state->base);
}

static void on_kill(struct rpc_call *call, void *service)
{
        const Tasks__KillRequest *request = (const Tasks__KillRequest *)rpc_call_request(call);
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, NULL);
        if (pending == NULL)
                return;
        ShimV3__KillRequest *kill =
                NEW_REQUEST(rpc_call_arena(call), ShimV3__KillRequest, shim_v3__kill_request, request->container_id);
        kill->exec_id = request->exec_id;
        kill->signal = request->signal;
        kill->all = request->all;
        forward(service, pending, request->container_id, TASK_KILL, &kill->base);
}

static bool check_exec_id(const char *exec_id, GError **error)
{
        if (*exec_id == 0)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "exec id cannot be empty");
        if (identifier_validate(exec_id, error))
                return true;
        g_prefix_error(error, "invalid exec id %s: ", exec_id);
        return false;
}

static void on_exec(struct rpc_call *call, void *service)
{
        const Tasks__ExecProcessRequest *request = (const Tasks__ExecProcessRequest *)rpc_call_request(call);
        GError *error = NULL;
        if (!check_exec_id(request->exec_id, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, NULL);
        if (pending == NULL)
                return;
        ShimV3__ExecProcessRequest *exec = NEW_REQUEST(
                rpc_call_arena(call), ShimV3__ExecProcessRequest, shim_v3__exec_process_request, request->container_id);
        exec->exec_id = request->exec_id;
        exec->terminal = request->terminal;
        exec->stdin = request->stdin;
        exec->stdout = request->stdout;
        exec->stderr = request->stderr;
        exec->spec = request->spec;
        forward(service, pending, request->container_id, TASK_EXEC, &exec->base);
}

static void on_resize_pty(struct rpc_call *call, void *service)
{
        const Tasks__ResizePtyRequest *request = (const Tasks__ResizePtyRequest *)rpc_call_request(call);
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, NULL);
        if (pending == NULL)
                return;
        ShimV3__ResizePtyRequest *resize = NEW_REQUEST(
                rpc_call_arena(call), ShimV3__ResizePtyRequest, shim_v3__resize_pty_request, request->container_id);
        resize->exec_id = request->exec_id;
        resize->width = request->width;
        resize->height = request->height;
        forward(service, pending, request->container_id, TASK_RESIZE_PTY, &resize->base);
}

static void on_close_io(struct rpc_call *call, void *service)
{
        const Tasks__CloseIORequest *request = (const Tasks__CloseIORequest *)rpc_call_request(call);
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, NULL);
        if (pending == NULL)
                return;
        ShimV3__CloseIORequest *close = NEW_REQUEST(
                rpc_call_arena(call), ShimV3__CloseIORequest, shim_v3__close_iorequest, request->container_id);
        close->exec_id = request->exec_id;
        close->stdin = request->stdin;
        forward(service, pending, request->container_id, TASK_CLOSE_IO, &close->base);
}

static void on_pause(struct rpc_call *call, void *service)
{
        const Tasks__PauseTaskRequest *request = (const Tasks__PauseTaskRequest *)rpc_call_request(call);
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, NULL);
        if (pending == NULL)
                return;
        ShimV3__PauseRequest *pause =
                NEW_REQUEST(rpc_call_arena(call), ShimV3__PauseRequest, shim_v3__pause_request, request->container_id);
        forward(service, pending, request->container_id, TASK_PAUSE, &pause->base);
}

static void on_resume(struct rpc_call *call, void *service)
{
        const Tasks__ResumeTaskRequest *request = (const Tasks__ResumeTaskRequest *)rpc_call_request(call);
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, NULL);
        if (pending == NULL)
                return;
        ShimV3__ResumeRequest *resume = NEW_REQUEST(
                rpc_call_arena(call), ShimV3__ResumeRequest, shim_v3__resume_request, request->container_id);
        forward(service, pending, request->container_id, TASK_RESUME, &resume->base);
}

static void reply_pids(struct tasks_pending *pending, const ProtobufCMessage *message)
{
        const ShimV3__PidsResponse *pids = (const ShimV3__PidsResponse *)message;
        Tasks__ListPidsResponse response = TASKS__LIST_PIDS_RESPONSE__INIT;
        response.processes = pids->processes;
        response.n_processes = pids->n_processes;
        rpc_call_reply(pending->call, &response.base);
}

static void on_list_pids(struct rpc_call *call, void *service)
{
        const Tasks__ListPidsRequest *request = (const Tasks__ListPidsRequest *)rpc_call_request(call);
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, NULL);
        if (pending == NULL)
                return;
        ShimV3__PidsRequest *pids =
                NEW_REQUEST(rpc_call_arena(call), ShimV3__PidsRequest, shim_v3__pids_request, request->container_id);
        pending->reply = reply_pids;
        forward(service, pending, request->container_id, TASK_PIDS, &pids->base);
}

static void on_update(struct rpc_call *call, void *service)
{
        const Tasks__UpdateTaskRequest *request = (const Tasks__UpdateTaskRequest *)rpc_call_request(call);
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, NULL);
        if (pending == NULL)
                return;
        struct arena *arena = rpc_call_arena(call);
        ShimV3__UpdateTaskRequest *update =
                NEW_REQUEST(arena, ShimV3__UpdateTaskRequest, shim_v3__update_task_request, request->container_id);
        update->resources = request->resources;
        update->n_annotations = request->n_annotations;
        update->annotations = arena_array(arena, ShimV3__UpdateTaskRequest__AnnotationsEntry *, request->n_annotations);
        for (size_t i = 0; i < request->n_annotations; i++) {
                update->annotations[i] = arena_new0(arena, ShimV3__UpdateTaskRequest__AnnotationsEntry);
                shim_v3__update_task_request__annotations_entry__init(update->annotations[i]);
                update->annotations[i]->key = request->annotations[i]->key;
                update->annotations[i]->value = request->annotations[i]->value;
        }
        forward(service, pending, request->container_id, TASK_UPDATE, &update->base);
}

static void reply_wait(struct tasks_pending *pending, const ProtobufCMessage *message)
{
        const ShimV3__WaitResponse *waited = (const ShimV3__WaitResponse *)message;
        Tasks__WaitResponse response = TASKS__WAIT_RESPONSE__INIT;
        response.exit_status = waited->exit_status;
        response.exited_at = waited->exited_at;
        rpc_call_reply(pending->call, &response.base);
}

static void on_wait(struct rpc_call *call, void *service)
{
        const Tasks__WaitRequest *request = (const Tasks__WaitRequest *)rpc_call_request(call);
        struct tasks_pending *pending = tasks_begin(service, call, request->container_id, NULL);
        if (pending == NULL)
                return;
        ShimV3__WaitRequest *wait =
                NEW_REQUEST(rpc_call_arena(call), ShimV3__WaitRequest, shim_v3__wait_request, request->container_id);
        wait->exec_id = request->exec_id;
        pending->reply = reply_wait;
        forward(service, pending, request->container_id, TASK_WAIT, &wait->base);
}

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Create", LANE_FAST, tasks__create_task_request, tasks__create_task_response, tasks_on_create,
                .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY("Start", LANE_FAST, tasks__start_request, tasks__start_response, on_start,
                .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY("Delete", LANE_FAST, tasks__delete_task_request, tasks__delete_response, on_delete,
                .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY("DeleteProcess", LANE_FAST, tasks__delete_process_request, tasks__delete_response,
                on_delete_process, .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY(
                "Get", LANE_FAST, tasks__get_request, tasks__get_response, on_get, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("List", LANE_FAST, tasks__list_tasks_request, tasks__list_tasks_response, tasks_on_list,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Kill", LANE_FAST, tasks__kill_request, google__protobuf__empty, on_kill,
                .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY("Exec", LANE_FAST, tasks__exec_process_request, google__protobuf__empty, on_exec,
                .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY("ResizePty", LANE_FAST, tasks__resize_pty_request, google__protobuf__empty, on_resize_pty,
                .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY("CloseIO", LANE_FAST, tasks__close_iorequest, google__protobuf__empty, on_close_io,
                .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY("Pause", LANE_FAST, tasks__pause_task_request, google__protobuf__empty, on_pause,
                .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY("Resume", LANE_FAST, tasks__resume_task_request, google__protobuf__empty, on_resume,
                .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY("ListPids", LANE_FAST, tasks__list_pids_request, tasks__list_pids_response, on_list_pids,
                .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY("Checkpoint", LANE_FAST, tasks__checkpoint_task_request, tasks__checkpoint_task_response,
                tasks_on_checkpoint, .limit_ms = SERVICE_LIMIT_FILES_MS),
        RPC_METHOD_UNARY("Update", LANE_FAST, tasks__update_task_request, google__protobuf__empty, on_update,
                .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY("Metrics", LANE_FAST, tasks__metrics_request, tasks__metrics_response, tasks_on_metrics,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Wait", LANE_FAST, tasks__wait_request, tasks__wait_response, on_wait),
};

static const struct rpc_service service_table = {
        .name = "containerd.services.tasks.v1.Tasks",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

static void *init(struct plugin_host *host, GError **error)
{
        struct tasks_service *service = g_new0(struct tasks_service, 1);
        service->service = (struct plugin_service){&service_table, service, RPC_GRPC};
        service->metadata = plugin_host_get(host, PLUGIN_METADATA, "bolt");
        service->runtime = plugin_host_get(host, PLUGIN_RUNTIME_V2, "task");
        service->content = plugin_host_get(host, PLUGIN_CONTENT, "content");
        struct differ *differ = plugin_host_get(host, PLUGIN_DIFFER, "walking");
        if (service->metadata == NULL || service->runtime == NULL || service->content == NULL || differ == NULL) {
                error_fail(error, ERROR_FAILED_PRECONDITION, "a store, differ or task runtime did not start");
                g_free(service);
                return NULL;
        }
        service->checkpoints =
                checkpoints_new(differ, service->content, plugin_host_lanes(host), plugin_host_root_dir(host));
        return service;
}

static void stop(void *instance)
{
        struct tasks_service *service = instance;
        checkpoints_free(service->checkpoints);
        g_free(service);
}

const struct plugin tasks_service_plugin = {
        .type = PLUGIN_GRPC,
        .id = "tasks",
        .requires_ =
                (const struct plugin_requirement[]){
                        {PLUGIN_METADATA, "bolt"},
                        {PLUGIN_RUNTIME_V2, "task"},
                        {PLUGIN_CONTENT, "content"},
                        {PLUGIN_DIFFER, "walking"},
                        {NULL, NULL},
                },
        .init = init,
        .stop = stop,
};
