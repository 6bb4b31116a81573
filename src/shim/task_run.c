// SPDX-License-Identifier: Apache-2.0
//
// What happens to a container between create and delete: start, restore, exec. The first process's start is an
// operation of the container's queue; exec'd processes start side by side.
#include "base/log.h"
#include "codec/runtime_spec.h"
#include "containerd/events.pb-c.h"
#include "containerd/shim_v3.pb-c.h"
#include "shim/console.h"
#include "shim/container.h"
#include "shim/options.h"
#include "shim/work.h"

static void reply_pid(struct rpc_call *call, const struct process *process)
{
        ShimV3__StartResponse response = SHIM_V3__START_RESPONSE__INIT;
        response.pid = (uint32_t)process->pid;
        rpc_call_reply(call, &response.base);
}

// ---- start of the first process

static void publish_start(struct container *container)
{
        Events__TaskStart event = EVENTS__TASK_START__INIT;
        event.container_id = container->id;
        event.pid = (uint32_t)container->init.pid;
        container_publish(container, "/tasks/start", &event.base);
}

static void init_started(struct work *work)
{
        struct container *container = work->container;
        container->init.state = PROCESS_RUNNING;
        streams_hold_stdin(container->init.streams);
        publish_start(container);
        reply_pid(work->call, &container->init);
        process_started(&container->init);
        work_free(work);
}

// Takes error.
static void init_start_failed(struct work *work, GError *error)
{
        struct process *init = &work->container->init;
        rpc_call_fail(work->call, error);
        process_started(init);
        work_free(work);
}

static void on_started(void *data, const GError *error)
{
        struct work *work = data;
        if (error != NULL)
                init_start_failed(work, oci_describe(&work->container->oci, "OCI runtime start failed", error));
        else
                init_started(work);
}

static void on_restored(void *data, const GError *job_error)
{
        struct work *work = data;
        struct container *container = work->container;
        GError *error = NULL;
        if (job_error != NULL)
                init_start_failed(work, oci_describe(&container->oci, "OCI runtime restore failed", job_error));
        else if (!process_adopt(&container->init, work->pid_file, work->console, &error))
                init_start_failed(work, error);
        else
                init_started(work);
}

static void restore(struct work *work)
{
        struct container *container = work->container;
        const Runc__Options *options = container->options;
        GError *error = NULL;
        if (container->init.terminal &&
                (work->console = console_new(container->shim->socket_directory, &error)) == NULL) {
                init_start_failed(work, error);
                return;
        }
        g_autofree char *own_work_path = g_strdup_printf("%s/work", container->bundle);
        work->pid_file = g_strdup_printf("%s/init.pid", container->bundle);
        g_autoptr(GPtrArray) args = g_ptr_array_new();
        work_add_option(args, "restore", NULL);
        work_add_option(args, "--image-path", container->checkpoint);
        work_add_option(
                args, "--work-path", *options->criu_work_path != '\0' ? options->criu_work_path : own_work_path);
        work_add_option(args, "--parent-path", container->parent_checkpoint);
        work_add_option(args, "--pid-file", work->pid_file);
        work_add_option(args, "--bundle", container->bundle);
        work_add_option(args, "--detach", NULL);
        if (work->console != NULL)
                work_add_option(args, "--console-socket", console_path(work->console));
        if (options->no_pivot_root)
                work_add_option(args, "--no-pivot", NULL);
        g_ptr_array_add(args, container->id);
        g_ptr_array_add(args, NULL);
        struct spawn_fd fds[3];
        struct oci_job job = {.args = (const char *const *)args->pdata, .leaves_process = true};
        if (work->console == NULL) {
                job.n_fds = streams_child_fds(container->init.streams, fds);
                job.fds = fds;
        }
        work_run(work, &job, on_restored);
}

static void start_init(struct container *container, struct rpc_call *call)
{
        struct process *init = &container->init;
        struct work *work = work_new(container, call, init);
        work->queued = true;
        if (init->state != PROCESS_CREATED || init->reaped) {
                const char *state = init->state == PROCESS_PAUSED                    ? "paused"
                                    : init->state == PROCESS_STOPPED || init->reaped ? "stopped"
                                                                                     : "running";
                work_fail(work, g_error_new(SKIFF_ERROR, ERROR_UNKNOWN, "cannot start a %s process", state));
                return;
        }
        init->starting = true;
        struct oci_job job = {.args = (const char *[]){"start", container->id, NULL}};
        if (*container->checkpoint != '\0')
                restore(work);
        else
                work_run(work, &job, on_started);
}

// ---- exec'd processes

