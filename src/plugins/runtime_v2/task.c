// SPDX-License-Identifier: Apache-2.0
//
// Calls on tasks. A method that changes the task waits for its turn in the task's queue; the others go straight to the
// shim. A Wait that fails because the shim died stays with the task until the clean-up knows the exit status.
#include "base/fd.h"
#include "plugins/runtime_v2/internal.h"

#include <string.h>
#include <unistd.h>

static const struct {
        const char *name;
        const ProtobufCMessageDescriptor *response;
        bool ordered;
} methods[] = {
        [TASK_STATE] = {"State", &shim_v3__state_response__descriptor, false},
        [TASK_START] = {"Start", &shim_v3__start_response__descriptor, true},
        [TASK_KILL] = {"Kill", &google__protobuf__empty__descriptor, false},
        [TASK_EXEC] = {"Exec", &google__protobuf__empty__descriptor, true},
        [TASK_RESIZE_PTY] = {"ResizePty", &google__protobuf__empty__descriptor, false},
        [TASK_CLOSE_IO] = {"CloseIO", &google__protobuf__empty__descriptor, false},
        [TASK_PIDS] = {"Pids", &shim_v3__pids_response__descriptor, false},
        [TASK_PAUSE] = {"Pause", &google__protobuf__empty__descriptor, true},
        [TASK_RESUME] = {"Resume", &google__protobuf__empty__descriptor, true},
        [TASK_UPDATE] = {"Update", &google__protobuf__empty__descriptor, true},
        [TASK_CHECKPOINT] = {"Checkpoint", &google__protobuf__empty__descriptor, true},
        [TASK_STATS] = {"Stats", &shim_v3__stats_response__descriptor, false},
        [TASK_WAIT] = {"Wait", &shim_v3__wait_response__descriptor, false},
        [TASK_DELETE_PROCESS] = {"Delete", &shim_v3__delete_response__descriptor, true},
};

struct task *task_new(struct manager *manager, const char *namespace_, const char *id)
{
        struct task *task = g_new0(struct task, 1);
        task->references = 1; // the table's
        task->manager = manager;
        task->bundle = bundle_new(manager->root, manager->state, namespace_, id);
        task->key = manager_key(namespace_, id);
        task->log_fd = -1;
        g_queue_init(&task->queue);
        g_queue_init(&task->waits);
        g_queue_init(&task->successors);
        g_assert(g_hash_table_insert(manager->tasks, task->key, task));
        return task;
}

struct task *task_ref(struct task *task)
{
        task->references++;
        return task;
}

void task_unref(struct task *task)
{
        if (task == NULL || --task->references > 0)
                return;
        g_assert(g_queue_is_empty(&task->queue) && g_queue_is_empty(&task->waits));
        task_close_log(task);
        shim_unref(task->shim);
        bundle_free(task->bundle);
        g_free(task->key);
        g_free(task->binary);
        g_free(task);
}

void task_forget(struct task *task)
{
        if (g_hash_table_lookup(task->manager->tasks, task->key) != task)
                return;
        g_hash_table_remove(task->manager->tasks, task->key);
        struct op *op;
        while ((op = g_queue_pop_head(&task->successors)) != NULL)
                loop_post(task->manager->loop, create_retry, op);
        task_unref(task);
}

static void on_log(void *data, int events)
{
        struct task *task = data;
        char buffer[4096];
        ssize_t n = read(task->log_fd, buffer, sizeof buffer);
        if (n > 0 && write(STDERR_FILENO, buffer, (size_t)n) < 0)
                task_close_log(task);
        else if (n <= 0 && errno != EAGAIN && errno != EINTR)
                task_close_log(task);
}

void task_open_log(struct task *task)
{
        if (task->log_fd >= 0)
                task->log_watch = loop_watch_start(task->manager->loop, task->log_fd, UV_READABLE, on_log, task);
}

void task_close_log(struct task *task)
{
        loop_watch_stop(g_steal_pointer(&task->log_watch));
        fd_close(&task->log_fd);
}

// ---- operations

