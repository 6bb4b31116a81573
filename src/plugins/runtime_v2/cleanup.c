// SPDX-License-Identifier: Apache-2.0
//
// After a shim's death what it left at work is ended, and its program is run once more, with `delete`: it kills what is
// left, deletes the container in the OCI runtime, unmounts, and prints how the container ended. That becomes the exit
// event and the answer of everyone who waited.
#include "plugins/runtime_v2/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include "containerd/events.pb-c.h"

enum { EXIT_STATUS_UNKNOWN = 255 };

struct cleanup {
        struct task *task; // a reference
        uint32_t pid, exit_status;
        Google__Protobuf__Timestamp exited_at;
};

static void publish_exit(const struct cleanup *cleanup)
{
        const struct bundle *bundle = cleanup->task->bundle;
        Events__TaskExit exited = EVENTS__TASK_EXIT__INIT;
        exited.container_id = exited.id = bundle->id;
        exited.pid = cleanup->pid;
        exited.exit_status = cleanup->exit_status;
        exited.exited_at = (Google__Protobuf__Timestamp *)&cleanup->exited_at;
        event_publish(cleanup->task->manager->events, bundle->namespace_, "/tasks/exit", &exited.base);
        Events__TaskDelete deleted = EVENTS__TASK_DELETE__INIT;
        deleted.container_id = bundle->id;
        deleted.pid = cleanup->pid;
        deleted.exit_status = cleanup->exit_status;
        deleted.exited_at = (Google__Protobuf__Timestamp *)&cleanup->exited_at;
        event_publish(cleanup->task->manager->events, bundle->namespace_, "/tasks/delete", &deleted.base);
}

static void answer_waits(struct cleanup *cleanup)
{
        ShimV3__WaitResponse waited = SHIM_V3__WAIT_RESPONSE__INIT;
        waited.exit_status = cleanup->exit_status;
        waited.exited_at = &cleanup->exited_at;
        ShimV3__DeleteResponse deleted = SHIM_V3__DELETE_RESPONSE__INIT;
        deleted.pid = cleanup->pid;
        deleted.exit_status = cleanup->exit_status;
        deleted.exited_at = &cleanup->exited_at;
        struct op *op;
        while ((op = g_queue_pop_head(&cleanup->task->waits)) != NULL)
                op_finish(op, op->call.request != NULL ? &waited.base : &deleted.base, NULL); // remove has no request
}

static void finish(void *data)
{
        struct cleanup *cleanup = data;
        struct task *task = cleanup->task;
        task_forget(task);
        answer_waits(cleanup);
        task->manager->n_busy--;
        if (task->loading && --task->manager->n_loading == 0)
                loop_stop(task->manager->loop);
        task_unref(task);
        g_free(cleanup);
}

static void tell_and_remove(void *data)
{
        struct cleanup *cleanup = data;
        g_autoptr(GError) error = NULL;
        publish_exit(cleanup); // waits for the disk
        if (!bundle_delete(cleanup->task->bundle, &error))
                log_error("failed to delete bundle", "id", cleanup->task->bundle->id, "error", error->message);
        rootfs_deactivate(cleanup->task);
        loop_post(cleanup->task->manager->loop, finish, cleanup);
}

static void on_deleted(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct cleanup *cleanup = data;
        const ShimV3__DeleteResponse *deleted = (const ShimV3__DeleteResponse *)response;
        int64_t now = clock_now_ns();
        google__protobuf__timestamp__init(&cleanup->exited_at);
        clock_split(now, &cleanup->exited_at.seconds, &cleanup->exited_at.nanos);
        cleanup->exit_status = EXIT_STATUS_UNKNOWN;
        if (error != NULL)
                log_warn("failed to clean up after shim disconnected", "id", cleanup->task->bundle->id, "error",
                        error->message);
        if (deleted != NULL) {
                cleanup->pid = deleted->pid;
                cleanup->exit_status = deleted->exit_status;
                if (deleted->exited_at != NULL) {
                        cleanup->exited_at.seconds = deleted->exited_at->seconds;
                        cleanup->exited_at.nanos = deleted->exited_at->nanos;
                }
        }
        lanes_submit(cleanup->task->manager->lanes, LANE_SLOW, tell_and_remove, cleanup);
}

static void run_delete(void *data)
{
        struct cleanup *cleanup = data;
        struct task *task = cleanup->task;
        bundle_end_strays(task->bundle->path);
        struct shim_program_options options =
                manager_shim_options(task->manager, task->binary != NULL ? task->binary : task->manager->own_shim);
        shim_delete(&options, task->bundle, on_deleted, cleanup);
}

void task_clean_up(struct task *task)
{
        log_info("cleaning up after shim disconnected", "id", task->bundle->id, "namespace", task->bundle->namespace_);
        task->phase = TASK_CLEANING;
        task->manager->n_busy++;
        struct cleanup *cleanup = g_new0(struct cleanup, 1);
        cleanup->task = task_ref(task);
        lanes_submit(task->manager->lanes, LANE_SLOW, run_delete, cleanup);
}

void on_shim_closed(void *data)
{
        struct manager *manager = data;
        if (manager->stopping)
                return;
        g_autoptr(GList) tasks = g_hash_table_get_values(manager->tasks);
        for (GList *item = tasks; item != NULL; item = item->next) {
                struct task *task = item->data;
                if (task->shim == NULL || !shim_is_closed(task->shim))
                        continue;
                if (task->phase == TASK_LIVE)
                        task_clean_up(task);
                else if (task->phase == TASK_REMOVING && task->closing != NULL)
                        remove_shut_down(task->closing);
        }
}
