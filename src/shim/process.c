// SPDX-License-Identifier: Apache-2.0
//
// A process from its pid file to its exit event. Three things hold an exit back: the start that is still under way, so
// that events come in order; output that the client has not read, for a while; and, for a container's first process,
// its other processes, as its exit says that all is over. Where the container shares a process namespace, the kernel
// does not end them: the shim has them killed.
#include "shim/container.h"

#include "base/clock.h"
#include "base/log.h"
#include "containerd/events.pb-c.h"
#include "containerd/shim_v3.pb-c.h"
#include "shim/console.h"

#include <string.h>

enum { DRAIN_TIMEOUT_MS = 10000, STATUS_UNKNOWN = 255 };

void process_init(struct process *process, struct container *container, const char *exec_id)
{
        *process = (struct process){.container = container, .exec_id = g_strdup(exec_id)};
}

void process_done(struct process *process)
{
        process_fail_waits(process, ERROR_NOT_FOUND, "container not created");
        if (process->waiters != NULL)
                g_ptr_array_unref(process->waiters);
        streams_free(process->streams);
        for (int i = 0; i < 3; i++)
                g_free(process->names[i]);
        g_free(process->spec);
        g_free(process->exec_id);
}

void process_set_streams(struct process *process, const char *in, const char *out, const char *err, bool terminal)
{
        process->names[0] = g_strdup(in);
        process->names[1] = g_strdup(out);
        process->names[2] = g_strdup(err);
        process->terminal = terminal;
}

static const char *id_of(const struct process *process)
{
        return process->exec_id != NULL ? process->exec_id : process->container->id;
}

void process_open_streams(struct process *process, struct rpc_call *call, streams_ready_fn ready, void *data)
{
        struct container *container = process->container;
        struct streams_options options = {
                .in = process->names[0],
                .out = process->names[1],
                .err = process->names[2],
                .terminal = process->terminal,
                .id = id_of(process),
                .namespace_ = container->shim->namespace_,
                .uid = container->options->io_uid,
                .gid = container->options->io_gid,
        };
        process->streams = streams_new(container->shim->loop, container->shim->reaper, &options);
        if (process->stdin_closed)
                streams_close_stdin(process->streams);
        streams_open(process->streams, rpc_call_cancel(call), ready, data);
}

// ---- the end

struct waiter {
        struct process *process;
        struct rpc_call *call;
        unsigned long watch_id;
};

static void answer_wait(const struct process *process, struct rpc_call *call)
{
        ShimV3__WaitResponse response = SHIM_V3__WAIT_RESPONSE__INIT;
        response.exit_status = process->exit_status;
        response.exited_at = process_exited_at(process, rpc_call_arena(call));
        rpc_call_reply(call, &response.base);
}

// error NULL: the process ended.
static void end_waits(struct process *process, const GError *error)
{
        g_autoptr(GPtrArray) waiters = g_steal_pointer(&process->waiters);
        for (guint i = 0; waiters != NULL && i < waiters->len; i++) {
                g_autofree struct waiter *waiter = waiters->pdata[i];
                cancel_unwatch(rpc_call_cancel(waiter->call), waiter->watch_id);
                if (error != NULL)
                        rpc_call_fail(waiter->call, g_error_copy(error));
                else
                        answer_wait(process, waiter->call);
        }
}

void process_fail_waits(struct process *process, enum error_code code, const char *text)
{
        g_autoptr(GError) error = g_error_new_literal(SKIFF_ERROR, (int)code, text);
        end_waits(process, error);
}

// The client is gone: nobody waits any more, however long the process runs.
static void on_wait_cancelled(void *data)
{
        g_autofree struct waiter *waiter = data;
        g_ptr_array_remove_fast(waiter->process->waiters, waiter);
        call_fail(waiter->call, ERROR_CANCELED, "context canceled");
}

static void publish_exit(struct process *process)
{
        struct container *container = process->container;
        Google__Protobuf__Timestamp exited_at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
        clock_split(process->exited_at_ns, &exited_at.seconds, &exited_at.nanos);
        Events__TaskExit event = EVENTS__TASK_EXIT__INIT;
        event.container_id = container->id;
        event.id = (char *)id_of(process);
        event.pid = (uint32_t)process->pid;
        event.exit_status = process->exit_status;
        event.exited_at = &exited_at;
        oom_check(container->oom); // the cause first
        process->state = PROCESS_STOPPED;
        process->published = true;
        container_publish(container, "/tasks/exit", &event.base);
        end_waits(process, NULL);
        if (process->on_published != NULL)
                loop_post(container->shim->loop, process->on_published, process->on_published_data);
}

static void publish_if_over(struct process *process)
{
        struct container *container = process->container;
        bool is_last = process->exec_id != NULL || (container->n_running_execs == 0 && !container->killing_all);
        if (!process->settled || process->published || !is_last)
                return;
        publish_exit(process);
        if (process->exec_id != NULL)
                container_exec_ended(container);
}

