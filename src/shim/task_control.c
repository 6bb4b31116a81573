// SPDX-License-Identifier: Apache-2.0
//
// Pause, resume, update and checkpoint: each is one operation of the container's queue and one call of the runtime.
#include "codec/runtime_spec.h"
#include "containerd/events.pb-c.h"
#include "containerd/runc.pb-c.h"
#include "containerd/shim_v3.pb-c.h"
#include "shim/options.h"
#include "shim/work.h"

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
        work_add_option(args, "checkpoint", NULL);
        work_add_option(args, "--image-path", request->path);
        work_add_option(args, "--work-path", *options->work_path != '\0' ? options->work_path : own_work_path);
        static const char *const flags[] = {
                "--leave-running", "--tcp-established", "--ext-unix-sk", "--shell-job", "--file-locks"};
        bool set[] = {!options->exit, options->open_tcp, options->external_unix_sockets, options->terminal,
                options->file_locks};
        for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
                if (set[i])
                        work_add_option(args, flags[i], NULL);
        }
        for (size_t i = 0; i < options->n_empty_namespaces; i++)
                work_add_option(args, "--empty-ns", options->empty_namespaces[i]);
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
