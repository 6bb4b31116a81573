// SPDX-License-Identifier: Apache-2.0
//
// Tasks and exec'd processes. The daemon's Wait is sent before Start, so that no end is missed, and its answer is kept
// by an object of its own, which outlives the handle if the handle goes first. Its call has a token of its own, so that
// the handle's end breaks off no other call; the client's interruption is passed on to it.
#include "client/internal.h"

#include "base/identifier.h"
#include "client/spec_internal.h"
#include "client/stdio_internal.h"
#include "io/cancel.h"

#include <skiff/task.h>

#include "containerd/containers.pb-c.h"
#include "containerd/snapshots.pb-c.h"
#include "containerd/tasks.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SERVICE "containerd.services.tasks.v1.Tasks"

struct watch {
        atomic_uint owners; // the handle, whoever answers, and the client's interruption while that is watched
        struct waiter *ended;
        struct cancel *cancel;
        int fd;
        uint32_t status;
        GError *error;
};

struct skiff_process {
        struct skiff_client *client;
        char *container_id, *exec_id;
        _Atomic uint32_t pid;
        struct watch *watch; // under the client's mutex; NULL: not listened to yet, else it stays
        unsigned long interruption;
};

struct skiff_client *process_client(const struct skiff_process *process)
{
        return process->client;
}

// ---- waiting

static void watch_unref(struct watch *watch)
{
        if (watch == NULL || atomic_fetch_sub_explicit(&watch->owners, 1, memory_order_acq_rel) != 1)
                return;
        waiter_free(watch->ended);
        cancel_unref(watch->cancel);
        close(watch->fd);
        g_clear_error(&watch->error);
        g_free(watch);
}

static void on_process_end(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct watch *watch = data;
        if (error != NULL)
                watch->error = g_error_copy(error);
        else
                watch->status = ((const Tasks__WaitResponse *)response)->exit_status;
        waiter_signal(watch->ended);
        eventfd_write(watch->fd, 1);
        watch_unref(watch);
}

static void on_interrupted(void *data)
{
        struct watch *watch = data;
        cancel_trigger(watch->cancel, ERROR_CANCELED, "interrupted");
        watch_unref(watch);
}

static struct watch *watch_new(void)
{
        struct watch *watch = g_new0(struct watch, 1);
        atomic_init(&watch->owners, 3);
        watch->ended = waiter_new();
        watch->cancel = cancel_new();
        watch->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        return watch;
}

static struct watch *listen_for_end(struct skiff_process *process)
{
        uv_mutex_lock(&process->client->mutex);
        struct watch *watch = process->watch;
        bool is_new = watch == NULL;
        if (is_new)
                process->watch = watch = watch_new();
        uv_mutex_unlock(&process->client->mutex);
        if (!is_new)
                return watch;

        process->interruption = cancel_watch(process->client->interrupted, on_interrupted, watch);
        Tasks__WaitRequest message = TASKS__WAIT_REQUEST__INIT;
        message.container_id = process->container_id;
        message.exec_id = process->exec_id;
        const char *metadata[5];
        struct rpc_request request =
                client_request(process->client, CLIENT_METHOD(SERVICE, "Wait", tasks__wait_response), metadata, NULL);
        request.message = &message.base;
        request.cancel = watch->cancel;
        rpc_client_call(process->client->rpc, &request, on_process_end, watch);
        return watch;
}

int skiff_process_wait_fd(struct skiff_process *process)
{
        return listen_for_end(process)->fd;
}

bool skiff_process_wait(struct skiff_process *process, uint32_t *ret_status, struct skiff_error **error)
{
        struct watch *watch = listen_for_end(process);
        waiter_wait(watch->ended, -1);
        if (watch->error != NULL) {
                g_propagate_error(inner(error), g_error_copy(watch->error));
                return false;
        }
        *ret_status = watch->status;
        return true;
}

// ---- handles

