// SPDX-License-Identifier: Apache-2.0
//
// What happens to a container between create and delete: start, exec, pause, resume, update, checkpoint. Each is one
// operation of the container's queue and mostly one call of the runtime; exec'd processes start side by side.
#include "base/log.h"
#include "codec/runtime_spec.h"
#include "containerd/events.pb-c.h"
#include "containerd/shim_v3.pb-c.h"
#include "shim/console.h"
#include "shim/container.h"
#include "shim/options.h"

#include <unistd.h>

// One operation that waits for the runtime.
struct work {
        struct container *container; // a reference
        struct rpc_call *call;
        struct process *process;
        struct console *console;
        char *pid_file, *process_file;
        bool queued; // it is the container's current operation
};

static struct work *work_new(struct container *container, struct rpc_call *call, struct process *process)
{
        struct work *work = g_new0(struct work, 1);
        work->container = container_ref(container);
        work->call = call;
        work->process = process;
        return work;
}

static void work_free(struct work *work)
{
        if (work->process_file != NULL)
                unlink(work->process_file);
        if (work->queued)
                container_operation_done(work->container);
        console_free(work->console);
        g_free(work->pid_file);
        g_free(work->process_file);
        container_unref(work->container);
        g_free(work);
}

// Takes error.
static void work_fail(struct work *work, GError *error)
{
        rpc_call_fail(work->call, error);
        work_free(work);
}

static void work_run(struct work *work, const struct oci_job *job, oci_done_fn done)
{
        GError *error = NULL;
        if (!oci_run(&work->container->oci, job, done, work, &error))
                done(work, error);
        g_clear_error(&error);
}

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