struct op *op_new(struct manager *manager, task_done_fn done, void *data)
{
        struct op *op = g_new0(struct op, 1);
        op->manager = manager;
        op->done = done;
        op->data = data;
        return op;
}

void op_waits_for(struct op *op, const char *what)
{
        const char *id = op->create != NULL ? op->create->id : op->call.id;
        cancel_note_set(&op->note, op->call.cancel, "task %s: %s", id, what);
}

struct turn {
        struct op *op;
        loop_fn run;
};

static void give_turn(struct task *task)
{
        struct turn *turn = g_queue_pop_head(&task->queue);
        task->busy = turn != NULL;
        if (turn == NULL)
                return;
        loop_post(task->manager->loop, turn->run, turn->op);
        g_free(turn);
}

void op_take_turn(struct op *op, loop_fn run)
{
        struct task *task = op->task;
        op->queued = true;
        if (!task->busy) {
                task->busy = true;
                run(op);
                return;
        }
        op_waits_for(op, "its turn after other calls");
        struct turn *turn = g_new(struct turn, 1);
        *turn = (struct turn){op, run};
        g_queue_push_tail(&task->queue, turn);
}

void op_finish(struct op *op, const ProtobufCMessage *response, const GError *error)
{
        cancel_note_clear(&op->note);
        op->done(op->data, response, error);
        if (op->queued)
                give_turn(op->task);
        task_unref(op->task);
        op->manager->n_busy--;
        g_clear_error(&op->error);
        arena_free(op->arena);
        g_free(op->checkpoint);
        g_free(op);
}

void op_fail(struct op *op)
{
        op_finish(op, NULL, op->error);
}

void op_work(struct op *op, lane_fn work, const char *what)
{
        op_waits_for(op, what);
        lanes_submit(op->manager->lanes, LANE_SLOW, work, op);
}

void op_call_shim(struct op *op, const struct shim_call *call, task_done_fn done)
{
        g_autofree char *what = g_strdup_printf("the shim's answer to %s", call->method);
        op_waits_for(op, what);
        shim_call(op->task->shim, call, done, op);
}

void op_wait_for_clean_up(struct op *op)
{
        op_waits_for(op, "the clean-up after its shim");
        g_queue_push_tail(&op->task->waits, op);
}

// ---- calls

static void on_answer(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct op *op = data;
        bool gone = op->task->phase == TASK_CLEANING || shim_is_closed(op->task->shim);
        if (error != NULL && op->call.method == TASK_WAIT && gone && !error_is(error, ERROR_CANCELED)) {
                op_wait_for_clean_up(op);
                return;
        }
        op_finish(op, response, error);
}

static bool check_live(struct op *op)
{
        if (op->task != NULL && op->task->phase == TASK_LIVE)
                return true;
        error_fail(&op->error, ERROR_NOT_FOUND, "task %s not found", op->call.id);
        op_fail(op);
        return false;
}

static void pass_on(void *data)
{
        struct op *op = data;
        if (!check_live(op)) // it may have gone while this waited for its turn
                return;
        struct shim_call call = {
                .namespace_ = op->call.namespace_,
                .method = methods[op->call.method].name,
                .request = op->call.request,
                .response = methods[op->call.method].response,
                .timeout_ns = op->call.timeout_ns,
                .cancel = op->call.cancel,
        };
        op_call_shim(op, &call, on_answer);
}

static void begin_call(void *data)
{
        struct op *op = data;
        op->manager->n_busy++;
        struct task *task = manager_find(op->manager, op->call.namespace_, op->call.id);
        op->task = task != NULL ? task_ref(task) : NULL;
        if (task != NULL && task->phase == TASK_CLEANING && op->call.method == TASK_WAIT)
                op_wait_for_clean_up(op);
        else if (task != NULL && methods[op->call.method].ordered)
                op_take_turn(op, pass_on);
        else
                pass_on(op);
}

void task_call(struct task_runtime *runtime, const struct task_call *call, task_done_fn done, void *data)
{
        struct op *op = op_new((struct manager *)runtime, done, data);
        op->call = *call;
        loop_post(op->manager->loop, begin_call, op);
}