struct skiff_process *skiff_process_attach(struct skiff_client *client, const char *container_id, const char *exec_id)
{
        struct skiff_process *process = g_new0(struct skiff_process, 1);
        process->client = client;
        process->container_id = g_strdup(container_id);
        process->exec_id = g_strdup(exec_id != NULL ? exec_id : "");
        return process;
}

void skiff_process_free(struct skiff_process *process)
{
        if (process == NULL)
                return;
        if (process->watch != NULL) {
                if (cancel_unwatch(process->client->interrupted, process->interruption))
                        watch_unref(process->watch); // else on_interrupted does
                cancel_trigger(process->watch->cancel, ERROR_CANCELED, "not waited for any more");
                watch_unref(process->watch);
        }
        g_free(process->container_id);
        g_free(process->exec_id);
        g_free(process);
}

uint32_t skiff_process_pid(const struct skiff_process *process)
{
        return process->pid;
}

// ---- create

static const Snapshots__MountsResponse *read_mounts(
        struct skiff_client *client, const Containers__Container *record, struct arena *arena, GError **error)
{
        Snapshots__MountsRequest request = SNAPSHOTS__MOUNTS_REQUEST__INIT;
        request.snapshotter = record->snapshotter;
        request.key = record->snapshot_key;
        return client_call(client,
                CLIENT_METHOD("containerd.services.snapshots.v1.Snapshots", "Mounts", snapshots__mounts_response),
                &request, arena, error);
}

static bool fill_rootfs(
        struct skiff_client *client, Tasks__CreateTaskRequest *request, struct arena *arena, GError **error)
{
        AUTO(prepared) prepared = client_take_mounts(client, request->container_id);
        if (prepared != NULL) {
                request->n_rootfs = prepared->n;
                request->rootfs = prepared->mounts;
                arena_absorb(arena, g_steal_pointer(&prepared->arena));
                return true;
        }
        const Containers__Container *record = container_read(client, request->container_id, arena, error);
        if (record == NULL || *record->snapshot_key == '\0')
                return record != NULL;
        const Snapshots__MountsResponse *mounts = read_mounts(client, record, arena, error);
        if (mounts == NULL)
                return false;
        request->n_rootfs = mounts->n_mounts;
        request->rootfs = mounts->mounts;
        return true;
}

struct skiff_process *skiff_task_create(struct skiff_client *client, const char *container_id,
        const struct skiff_stdio *stdio, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        struct stdio_targets targets = stdio_targets(stdio);
        Tasks__CreateTaskRequest request = TASKS__CREATE_TASK_REQUEST__INIT;
        request.container_id = (char *)container_id;
        request.stdin = (char *)targets.in;
        request.stdout = (char *)targets.out;
        request.stderr = (char *)targets.err;
        request.terminal = targets.terminal;
        if (!fill_rootfs(client, &request, arena, inner(error)))
                return NULL;
        const Tasks__CreateTaskResponse *response = client_call(
                client, CLIENT_METHOD(SERVICE, "Create", tasks__create_task_response), &request, arena, inner(error));
        if (response == NULL)
                return NULL;
        struct skiff_process *process = skiff_process_attach(client, container_id, NULL);
        process->pid = response->pid;
        return process;
}

// ---- exec

