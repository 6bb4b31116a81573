// SPDX-License-Identifier: Apache-2.0
//
// Kill and delete. A signal to one process is sent by the kernel's call, not by the runtime: the process is our child
// and not reaped, so its id is its own, and 5 to 15 ms of a runtime's start are saved. The runtime is asked where a
// signal is for all processes, or the container is frozen.
#include "base/clock.h"
#include "base/log.h"
#include "containerd/events.pb-c.h"
#include "containerd/shim_v3.pb-c.h"
#include "shim/container.h"
#include "sys/mounts.h"

#include <signal.h>
#include <string.h>

// ---- kill

struct killing {
        struct container *container; // a reference
        struct rpc_call *call;
};

// The runtime's error as containerd tells it.
static void fail_kill(struct rpc_call *call, const char *message)
{
        g_autofree char *lower = g_ascii_strdown(message, -1);
        if (strstr(lower, "container not running") != NULL || strstr(lower, "no such process") != NULL ||
                strstr(lower, "process already finished") != NULL)
                call_fail(call, ERROR_NOT_FOUND, "process already finished: not found");
        else if (strstr(lower, "does not exist") != NULL)
                call_fail(call, ERROR_NOT_FOUND, "no such container: not found");
        else
                call_fail(call, ERROR_UNKNOWN, "unknown error after kill: %s", message);
}

static void run_deletion(struct deletion *deletion);

static void on_killed(void *data, const GError *error)
{
        struct killing *killing = data;
        struct container *container = killing->container;
        if (error != NULL)
                fail_kill(killing->call, error->message);
        else
                call_reply_empty(killing->call);
        if (--container->n_kills == 0 && container->deletion != NULL)
                run_deletion(container->deletion);
        container_unref(container);
        g_free(killing);
}

static void kill_by_runtime(struct container *container, struct rpc_call *call, uint32_t number, bool all)
{
        struct killing *killing = g_new(struct killing, 1);
        *killing = (struct killing){container_ref(container), call};
        container->n_kills++;
        g_autofree char *text = g_strdup_printf("%u", number);
        const char *one[] = {"kill", container->id, text, NULL};
        const char *every[] = {"kill", "--all", container->id, text, NULL};
        struct oci_job job = {.args = all ? every : one};
        g_autoptr(GError) error = NULL;
        if (!oci_run(&container->oci, &job, on_killed, killing, &error))
                on_killed(killing, error);
}

void container_kill_all(struct container *container, oci_done_fn done, void *data)
{
        struct oci_job job = {.args = (const char *[]){"kill", "--all", container->id, "9", NULL}};
        g_autoptr(GError) error = NULL;
        if (!oci_run(&container->oci, &job, done, data, &error))
                done(data, error);
}

static void kill_process(const struct process *process, struct rpc_call *call, uint32_t number)
{
        if (process->pid == 0)
                call_fail(call, ERROR_FAILED_PRECONDITION, "process not created: failed precondition");
        else if (process->reaped)
                call_fail(call, ERROR_NOT_FOUND, "process already finished: not found");
        else if (kill(process->pid, (int)number) == 0)
                call_reply_empty(call);
        else if (process->exec_id != NULL)
                call_fail(call, ERROR_UNKNOWN, "exec kill error: unknown error after kill: %s", errno_text(errno));
        else
                fail_kill(call, errno_text(errno));
}

void task_kill(struct rpc_call *call, void *data)
{
        const ShimV3__KillRequest *request = (const ShimV3__KillRequest *)rpc_call_request(call);
        struct container *container = container_of_call(data, call, request->id);
        struct process *process = container != NULL ? process_of_call(container, call, request->exec_id) : NULL;
        if (process == NULL)
                return;
        bool frozen = container->init.state == PROCESS_PAUSED || container->pausing;
        if (container->deletion != NULL)
                call_fail(call, ERROR_NOT_FOUND, "process already finished: not found");
        else if (process->exec_id == NULL && (request->all || (frozen && !process->reaped)))
                kill_by_runtime(container, call, request->signal, request->all);
        else
                kill_process(process, call, request->signal);
}

// ---- delete

struct deletion {
        struct container *container; // a reference
        struct rpc_call *call;
        struct process *process;
        GError *error;
};

static void reply_deleted(struct rpc_call *call, const struct process *process)
{
        ShimV3__DeleteResponse response = SHIM_V3__DELETE_RESPONSE__INIT;
        response.pid = (uint32_t)process->pid;
        response.exit_status = process->exit_status;
        response.exited_at = process_exited_at(process, rpc_call_arena(call));
        rpc_call_reply(call, &response.base);
}

static void deletion_free(struct deletion *deletion)
{
        container_unref(deletion->container);
        g_clear_error(&deletion->error);
        g_free(deletion);
}

static void on_exec_drained(void *data)
{
        struct deletion *deletion = data;
        struct container *container = deletion->container;
        struct process *process = deletion->process;
        streams_free(g_steal_pointer(&process->streams));
        g_autofree char *pid_file = g_strdup_printf("%s/%s.pid", container->bundle, process->exec_id);
        unlink(pid_file);
        reply_deleted(deletion->call, process);
        process_done(process);
        g_free(process);
        deletion_free(deletion);
}

