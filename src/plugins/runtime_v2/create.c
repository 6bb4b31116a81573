// SPDX-License-Identifier: Apache-2.0
//
// Creation: bundle and shim program on workers, connection and Create on the loop. Whatever fails, the way back is the
// same: the container is deleted in the shim if there is one, the shim is told to go, the bundle is removed. A shim
// that does not answer to that is ended, and cleaned up after.
#include "plugins/runtime_v2/internal.h"

#include "base/log.h"
#include "io/cancel.h"

#include <string.h>
#include <unistd.h>

#define ABORT_TIMEOUT_NS (5 * INT64_C(1000000000))

static void abort_finish(void *data)
{
        struct op *op = data;
        task_forget(op->task);
        op_fail(op);
}

static void abort_bundle(void *data)
{
        struct op *op = data;
        g_autoptr(GError) error = NULL;
        if (op->task->shim == NULL)
                bundle_end_strays(op->task->bundle->path);
        if (!bundle_delete(op->task->bundle, &error))
                log_warn("failed to delete bundle", "id", op->create->id, "error", error->message);
        rootfs_deactivate(op->task);
        loop_post(op->manager->loop, abort_finish, op);
}

static void on_abort_shutdown(void *data, const ProtobufCMessage *response, const GError *error)
{
        op_work(data, abort_bundle, "the removal of its bundle");
}

static void on_abort_clean_up(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct op *op = data;
        if (error != NULL)
                log_warn("failed to clean up after create", "id", op->create->id, "error", error->message);
        op_work(op, abort_bundle, "the removal of its bundle");
}

static void abort_by_force(void *data)
{
        struct op *op = data;
        struct task *task = op->task;
        bundle_end_strays(task->bundle->path);
        struct shim_program_options options = manager_shim_options(op->manager, task->binary);
        shim_delete(&options, task->bundle, on_abort_clean_up, op);
}

static void on_abort_delete(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct op *op = data;
        bool is_alone = shim_n_references(op->task->shim) == 1;
        if (error != NULL && !error_is(error, ERROR_NOT_FOUND) && is_alone) {
                log_warn("shim cannot undo a create", "id", op->create->id, "error", error->message);
                op_work(op, abort_by_force, "the clean-up after its shim");
                return;
        }
        ShimV3__ShutdownRequest request = SHIM_V3__SHUTDOWN_REQUEST__INIT;
        request.id = (char *)op->create->id;
        struct shim_call call = {op->create->namespace_, "Shutdown", &request.base,
                &google__protobuf__empty__descriptor, ABORT_TIMEOUT_NS, NULL};
        op_call_shim(op, &call, on_abort_shutdown);
}

// op->error says why. On the loop.
static void abort_create(struct op *op)
{
        op->task->phase = TASK_REMOVING;
        if (op->task->shim == NULL) {
                op_work(op, abort_bundle, "the removal of its bundle");
                return;
        }
        ShimV3__DeleteRequest request = SHIM_V3__DELETE_REQUEST__INIT;
        request.id = (char *)op->create->id;
        struct shim_call call = {op->create->namespace_, "Delete", &request.base, &shim_v3__delete_response__descriptor,
                ABORT_TIMEOUT_NS, NULL};
        op_call_shim(op, &call, on_abort_delete);
}

static void on_created(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct op *op = data;
        if (error != NULL) {
                op->error = g_error_copy(error);
                g_prefix_error(&op->error, "failed to create shim task: ");
                abort_create(op);
                return;
        }
        op->task->phase = TASK_LIVE;
        if (shim_is_closed(op->task->shim)) // between its answer and now
                task_clean_up(op->task);
        op_finish(op, response, NULL);
}

static void add_rootfs(const struct op *op, struct arena *arena, ShimV3__CreateTaskRequest *request)
{
        const struct task_create *create = op->create;
        if (op->rootfs != NULL) {
                request->n_rootfs = op->rootfs->n_system;
                request->rootfs = op->rootfs->system;
                return;
        }
        request->n_rootfs = create->n_rootfs;
        request->rootfs = arena_array(arena, Types__Mount *, create->n_rootfs);
        for (size_t i = 0; i < create->n_rootfs; i++) {
                const struct task_mount *mount = &create->rootfs[i];
                Types__Mount *message = arena_new0(arena, Types__Mount);
                types__mount__init(message);
                message->type = (char *)mount->type;
                message->source = (char *)mount->source;
                message->target = (char *)mount->target;
                message->options = (char **)mount->options;
                while (mount->options != NULL && mount->options[message->n_options] != NULL)
                        message->n_options++;
                request->rootfs[i] = message;
        }
}

static const struct any *options_of(const struct task_create *create)
{
        return create->options.n_value > 0 ? &create->options : &create->runtime_options;
}