// The container's own process with what the options change.
static bool change_process(json_t *process, const struct skiff_exec_options *options, GError **error)
{
        json_object_del(process, "consoleSize");
        json_object_set_new(process, "terminal", json_boolean(options->terminal));
        if (options->terminal)
                spec_set_console_size(process, options->columns, options->rows);
        if (options->args == NULL || options->args[0] == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "no command given");
        json_object_set_new(process, "args", spec_texts(options->args));
        if (options->cwd != NULL && *options->cwd != '/')
                return error_fail(
                        error, ERROR_INVALID_ARGUMENT, "working directory \"%s\" is not absolute", options->cwd);
        if (options->cwd != NULL)
                json_object_set_new(process, "cwd", json_string(options->cwd));
        json_t *environment = json_object_get(process, "env");
        g_autofree const char **base = g_new0(const char *, json_array_size(environment) + 1);
        for (size_t i = 0, n = 0; i < json_array_size(environment); i++) {
                const char *variable = json_string_value(json_array_get(environment, i));
                if (variable != NULL)
                        base[n++] = variable;
        }
        json_object_set_new(process, "env", spec_environment(base, options->env));
        if (options->privileged) {
                json_object_set_new(process, "capabilities", spec_capabilities(true, NULL, NULL, NULL));
                json_object_set_new(process, "noNewPrivileges", json_false());
        }
        return true;
}

static bool change_user(struct skiff_client *client, json_t *process, const Containers__Container *record,
        const char *text, GError **error)
{
        AUTO(arena) arena = arena_new();
        struct user_ids user;
        const Snapshots__MountsResponse *mounts =
                *record->snapshot_key != '\0' ? read_mounts(client, record, arena, NULL) : NULL;
        AUTO(rootfs) rootfs = mounts == NULL ? NULL : rootfs_open(mounts->mounts, mounts->n_mounts, NULL);
        if (!user_resolve(rootfs, text, &user, error))
                return false;
        json_object_set_new(process, "user", spec_user(&user));
        user_ids_done(&user);
        return true;
}

static char *exec_spec(struct skiff_client *client, const Containers__Container *record,
        const struct skiff_exec_options *options, GError **error)
{
        json_t *spec = record->spec == NULL
                               ? NULL
                               : json_loadb((const char *)record->spec->value.data, record->spec->value.len, 0, NULL);
        json_t *process = json_incref(json_object_get(spec, "process"));
        json_decref(spec);
        if (!json_is_object(process)) {
                json_decref(process);
                error_fail(error, ERROR_FAILED_PRECONDITION, "the container's specification has no process");
                return NULL;
        }
        char *text = NULL;
        if (change_process(process, options, error) &&
                (options->user == NULL || change_user(client, process, record, options->user, error))) {
                char *dumped = json_dumps(process, JSON_COMPACT);
                if (dumped == NULL)
                        error_fail(error, ERROR_INVALID_ARGUMENT, "an argument, path or variable is not UTF-8");
                text = g_strdup(dumped);
                free(dumped);
        }
        json_decref(process);
        return text;
}

struct skiff_process *skiff_exec_create(struct skiff_client *client, const char *container_id,
        const struct skiff_exec_options *options, const struct skiff_stdio *stdio, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        const Containers__Container *record = container_read(client, container_id, arena, inner(error));
        if (record == NULL)
                return NULL;
        g_autofree char *text = exec_spec(client, record, options, inner(error));
        if (text == NULL)
                return NULL;
        g_autofree char *random = options->id != NULL ? g_strdup(options->id) : identifier_random_hex(6);
        struct stdio_targets targets = stdio_targets(stdio);
        Google__Protobuf__Any spec = GOOGLE__PROTOBUF__ANY__INIT;
        spec.type_url = (char *)"types.containerd.io/opencontainers/runtime-spec/1/Process";
        spec.value = (ProtobufCBinaryData){.data = (uint8_t *)text, .len = strlen(text)};
        Tasks__ExecProcessRequest request = TASKS__EXEC_PROCESS_REQUEST__INIT;
        request.container_id = (char *)container_id;
        request.exec_id = random;
        request.stdin = (char *)targets.in;
        request.stdout = (char *)targets.out;
        request.stderr = (char *)targets.err;
        request.terminal = options->terminal;
        request.spec = &spec;
        if (client_call(client, CLIENT_METHOD(SERVICE, "Exec", google__protobuf__empty), &request, NULL,
                    inner(error)) == NULL)
                return NULL;
        return skiff_process_attach(client, container_id, random);
}