void container_exec_ended(struct container *container)
{
        container->n_running_execs--;
        publish_if_over(&container->init);
}

static void on_all_killed(void *data, const GError *error)
{
        AUTO(container) container = data;
        container->killing_all = false;
        if (error != NULL)
                log_error("failed to kill init's children", "id", container->id, "error", error->message);
        publish_if_over(&container->init);
}

static void on_resumed(void *data, const GError *error)
{
        AUTO(container) container = data;
        if (error != NULL)
                log_error("resuming exited container from paused state", "id", container->id, "error", error->message);
}

static void end_others(struct container *container)
{
        if (container->init.state == PROCESS_PAUSED) {
                struct oci_job job = {.args = (const char *[]){"resume", container->id, NULL}};
                if (!oci_run(&container->oci, &job, on_resumed, container_ref(container), NULL))
                        container_unref(container);
        }
        if (!container->own_pid_namespace) {
                container->killing_all = true;
                container_kill_all(container, on_all_killed, container_ref(container));
        }
}

static void on_settled(void *data)
{
        struct process *process = data;
        AUTO(container) container = process->container;
        process->settled = true;
        publish_if_over(process);
}

static void handle_end(struct process *process)
{
        if (process->exec_id == NULL)
                end_others(process->container);
        container_ref(process->container);
        if (process->streams != NULL)
                streams_process_ended(process->streams, on_settled, process);
        else
                on_settled(process);
}

static void on_reaped(void *data, int status, int64_t ended_ns)
{
        struct process *process = data;
        AUTO(container) container = process->container;
        process->reaped = true;
        process->exit_status = status < 0 ? STATUS_UNKNOWN : (unsigned)child_exit_code(status);
        process->exited_at_ns = ended_ns;
        if (process->exec_id == NULL)
                container->oci.container_ended = true;
        log_debug("process ended", "container", container->id, "exec", process->exec_id);
        if (!process->starting)
                handle_end(process);
}

// ---- the beginning

bool process_adopt(struct process *process, const char *pid_file, struct console *console, GError **error)
{
        struct container *container = process->container;
        int master = -1;
        pid_t pid;
        if (!oci_read_pid(pid_file, &pid, error)) {
                g_prefix_error(error, "failed to retrieve OCI runtime container pid: ");
                return false;
        }
        process->pid = pid;
        container_ref(container);
        reaper_watch(container->shim->reaper, pid, on_reaped, process);
        if (console != NULL && (master = console_receive(console, error)) < 0)
                return false;
        return streams_start(process->streams, master, error);
}

void process_started(struct process *process)
{
        process->starting = false;
        if (process->reaped && !process->published)
                handle_end(process);
}

// ---- questions

void process_wait(struct process *process, struct rpc_call *call)
{
        struct cancel *cancel = rpc_call_cancel(call);
        GError *error = NULL;
        if (process->published) {
                answer_wait(process, call);
                return;
        }
        if (!cancel_check(cancel, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        struct waiter *waiter = g_new(struct waiter, 1);
        *waiter = (struct waiter){.process = process, .call = call};
        if (process->waiters == NULL)
                process->waiters = g_ptr_array_new();
        g_ptr_array_add(process->waiters, waiter);
        waiter->watch_id = cancel_watch(cancel, on_wait_cancelled, waiter);
}

void process_drain(struct process *process, loop_fn done, void *data)
{
        if (process->streams != NULL)
                streams_drain(process->streams, DRAIN_TIMEOUT_MS, done, data);
        else
                loop_post(process->container->shim->loop, done, data);
}

unsigned process_status(const struct process *process)
{
        const struct container *container = process->container;
        if (container->pausing)
                return TASK_TYPES__STATUS__PAUSING;
        if (container->init.state == PROCESS_PAUSED)
                return TASK_TYPES__STATUS__PAUSED;
        static const unsigned statuses[] = {
                [PROCESS_CREATED] = TASK_TYPES__STATUS__CREATED,
                [PROCESS_RUNNING] = TASK_TYPES__STATUS__RUNNING,
                [PROCESS_PAUSED] = TASK_TYPES__STATUS__PAUSED,
                [PROCESS_STOPPED] = TASK_TYPES__STATUS__STOPPED,
        };
        return statuses[process->state];
}

Google__Protobuf__Timestamp *process_exited_at(const struct process *process, struct arena *arena)
{
        if (!process->published)
                return NULL;
        Google__Protobuf__Timestamp *timestamp = arena_new0(arena, Google__Protobuf__Timestamp);
        google__protobuf__timestamp__init(timestamp);
        clock_split(process->exited_at_ns, &timestamp->seconds, &timestamp->nanos);
        return timestamp;
}
