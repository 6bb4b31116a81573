// SPDX-License-Identifier: Apache-2.0
//
// Removal: Delete in the shim, Shutdown, the shim's end (unless it serves other containers), the bundle. Once the shim
// has deleted the container nothing after it can fail the call: what cannot be removed is logged and found at the next
// start.
#include "plugins/runtime_v2/internal.h"

#include "base/log.h"

#define SHUTDOWN_TIMEOUT_NS (3 * INT64_C(1000000000))
enum { END_TIMEOUT_MS = 3000 };

static void remove_finish(void *data)
{
        struct op *op = data;
        task_forget(op->task);
        if (op->error != NULL)
                op_fail(op);
        else
                op_finish(op, &op->deleted.base, NULL);
}

static void remove_bundle(void *data)
{
        struct op *op = data;
        g_autoptr(GError) error = NULL;
        if (!bundle_delete(op->task->bundle, &error))
                log_error("failed to delete bundle", "id", op->call.id, "error", error->message);
        rootfs_deactivate(op->task);
        loop_post(op->manager->loop, remove_finish, op);
}

static void end_and_remove(void *data)
{
        struct op *op = data;
        bundle_end_strays(op->task->bundle->path);
        remove_bundle(op);
}

static void on_end_timeout(void *data)
{
        struct op *op = data;
        op->timer = NULL;
        op->task->closing = NULL;
        log_warn("shim still runs after its shutdown", "id", op->call.id);
        op_work(op, end_and_remove, "the removal of its bundle");
}

void remove_shut_down(struct op *op)
{
        struct task *task = op->task;
        // Another task of the same shim: it stays.
        if (shim_is_closed(task->shim) || shim_n_references(task->shim) > 1) {
                loop_timer_stop(g_steal_pointer(&op->timer));
                task->closing = NULL;
                op_work(op, remove_bundle, "the removal of its bundle");
                return;
        }
        task->closing = op;
        op_waits_for(op, "its shim's end");
        if (op->timer == NULL)
                op->timer = loop_timer_start(op->manager->loop, END_TIMEOUT_MS, on_end_timeout, op);
}

static void on_shutdown(void *data, const ProtobufCMessage *response, const GError *error)
{
        remove_shut_down(data);
}

static void shut_down(struct op *op)
{
        ShimV3__ShutdownRequest request = SHIM_V3__SHUTDOWN_REQUEST__INIT;
        request.id = (char *)op->call.id;
        struct shim_call call = {op->call.namespace_, "Shutdown", &request.base, &google__protobuf__empty__descriptor,
                SHUTDOWN_TIMEOUT_NS, NULL};
        op_call_shim(op, &call, on_shutdown);
}

static void on_deleted(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct op *op = data;
        // It died in this moment: the clean-up removes everything and tells the exit.
        if (op->task->phase != TASK_LIVE || (error != NULL && shim_is_closed(op->task->shim))) {
                op_wait_for_clean_up(op);
                return;
        }
        if (error != NULL && !error_is(error, ERROR_NOT_FOUND)) {
                op->error = g_error_copy(error);
                g_prefix_error(&op->error, "failed to delete task: ");
                op_fail(op);
                return;
        }
        if (error != NULL) {
                error_fail(&op->error, ERROR_NOT_FOUND, "failed to delete task: not found");
        } else {
                const ShimV3__DeleteResponse *deleted = (const ShimV3__DeleteResponse *)response;
                shim_v3__delete_response__init(&op->deleted);
                op->deleted.pid = deleted->pid;
                op->deleted.exit_status = deleted->exit_status;
                if (deleted->exited_at != NULL) {
                        google__protobuf__timestamp__init(&op->deleted_at);
                        op->deleted_at.seconds = deleted->exited_at->seconds;
                        op->deleted_at.nanos = deleted->exited_at->nanos;
                        op->deleted.exited_at = &op->deleted_at;
                }
        }
        op->task->phase = TASK_REMOVING;
        shut_down(op);
}

static void run_remove(void *data)
{
        struct op *op = data;
        if (op->task->phase == TASK_CLEANING) {
                op_wait_for_clean_up(op);
                return;
        }
        if (op->task->phase != TASK_LIVE) {
                error_fail(&op->error, ERROR_NOT_FOUND, "task %s not found", op->call.id);
                op_fail(op);
                return;
        }
        ShimV3__DeleteRequest request = SHIM_V3__DELETE_REQUEST__INIT;
        request.id = (char *)op->call.id;
        struct shim_call call = {op->call.namespace_, "Delete", &request.base, &shim_v3__delete_response__descriptor,
                op->call.timeout_ns, op->call.cancel};
        op_call_shim(op, &call, on_deleted);
}

static void begin_remove(void *data)
{
        struct op *op = data;
        op->manager->n_busy++;
        struct task *task = manager_find(op->manager, op->call.namespace_, op->call.id);
        if (task == NULL || task->phase == TASK_CREATING) {
                error_fail(&op->error, ERROR_NOT_FOUND, "task %s not found", op->call.id);
                op_fail(op);
                return;
        }
        op->task = task_ref(task);
        op_take_turn(op, run_remove);
}

void task_remove(struct task_runtime *runtime, const struct task_call *call, task_done_fn done, void *data)
{
        struct op *op = op_new((struct manager *)runtime, done, data);
        op->call = *call;
        loop_post(op->manager->loop, begin_remove, op);
}