void task_exec(struct rpc_call *call, void *data)
{
        const ShimV3__ExecProcessRequest *request = (const ShimV3__ExecProcessRequest *)rpc_call_request(call);
        struct container *container = container_of_call(data, call, request->id);
        if (container == NULL)
                return;
        if (*request->exec_id == '\0') {
                call_fail(call, ERROR_INVALID_ARGUMENT, "exec id must not be empty");
        } else if (g_hash_table_contains(container->execs, request->exec_id)) {
                call_fail(call, ERROR_ALREADY_EXISTS, "id %s: already exists", request->exec_id);
        } else if (container->init.state == PROCESS_PAUSED || container->init.state == PROCESS_STOPPED) {
                call_fail(call, ERROR_UNKNOWN, "cannot exec in a %s state",
                        container->init.state == PROCESS_PAUSED ? "paused" : "stopped");
        } else {
                GError *error = NULL;
                const Google__Protobuf__Any *spec = request->spec;
                char *text = process_spec_with_terminal(spec != NULL ? (const char *)spec->value.data : "",
                        spec != NULL ? spec->value.len : 0, request->terminal, &error);
                if (text == NULL) {
                        rpc_call_fail(call, error);
                        return;
                }
                struct process *process = g_new0(struct process, 1);
                process_init(process, container, request->exec_id);
                process_set_streams(process, request->stdin, request->stdout, request->stderr, request->terminal);
                process->spec = text;
                g_hash_table_insert(container->execs, process->exec_id, process);
                Events__TaskExecAdded event = EVENTS__TASK_EXEC_ADDED__INIT;
                event.container_id = container->id;
                event.exec_id = process->exec_id;
                container_publish(container, "/tasks/exec-added", &event.base);
                call_reply_empty(call);
        }
}

// Takes error.
static void exec_failed(struct work *work, GError *error)
{
        struct process *process = work->process;
        streams_free(g_steal_pointer(&process->streams));
        rpc_call_fail(work->call, error);
        process->starting = false;
        if (process->pid == 0) {
                process_fail_waits(process, ERROR_FAILED_PRECONDITION, "process not created: failed precondition");
                container_exec_ended(work->container);
        } else {
                process_started(process);
        }
        work_free(work);
}

static void on_exec_started(void *data, const GError *job_error)
{
        struct work *work = data;
        struct container *container = work->container;
        struct process *process = work->process;
        GError *error = NULL;
        if (job_error != NULL) {
                exec_failed(work, oci_describe(&container->oci, "OCI runtime exec failed", job_error));
                return;
        }
        if (!process_adopt(process, work->pid_file, work->console, &error)) {
                exec_failed(work, error);
                return;
        }
        process->state = PROCESS_RUNNING;
        streams_hold_stdin(process->streams);
        Events__TaskExecStarted event = EVENTS__TASK_EXEC_STARTED__INIT;
        event.container_id = container->id;
        event.exec_id = process->exec_id;
        event.pid = (uint32_t)process->pid;
        container_publish(container, "/tasks/exec-started", &event.base);
        reply_pid(work->call, process);
        process_started(process);
        work_free(work);
}

static void on_exec_streams_ready(void *data, const GError *streams_error)
{
        struct work *work = data;
        struct container *container = work->container;
        struct process *process = work->process;
        GError *error = NULL;
        if (streams_error != NULL) {
                exec_failed(work, g_error_copy(streams_error));
                return;
        }
        g_autofree char *name = g_strdup_printf("%s.process.json", process->exec_id);
        work->process_file = g_strdup_printf("%s/%s", container->bundle, name);
        work->pid_file = g_strdup_printf("%s/%s.pid", container->bundle, process->exec_id);
        if (!container_write_file(container, name, process->spec, &error) ||
                (process->terminal &&
                        (work->console = console_new(container->shim->socket_directory, &error)) == NULL)) {
                exec_failed(work, error);
                return;
        }
        g_autoptr(GPtrArray) args = g_ptr_array_new();
        work_add_option(args, "exec", NULL);
        work_add_option(args, "--process", work->process_file);
        if (work->console != NULL)
                work_add_option(args, "--console-socket", console_path(work->console));
        work_add_option(args, "--detach", NULL);
        work_add_option(args, "--pid-file", work->pid_file);
        g_ptr_array_add(args, container->id);
        g_ptr_array_add(args, NULL);
        struct spawn_fd fds[3];
        struct oci_job job = {.args = (const char *const *)args->pdata, .leaves_process = true};
        if (work->console == NULL) {
                job.n_fds = streams_child_fds(process->streams, fds);
                job.fds = fds;
        }
        work_run(work, &job, on_exec_started);
}

static void start_exec(struct container *container, struct rpc_call *call, const char *exec_id)
{
        struct process *process = process_of_call(container, call, exec_id);
        if (process == NULL)
                return;
        if (container->init.reaped) {
                call_fail(call, ERROR_FAILED_PRECONDITION, "container %s init process is not running", container->id);
        } else if (process->state != PROCESS_CREATED || process->starting || process->streams != NULL) {
                call_fail(call, ERROR_UNKNOWN, "cannot start a %s process",
                        process->state == PROCESS_STOPPED ? "stopped" : "running");
        } else {
                process->starting = true;
                container->n_running_execs++;
                process_open_streams(process, call, on_exec_streams_ready, work_new(container, call, process));
        }
}

void task_start(struct rpc_call *call, void *data)
{
        const ShimV3__StartRequest *request = (const ShimV3__StartRequest *)rpc_call_request(call);
        struct container *container = container_of_call(data, call, request->id);
        if (container == NULL)
                return;
        if (*request->exec_id == '\0')
                container_enqueue(container, start_init, call);
        else
                start_exec(container, call, request->exec_id);
}