static void call_create(struct op *op)
{
        const struct task_create *create = op->create;
        AUTO(arena) arena = arena_new();
        ShimV3__CreateTaskRequest request = SHIM_V3__CREATE_TASK_REQUEST__INIT;
        request.id = (char *)create->id;
        request.bundle = op->task->bundle->path;
        add_rootfs(op, arena, &request);
        request.terminal = create->terminal;
        request.stdin = (char *)create->stdin_path;
        request.stdout = (char *)create->stdout_path;
        request.stderr = (char *)create->stderr_path;
        request.checkpoint = op->checkpoint != NULL ? op->checkpoint : (char *)create->checkpoint;
        const struct any *options = options_of(create);
        Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
        if (options->type_url != NULL && *options->type_url != 0) {
                any.type_url = (char *)options->type_url;
                any.value = (ProtobufCBinaryData){options->n_value, (uint8_t *)options->value};
                request.options = &any;
        }
        struct shim_call call = {create->namespace_, "Create", &request.base,
                &shim_v3__create_task_response__descriptor, 0, op->call.cancel};
        op_call_shim(op, &call, on_created);
}

static void on_started(void *data, struct shim_started *started, const GError *error)
{
        struct op *op = data;
        task_open_log(op->task);
        if (error == NULL && !op->manager->stopping) {
                op->task->shim = manager_connect(op->manager, &started->address, started->fd);
                started->fd = -1;
                call_create(op);
                return;
        }
        op->error = error != NULL ? g_error_copy(error) : NULL;
        if (error == NULL)
                error_fail(&op->error, ERROR_UNAVAILABLE, "the daemon is stopping: unavailable");
        g_prefix_error(&op->error, "failed to start shim: start failed: ");
        abort_create(op);
}

static void forget_refused(void *data)
{
        struct op *op = data;
        task_forget(op->task);
        op_fail(op);
}

static void abort_from_worker(void *data)
{
        abort_create(data);
}

// What is restored at the start lies with the task until it is deleted.
static bool take_checkpoint(struct op *op)
{
        if (!op->create->takes_checkpoint)
                return true;
        op->checkpoint = g_build_filename(op->task->bundle->work, "checkpoint", NULL);
        return rename(op->create->checkpoint, op->checkpoint) == 0 ||
               error_fail_errno(&op->error, errno, "move checkpoint to %s", op->checkpoint);
}

static void make_bundle(void *data)
{
        struct op *op = data;
        struct task *task = op->task;
        task->binary = manager_resolve_runtime(op->manager, op->create->runtime, &op->error);
        if (task->binary == NULL) {
                g_prefix_error(&op->error, "failed to start shim: failed to resolve runtime path: ");
                loop_post(op->manager->loop, forget_refused, op);
                return;
        }
        // What stands there belongs to somebody else: no way back for it.
        if (!bundle_create(task->bundle, &op->create->spec, &op->error)) {
                loop_post(op->manager->loop, forget_refused, op);
                return;
        }
        if (take_checkpoint(op) && rootfs_activate(op))
                task->log_fd = bundle_open_log(task->bundle, &op->error);
        if (task->log_fd < 0) {
                loop_post(op->manager->loop, abort_from_worker, op);
                return;
        }
        struct shim_program_options options = manager_shim_options(op->manager, task->binary);
        op_waits_for(op, "the start of its shim");
        shim_start(&options, task->bundle, options_of(op->create), op->manager->lanes, on_started, op);
}

void create_retry(void *data)
{
        struct op *op = data;
        const struct task_create *create = op->create;
        if (!cancel_check(op->call.cancel, &op->error)) {
                op_fail(op);
                return;
        }
        struct task *other = manager_find(op->manager, create->namespace_, create->id);
        if (other != NULL && (other->phase == TASK_CLEANING || other->phase == TASK_REMOVING)) {
                op_waits_for(op, "the removal of an earlier task of its name");
                g_queue_push_tail(&other->successors, op); // no client sees it any more
                return;
        }
        if (other != NULL) {
                error_fail(&op->error, ERROR_ALREADY_EXISTS, "task %s: already exists", create->id);
                op_fail(op);
                return;
        }
        op->task = task_ref(task_new(op->manager, create->namespace_, create->id));
        op->task->phase = TASK_CREATING;
        op_work(op, make_bundle, "its bundle");
}

static void begin_create(void *data)
{
        struct op *op = data;
        op->manager->n_busy++;
        create_retry(op);
}

void task_create(struct task_runtime *runtime, const struct task_create *create, struct cancel *cancel,
        task_done_fn done, void *data)
{
        struct op *op = op_new((struct manager *)runtime, done, data);
        op->create = create;
        op->call.cancel = cancel;
        loop_post(op->manager->loop, begin_create, op);
}