static void add(GPtrArray *args, const char *option, const char *value)
{
        if (value != NULL && *value == '\0')
                return;
        g_ptr_array_add(args, (char *)option);
        if (value != NULL)
                g_ptr_array_add(args, (char *)value);
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
        add(args, "restore", NULL);
        add(args, "--image-path", container->checkpoint);
        add(args, "--work-path", *options->criu_work_path != '\0' ? options->criu_work_path : own_work_path);
        add(args, "--parent-path", container->parent_checkpoint);
        add(args, "--pid-file", work->pid_file);
        add(args, "--bundle", container->bundle);
        add(args, "--detach", NULL);
        if (work->console != NULL)
                add(args, "--console-socket", console_path(work->console));
        if (options->no_pivot_root)
                add(args, "--no-pivot", NULL);
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
        add(args, "exec", NULL);
        add(args, "--process", work->process_file);
        if (work->console != NULL)
                add(args, "--console-socket", console_path(work->console));
        add(args, "--detach", NULL);
        add(args, "--pid-file", work->pid_file);
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

// ---- pause, resume, update, checkpoint

static const char *state_name(const struct process *init)
{
        static const char *const names[] = {"created", "running", "paused", "stopped"};
        return names[init->state];
}

static void on_paused(void *data, const GError *error)
{
        struct work *work = data;
        struct container *container = work->container;
        container->pausing = false;
        if (error != NULL) {
                work_fail(work, oci_describe(&container->oci, "OCI runtime pause failed", error));
                return;
        }
        if (container->init.state == PROCESS_RUNNING)
                container->init.state = PROCESS_PAUSED;
        Events__TaskPaused event = EVENTS__TASK_PAUSED__INIT;
        event.container_id = container->id;
        container_publish(container, "/tasks/paused", &event.base);
        call_reply_empty(work->call);
        work_free(work);
}

static void pause_container(struct container *container, struct rpc_call *call)
{
        struct work *work = work_new(container, call, NULL);
        work->queued = true;
        struct process *init = &container->init;
        struct oci_job job = {.args = (const char *[]){"pause", container->id, NULL}};
        container->pausing = init->state == PROCESS_RUNNING;
        if (container->pausing)
                work_run(work, &job, on_paused);
        else
                work_fail(work, g_error_new(SKIFF_ERROR, ERROR_UNKNOWN,
                                        init->state == PROCESS_CREATED ? "cannot pause task in %s state"
                                                                       : "cannot pause a %s container",
                                        state_name(init)));
}

static void on_resumed(void *data, const GError *error)
{
        struct work *work = data;
        struct container *container = work->container;
        if (error != NULL) {
                work_fail(work, oci_describe(&container->oci, "OCI runtime resume failed", error));
                return;
        }
        if (container->init.state == PROCESS_PAUSED)
                container->init.state = PROCESS_RUNNING;
        Events__TaskResumed event = EVENTS__TASK_RESUMED__INIT;
        event.container_id = container->id;
        container_publish(container, "/tasks/resumed", &event.base);
        call_reply_empty(work->call);
        work_free(work);
}

static void resume_container(struct container *container, struct rpc_call *call)
{
        struct work *work = work_new(container, call, NULL);
        work->queued = true;
        struct process *init = &container->init;
        struct oci_job job = {.args = (const char *[]){"resume", container->id, NULL}};
        const char *format = init->state == PROCESS_CREATED   ? "cannot resume task in %s state"
                             : init->state == PROCESS_RUNNING ? "cannot resume a %s process"
                                                              : "cannot resume a %s container";
        if (init->state == PROCESS_PAUSED)
                work_run(work, &job, on_resumed);
        else
                work_fail(work, g_error_new(SKIFF_ERROR, ERROR_UNKNOWN, format, state_name(init)));
}

static void on_done(void *data, const GError *error)
{
        struct work *work = data;
        if (error != NULL) {
                work_fail(work, g_error_copy(error));
                return;
        }
        call_reply_empty(work->call);
        work_free(work);
}

static void update_container(struct container *container, struct rpc_call *call)
{
        const ShimV3__UpdateTaskRequest *request = (const ShimV3__UpdateTaskRequest *)rpc_call_request(call);
        struct work *work = work_new(container, call, NULL);
        work->queued = true;
        if (container->init.state == PROCESS_STOPPED || request->resources == NULL) {
                work_fail(work, g_error_new_literal(SKIFF_ERROR, ERROR_UNKNOWN,
                                        request->resources == NULL ? "no resources given"
                                                                   : "cannot update a stopped container"));
                return;
        }
        const ProtobufCBinaryData *json = &request->resources->value;
        g_autofree char *text = g_strndup((const char *)json->data, json->len);
        struct oci_job job = {
                .args = (const char *[]){"update", "--resources", "/dev/stdin", container->id, NULL}, .input = text};
        work_run(work, &job, on_done);
}

static void on_checkpointed(void *data, const GError *error)
{
        struct work *work = data;
        struct container *container = work->container;
        if (error == NULL) {
                call_reply_empty(work->call);
                work_free(work);
                return;
        }
        g_auto(GStrv) lines = g_strsplit(error->message, "\n", 2);
        work_fail(work,
                g_error_new(SKIFF_ERROR, ERROR_UNKNOWN, "%s path= %s/criu-dump.log", lines[0], container->bundle));
}

static void checkpoint_container(struct container *container, struct rpc_call *call)
{
        const ShimV3__CheckpointTaskRequest *request = (const ShimV3__CheckpointTaskRequest *)rpc_call_request(call);
        struct work *work = work_new(container, call, NULL);
        work->queued = true;
        struct process *init = &container->init;
        if (init->state != PROCESS_RUNNING && init->state != PROCESS_PAUSED) {
                work_fail(work, g_error_new(SKIFF_ERROR, ERROR_UNKNOWN,
                                        init->state == PROCESS_CREATED ? "cannot checkpoint a task in %s state"
                                                                       : "cannot checkpoint a %s container",
                                        state_name(init)));
                return;
        }
        bool given = any_is(request->options, &runc__checkpoint_options__descriptor);
        ProtobufCAllocator *allocator = arena_allocator(rpc_call_arena(call));
        Runc__CheckpointOptions *options = runc__checkpoint_options__unpack(allocator,
                given ? request->options->value.len : 0, given ? request->options->value.data : (const uint8_t *)"");
        if (options == NULL) {
                work_fail(work, g_error_new_literal(
                                        SKIFF_ERROR, ERROR_INVALID_ARGUMENT, "checkpoint options cannot be parsed"));
                return;
        }
        g_autofree char *own_work_path = g_strdup_printf("%s/work/criu-work", container->bundle);
        g_autoptr(GPtrArray) args = g_ptr_array_new();
        add(args, "checkpoint", NULL);
        add(args, "--image-path", request->path);
        add(args, "--work-path", *options->work_path != '\0' ? options->work_path : own_work_path);
        static const char *const flags[] = {
                "--leave-running", "--tcp-established", "--ext-unix-sk", "--shell-job", "--file-locks"};
        bool set[] = {!options->exit, options->open_tcp, options->external_unix_sockets, options->terminal,
                options->file_locks};
        for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
                if (set[i])
                        add(args, flags[i], NULL);
        }
        for (size_t i = 0; i < options->n_empty_namespaces; i++)
                add(args, "--empty-ns", options->empty_namespaces[i]);
        g_ptr_array_add(args, container->id);
        g_ptr_array_add(args, NULL);
        struct oci_job job = {.args = (const char *const *)args->pdata};
        work_run(work, &job, on_checkpointed);
}

static void enqueue(struct rpc_call *call, struct shim *shim, const char *id, operation_fn operation)
{
        struct container *container = container_of_call(shim, call, id);
        if (container != NULL)
                container_enqueue(container, operation, call);
}

void task_pause(struct rpc_call *call, void *shim)
{
        enqueue(call, shim, ((const ShimV3__PauseRequest *)rpc_call_request(call))->id, pause_container);
}

void task_resume(struct rpc_call *call, void *shim)
{
        enqueue(call, shim, ((const ShimV3__ResumeRequest *)rpc_call_request(call))->id, resume_container);
}

void task_update(struct rpc_call *call, void *shim)
{
        enqueue(call, shim, ((const ShimV3__UpdateTaskRequest *)rpc_call_request(call))->id, update_container);
}

void task_checkpoint(struct rpc_call *call, void *shim)
{
        enqueue(call, shim, ((const ShimV3__CheckpointTaskRequest *)rpc_call_request(call))->id, checkpoint_container);
}