static void delete_exec(struct container *container, struct rpc_call *call, const char *exec_id)
{
        struct process *process = process_of_call(container, call, exec_id);
        if (process == NULL)
                return;
        if (process->state == PROCESS_RUNNING || process->starting || (process->pid != 0 && !process->published)) {
                call_fail(call, ERROR_UNKNOWN, "cannot delete a running process");
                return;
        }
        g_hash_table_steal(container->execs, exec_id); // nobody finds it any more
        struct deletion *deletion = g_new0(struct deletion, 1);
        *deletion = (struct deletion){.container = container_ref(container), .call = call, .process = process};
        process_fail_waits(process, ERROR_NOT_FOUND, "process does not exist: not found"); // one that never started
        process_drain(process, on_exec_drained, deletion);
}

static void publish_delete(struct container *container)
{
        const struct process *init = &container->init;
        Google__Protobuf__Timestamp exited_at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
        clock_split(init->exited_at_ns, &exited_at.seconds, &exited_at.nanos);
        Events__TaskDelete event = EVENTS__TASK_DELETE__INIT;
        event.container_id = container->id;
        event.pid = (uint32_t)init->pid;
        event.exit_status = init->exit_status;
        event.exited_at = init->published ? &exited_at : NULL;
        container_publish(container, "/tasks/delete", &event.base);
}

static void forget_container(struct container *container)
{
        GHashTableIter iter;
        gpointer process;
        g_hash_table_iter_init(&iter, container->execs);
        while (g_hash_table_iter_next(&iter, NULL, &process)) {
                process_fail_waits(process, ERROR_NOT_FOUND, "container not created");
                streams_free(g_steal_pointer(&((struct process *)process)->streams));
        }
        process_fail_waits(&container->init, ERROR_NOT_FOUND, "container not created");
        oom_free(g_steal_pointer(&container->oom));
        g_hash_table_remove(container->shim->containers, container->id);
}

static void on_deleted(void *data, const GError *job_error)
{
        struct deletion *deletion = data;
        struct container *container = deletion->container;
        GError *error = NULL;
        // The runtime may have removed it by itself, after a checkpoint.
        if (job_error != NULL && strstr(job_error->message, "does not exist") == NULL)
                error = oci_describe(&container->oci, "failed to delete task", job_error);
        streams_free(g_steal_pointer(&container->init.streams));
        g_autoptr(GError) not_unmounted = NULL;
        if (container->rootfs != NULL && !unmount_below(container->rootfs, &not_unmounted)) {
                log_warn("failed to cleanup rootfs mount", "id", container->id, "error", not_unmounted->message);
                if (error == NULL)
                        error_fail(&error, ERROR_UNKNOWN, "failed rootfs umount: %s", not_unmounted->message);
        }
        if (error != NULL) {
                rpc_call_fail(deletion->call, error);
        } else {
                if (container->cgroup != NULL)
                        cgroup_remove(container->cgroup);
                publish_delete(container);
                reply_deleted(deletion->call, &container->init);
                forget_container(container);
        }
        container->deletion = NULL;
        container_operation_done(container);
        deletion_free(deletion);
}

static void run_deletion(struct deletion *deletion)
{
        struct container *container = deletion->container;
        struct oci_job job = {.args = (const char *[]){"delete", container->id, NULL}};
        g_autoptr(GError) error = NULL;
        if (!oci_run(&container->oci, &job, on_deleted, deletion, &error))
                on_deleted(deletion, error);
}

// On cgroup v1, runtimes freeze what they kill, and refuse to delete what is frozen: one after the other.
static void on_init_drained(void *data)
{
        struct deletion *deletion = data;
        deletion->container->deletion = deletion;
        if (deletion->container->n_kills == 0)
                run_deletion(deletion);
}

static void drain_init(void *data)
{
        struct deletion *deletion = data;
        process_drain(&deletion->container->init, on_init_drained, deletion);
}

static void delete_init(struct container *container, struct rpc_call *call)
{
        struct process *init = &container->init;
        if (g_hash_table_lookup(container->shim->containers, container->id) != container) {
                call_fail(call, ERROR_NOT_FOUND, "container not created"); // deleted while this waited in the queue
                container_operation_done(container);
                return;
        }
        if (init->state == PROCESS_RUNNING || init->state == PROCESS_PAUSED) {
                call_fail(call, ERROR_UNKNOWN, "cannot delete a %s process",
                        init->state == PROCESS_PAUSED ? "paused" : "running");
                container_operation_done(container);
                return;
        }
        struct deletion *deletion = g_new0(struct deletion, 1);
        *deletion = (struct deletion){.container = container_ref(container), .call = call, .process = init};
        if (init->pid == 0 || init->published) {
                drain_init(deletion);
                return;
        }
        // Created and never started: its process waits for a start. It is ended first, so that its exit is published
        // before the deletion.
        init->on_published = drain_init;
        init->on_published_data = deletion;
        if (!init->reaped)
                kill(init->pid, SIGKILL);
}

void task_delete(struct rpc_call *call, void *data)
{
        const ShimV3__DeleteRequest *request = (const ShimV3__DeleteRequest *)rpc_call_request(call);
        struct container *container = *request->exec_id == '\0' ? container_find(data, call, request->id)
                                                                : container_of_call(data, call, request->id);
        if (container == NULL)
                return;
        if (*request->exec_id == '\0')
                container_enqueue(container, delete_init, call);
        else
                delete_exec(container, call, request->exec_id);
}
