// SPDX-License-Identifier: Apache-2.0
//
// The task service of a shim, versions 2 and 3: the messages are the same bytes, so one table of methods serves both
// names. What changes a container is in task_*.c; here are the questions and the small things.
#include "containerd/shim_v3.pb-c.h"
#include "shim/container.h"
#include "shim/metrics.h"

#include "google/protobuf/empty.pb-c.h"

#include <string.h>
#include <unistd.h>

static Google__Protobuf__Any *pack_any(struct arena *arena, const ProtobufCMessage *message)
{
        Google__Protobuf__Any *any = METRICS_NEW(arena, Google__Protobuf__Any, google__protobuf__any__init);
        any->type_url = (char *)message->descriptor->name;
        any->value.data = arena_alloc(arena, protobuf_c_message_get_packed_size(message) + 1);
        any->value.len = protobuf_c_message_pack(message, any->value.data);
        return any;
}

static void task_state(struct rpc_call *call, void *data)
{
        const ShimV3__StateRequest *request = (const ShimV3__StateRequest *)rpc_call_request(call);
        struct container *container = container_of_call(data, call, request->id);
        struct process *process = container != NULL ? process_of_call(container, call, request->exec_id) : NULL;
        if (process == NULL)
                return;
        ShimV3__StateResponse response = SHIM_V3__STATE_RESPONSE__INIT;
        response.id = process->exec_id != NULL ? process->exec_id : container->id;
        response.bundle = container->bundle;
        response.pid = (uint32_t)process->pid;
        response.status = process_status(process);
        response.stdin = process->names[0];
        response.stdout = process->names[1];
        response.stderr = process->names[2];
        response.terminal = process->terminal;
        response.exit_status = process->published ? process->exit_status : 0;
        response.exited_at = process_exited_at(process, rpc_call_arena(call));
        rpc_call_reply(call, &response.base);
}

static void describe_exec(const struct container *container, TaskTypes__ProcessInfo *info, struct arena *arena)
{
        GHashTableIter iter;
        gpointer value;
        g_hash_table_iter_init(&iter, container->execs);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
                const struct process *process = value;
                if (process->reaped || (uint32_t)process->pid != info->pid)
                        continue;
                Runc__ProcessDetails details = RUNC__PROCESS_DETAILS__INIT;
                details.exec_id = process->exec_id;
                info->info = pack_any(arena, &details.base);
        }
}

static GArray *processes_of(const struct container *container)
{
        if (container->cgroup != NULL && cgroup_is_own(container->cgroup))
                return cgroup_processes(container->cgroup);
        // No cgroup of its own: those that we started are all that we know.
        GArray *pids = g_array_new(FALSE, FALSE, sizeof(pid_t));
        if (container->init.pid != 0 && !container->init.reaped)
                g_array_append_val(pids, container->init.pid);
        GHashTableIter iter;
        gpointer value;
        g_hash_table_iter_init(&iter, container->execs);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
                const struct process *process = value;
                if (process->pid != 0 && !process->reaped)
                        g_array_append_val(pids, process->pid);
        }
        return pids;
}

static void task_pids(struct rpc_call *call, void *data)
{
        const ShimV3__PidsRequest *request = (const ShimV3__PidsRequest *)rpc_call_request(call);
        struct container *container = container_of_call(data, call, request->id);
        if (container == NULL)
                return;
        struct arena *arena = rpc_call_arena(call);
        g_autoptr(GArray) pids = processes_of(container);
        ShimV3__PidsResponse response = SHIM_V3__PIDS_RESPONSE__INIT;
        response.n_processes = pids->len;
        response.processes = arena_array(arena, TaskTypes__ProcessInfo *, pids->len + 1);
        for (guint i = 0; i < pids->len; i++) {
                TaskTypes__ProcessInfo *info =
                        METRICS_NEW(arena, TaskTypes__ProcessInfo, task_types__process_info__init);
                info->pid = (uint32_t)g_array_index(pids, pid_t, i);
                describe_exec(container, info, arena);
                response.processes[i] = info;
        }
        rpc_call_reply(call, &response.base);
}

static void task_resize(struct rpc_call *call, void *data)
{
        const ShimV3__ResizePtyRequest *request = (const ShimV3__ResizePtyRequest *)rpc_call_request(call);
        struct container *container = container_of_call(data, call, request->id);
        struct process *process = container != NULL ? process_of_call(container, call, request->exec_id) : NULL;
        GError *error = NULL;
        if (process == NULL)
                return;
        if (process->exec_id != NULL && process->state == PROCESS_STOPPED)
                call_fail(call, ERROR_UNKNOWN, "cannot resize a stopped container");
        else if (process->streams != NULL && !streams_resize(process->streams, request->width, request->height, &error))
                rpc_call_fail(call, error);
        else
                call_reply_empty(call);
}

