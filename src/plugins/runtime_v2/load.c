// SPDX-License-Identifier: Apache-2.0
//
// After a start: every bundle in STATE is the memory of a task. Its shim is asked, all at the same time, each with a
// deadline. A shim that does not answer keeps its task, one that is gone is cleaned up after, one that never got its
// container is told to go. A task that ended meanwhile stays, with its exit status, until it is deleted.
#include "plugins/runtime_v2/internal.h"

#include "base/fd.h"
#include "base/log.h"
#include "sys/tree.h"

#include <unistd.h>

#define STATE_TIMEOUT_NS (5 * INT64_C(1000000000))
#define LEAKED_TIMEOUT_NS (10 * INT64_C(1000000000))
enum { CONNECT_TIMEOUT_MS = 5000 };

struct load {
        struct task *task; // a reference
        struct bundle_address address;
        int fd;
        GError *error;
};

static void loaded(struct load *load)
{
        struct manager *manager = load->task->manager;
        if (--manager->n_loading == 0)
                loop_stop(manager->loop);
        manager->n_busy--;
        bundle_address_done(&load->address);
        g_clear_error(&load->error);
        fd_close(&load->fd);
        task_unref(load->task);
        g_free(load);
}

static void on_loaded(void *data)
{
        loaded(data);
}

static void end_leaked(void *data)
{
        struct load *load = data;
        bundle_end_strays(load->task->bundle->path); // its end is noticed, and cleaned up after
        loop_post(load->task->manager->loop, on_loaded, load);
}

static void on_leaked_removed(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct load *load = data;
        if (error != NULL && !error_is(error, ERROR_NOT_FOUND))
                lanes_submit(load->task->manager->lanes, LANE_SLOW, end_leaked, load);
        else
                loaded(load);
}

static void on_state(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct load *load = data;
        struct task *task = load->task;
        if (error != NULL && error_is(error, ERROR_NOT_FOUND)) {
                log_info("cleaning leaked shim process", "id", task->bundle->id);
                struct task_call call = {.namespace_ = task->bundle->namespace_,
                        .id = task->bundle->id,
                        .timeout_ns = LEAKED_TIMEOUT_NS};
                task_remove(&task->manager->runtime, &call, on_leaked_removed, load);
                return;
        }
        if (error != NULL && !shim_is_closed(task->shim))
                log_warn("shim did not answer, keeping its task", "id", task->bundle->id, "error", error->message);
        loaded(load);
}

static void on_connected(void *data)
{
        struct load *load = data;
        struct task *task = load->task;
        task_open_log(task);
        if (load->fd < 0) {
                log_info("shim is gone", "id", task->bundle->id, "error", load->error->message);
                task->loading = true;
                task->manager->n_loading++;
                task_clean_up(task);
                loaded(load);
                return;
        }
        task->shim = manager_connect(task->manager, &load->address, fd_take(&load->fd));
        task->phase = TASK_LIVE;
        ShimV3__StateRequest request = SHIM_V3__STATE_REQUEST__INIT;
        request.id = task->bundle->id;
        struct shim_call call = {task->bundle->namespace_, "State", &request.base, &shim_v3__state_response__descriptor,
                STATE_TIMEOUT_NS, NULL};
        shim_call(task->shim, &call, on_state, load);
}

static void connect_shim(void *data)
{
        struct load *load = data;
        struct task *task = load->task;
        if (bundle_load_shim(task->bundle, &task->binary, &load->address, &load->error))
                load->fd = rpc_connect_unix(load->address.address, CONNECT_TIMEOUT_MS, &load->error);
        task->log_fd = bundle_open_log(task->bundle, NULL);
        loop_post(task->manager->loop, on_connected, load);
}

static void load_task(struct manager *manager, const char *namespace_, const char *id)
{
        struct load *load = g_new0(struct load, 1);
        load->task = task_ref(task_new(manager, namespace_, id));
        load->task->may_have_mounts = true;
        load->fd = -1;
        manager->n_loading++;
        manager->n_busy++;
        lanes_submit(manager->lanes, LANE_SLOW, connect_shim, load);
}

// Half-removed bundles have hidden names; work directories without a bundle are what a reboot leaves.
static void sweep(struct manager *manager, const char *base, const char *namespace_)
{
        g_autofree char *path = g_build_filename(base, namespace_, NULL);
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        const char *name;
        while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
                g_autofree char *full = g_build_filename(path, name, NULL);
                bool unknown = base == manager->root && manager_find(manager, namespace_, name) == NULL;
                if (*name != '.' && !unknown)
                        continue;
                g_autoptr(GError) error = NULL;
                bundle_end_strays(full);
                if (!tree_remove(full, &error))
                        log_warn("cannot remove leftover directory", "path", full, "error", error->message);
        }
}

static void each_namespace(
        struct manager *manager, const char *base, void (*fn)(struct manager *, const char *namespace_))
{
        g_autoptr(GDir) dir = g_dir_open(base, 0, NULL);
        const char *name;
        while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
                if (*name != '.')
                        fn(manager, name);
        }
}

static void load_namespace(struct manager *manager, const char *namespace_)
{
        g_autofree char *path = g_build_filename(manager->state, namespace_, NULL);
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        const char *name;
        while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
                if (*name != '.')
                        load_task(manager, namespace_, name);
        }
        sweep(manager, manager->state, namespace_);
}

static void sweep_root(struct manager *manager, const char *namespace_)
{
        sweep(manager, manager->root, namespace_);
}

void manager_load(struct manager *manager)
{
        each_namespace(manager, manager->state, load_namespace);
        each_namespace(manager, manager->root, sweep_root);
        if (manager->n_loading > 0)
                loop_run(manager->loop);
}