// ---- the rest

bool skiff_process_start(struct skiff_process *process, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        listen_for_end(process);
        Tasks__StartRequest request = TASKS__START_REQUEST__INIT;
        request.container_id = process->container_id;
        request.exec_id = process->exec_id;
        const Tasks__StartResponse *response = client_call(
                process->client, CLIENT_METHOD(SERVICE, "Start", tasks__start_response), &request, arena, inner(error));
        if (response == NULL)
                return false;
        process->pid = response->pid;
        return true;
}

bool skiff_process_kill(struct skiff_process *process, int signal, bool all, struct skiff_error **error)
{
        Tasks__KillRequest request = TASKS__KILL_REQUEST__INIT;
        request.container_id = process->container_id;
        request.exec_id = process->exec_id;
        request.signal = (uint32_t)signal;
        request.all = all;
        return client_call(process->client, CLIENT_METHOD(SERVICE, "Kill", google__protobuf__empty), &request, NULL,
                       inner(error)) != NULL;
}

bool skiff_process_resize(struct skiff_process *process, uint32_t columns, uint32_t rows, struct skiff_error **error)
{
        Tasks__ResizePtyRequest request = TASKS__RESIZE_PTY_REQUEST__INIT;
        request.container_id = process->container_id;
        request.exec_id = process->exec_id;
        request.width = columns;
        request.height = rows;
        return client_call(process->client, CLIENT_METHOD(SERVICE, "ResizePty", google__protobuf__empty), &request,
                       NULL, inner(error)) != NULL;
}

bool skiff_process_close_stdin(struct skiff_process *process, struct skiff_error **error)
{
        Tasks__CloseIORequest request = TASKS__CLOSE_IOREQUEST__INIT;
        request.container_id = process->container_id;
        request.exec_id = process->exec_id;
        request.stdin = true;
        return client_call(process->client, CLIENT_METHOD(SERVICE, "CloseIO", google__protobuf__empty), &request, NULL,
                       inner(error)) != NULL;
}

static const Tasks__DeleteResponse *delete_process(struct skiff_process *process, struct arena *arena, GError **error)
{
        if (*process->exec_id == '\0') {
                Tasks__DeleteTaskRequest request = TASKS__DELETE_TASK_REQUEST__INIT;
                request.container_id = process->container_id;
                return client_call(process->client, CLIENT_METHOD(SERVICE, "Delete", tasks__delete_response), &request,
                        arena, error);
        }
        Tasks__DeleteProcessRequest request = TASKS__DELETE_PROCESS_REQUEST__INIT;
        request.container_id = process->container_id;
        request.exec_id = process->exec_id;
        return client_call(process->client, CLIENT_METHOD(SERVICE, "DeleteProcess", tasks__delete_response), &request,
                arena, error);
}

bool skiff_process_delete(struct skiff_process *process, uint32_t *ret_status, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        const Tasks__DeleteResponse *response = delete_process(process, arena, inner(error));
        if (response != NULL && ret_status != NULL)
                *ret_status = response->exit_status;
        return response != NULL;
}

bool skiff_task_pids(struct skiff_client *client, const char *container_id, uint32_t **ret_pids, size_t *ret_count,
        struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        Tasks__ListPidsRequest request = TASKS__LIST_PIDS_REQUEST__INIT;
        request.container_id = (char *)container_id;
        const Tasks__ListPidsResponse *response = client_call(
                client, CLIENT_METHOD(SERVICE, "ListPids", tasks__list_pids_response), &request, arena, inner(error));
        if (response == NULL)
                return false;
        uint32_t *pids = calloc(response->n_processes + 1, sizeof(*pids));
        g_assert(pids != NULL);
        for (size_t i = 0; i < response->n_processes; i++)
                pids[i] = response->processes[i]->pid;
        *ret_pids = pids;
        *ret_count = response->n_processes;
        return true;
}