static void task_close_io(struct rpc_call *call, void *data)
{
        const ShimV3__CloseIORequest *request = (const ShimV3__CloseIORequest *)rpc_call_request(call);
        struct container *container = container_of_call(data, call, request->id);
        struct process *process = container != NULL ? process_of_call(container, call, request->exec_id) : NULL;
        if (process == NULL)
                return;
        process->stdin_closed = true; // where the process is not started yet, its streams will see it
        if (process->streams != NULL)
                streams_close_stdin(process->streams);
        call_reply_empty(call);
}

static void task_wait(struct rpc_call *call, void *data)
{
        const ShimV3__WaitRequest *request = (const ShimV3__WaitRequest *)rpc_call_request(call);
        struct container *container = container_of_call(data, call, request->id);
        struct process *process = container != NULL ? process_of_call(container, call, request->exec_id) : NULL;
        if (process != NULL)
                process_wait(process, call);
}

static void task_stats(struct rpc_call *call, void *data)
{
        const ShimV3__StatsRequest *request = (const ShimV3__StatsRequest *)rpc_call_request(call);
        struct container *container = container_of_call(data, call, request->id);
        if (container == NULL)
                return;
        if (container->cgroup == NULL) {
                call_fail(call, ERROR_NOT_FOUND, "cgroup does not exist");
                return;
        }
        struct arena *arena = rpc_call_arena(call);
        ShimV3__StatsResponse response = SHIM_V3__STATS_RESPONSE__INIT;
        response.stats = pack_any(arena, metrics_read(container->cgroup, arena));
        rpc_call_reply(call, &response.base);
}

static void task_connect(struct rpc_call *call, void *data)
{
        const struct shim *shim = data;
        const ShimV3__ConnectRequest *request = (const ShimV3__ConnectRequest *)rpc_call_request(call);
        const struct container *container = g_hash_table_lookup(shim->containers, request->id);
        ShimV3__ConnectResponse response = SHIM_V3__CONNECT_RESPONSE__INIT;
        response.shim_pid = (uint32_t)getpid();
        response.task_pid = container != NULL && container->created ? (uint32_t)container->init.pid : 0;
        rpc_call_reply(call, &response.base);
}

static void task_shutdown(struct rpc_call *call, void *data)
{
        struct shim *shim = data;
        call_reply_empty(call);
        if (g_hash_table_size(shim->containers) == 0)
                shim->stop(shim);
}

#define METHOD(name, request, response, fn)                                                                            \
        RPC_METHOD_UNARY(name, LANE_FAST, shim_v3__##request, shim_v3__##response, fn)
#define METHOD_EMPTY(name, request, fn)                                                                                \
        RPC_METHOD_UNARY(name, LANE_FAST, shim_v3__##request, google__protobuf__empty, fn)

static const struct rpc_method methods[] = {
        METHOD("State", state_request, state_response, task_state),
        METHOD("Create", create_task_request, create_task_response, task_create),
        METHOD("Start", start_request, start_response, task_start),
        METHOD("Delete", delete_request, delete_response, task_delete),
        METHOD("Pids", pids_request, pids_response, task_pids),
        METHOD_EMPTY("Pause", pause_request, task_pause),
        METHOD_EMPTY("Resume", resume_request, task_resume),
        METHOD_EMPTY("Checkpoint", checkpoint_task_request, task_checkpoint),
        METHOD_EMPTY("Kill", kill_request, task_kill),
        METHOD_EMPTY("Exec", exec_process_request, task_exec),
        METHOD_EMPTY("ResizePty", resize_pty_request, task_resize),
        METHOD_EMPTY("CloseIO", close_iorequest, task_close_io),
        METHOD_EMPTY("Update", update_task_request, task_update),
        METHOD("Wait", wait_request, wait_response, task_wait),
        METHOD("Stats", stats_request, stats_response, task_stats),
        METHOD("Connect", connect_request, connect_response, task_connect),
        METHOD_EMPTY("Shutdown", shutdown_request, task_shutdown),
};
static const struct rpc_service version_2 = {"containerd.task.v2.Task", methods, G_N_ELEMENTS(methods)};
static const struct rpc_service version_3 = {"containerd.task.v3.Task", methods, G_N_ELEMENTS(methods)};

void task_service_add(struct rpc_server *server, struct shim *shim)
{
        rpc_server_add(server, &version_2, shim, RPC_TTRPC);
        rpc_server_add(server, &version_3, shim, RPC_TTRPC);
}
