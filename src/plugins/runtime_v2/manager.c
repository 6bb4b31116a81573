// SPDX-License-Identifier: Apache-2.0
//
// The table of tasks and the plugin around it. Stopping leaves the shims alone: connections are dropped, what is under
// way ends, and the next daemon finds everything again.
#include "plugins/runtime_v2/manager.h"

#include "plugins/runtime_v2/internal.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *manager_key(const char *namespace_, const char *id)
{
        return g_strdup_printf("%s/%s", namespace_, id);
}

struct task *manager_find(struct manager *manager, const char *namespace_, const char *id)
{
        g_autofree char *key = manager_key(namespace_, id);
        return g_hash_table_lookup(manager->tasks, key);
}

struct shim_program_options manager_shim_options(const struct manager *manager, const char *binary)
{
        return (struct shim_program_options){
                .loop = manager->loop,
                .binary = binary,
                .grpc_address = manager->grpc_address,
                .ttrpc_address = manager->ttrpc_address,
                .environment = manager->shim_environment,
                .socket_dir = manager->socket_dir,
                .copy = strcmp(binary, manager->own_shim) == 0 ? manager->copy : NULL,
        };
}

// "io.containerd.NAME.vN" → "containerd-shim-NAME-vN"
static char *program_name(const char *runtime)
{
        g_auto(GStrv) parts = g_strsplit(runtime, ".", 0);
        guint n = g_strv_length(parts);
        if (n < 2 || *parts[0] == 0)
                return NULL;
        return g_strdup_printf("containerd-shim-%s-%s", parts[n - 2], parts[n - 1]);
}

char *manager_resolve_runtime(const struct manager *manager, const char *runtime, GError **error)
{
        if (*runtime == 0) {
                error_fail(error, ERROR_UNKNOWN, "no runtime name");
                return NULL;
        }
        if (*runtime == '/') {
                if (access(runtime, F_OK) == 0)
                        return g_strdup(runtime);
                error_fail(error, ERROR_UNKNOWN, "invalid custom binary path: stat %s: no such file or directory",
                        runtime);
                return NULL;
        }
        g_autofree char *name = strchr(runtime, '/') == NULL ? program_name(runtime) : NULL;
        if (name == NULL) {
                error_fail(error, ERROR_UNKNOWN,
                        "invalid runtime name %s, correct runtime name should be either format like "
                        "`io.containerd.runc.v2` or a full path to the binary",
                        runtime);
                return NULL;
        }
        if (strcmp(name, "containerd-shim-skiff-v2") == 0 ||
                (manager->replace_runc && strcmp(runtime, "io.containerd.runc.v2") == 0))
                return g_strdup(manager->own_shim);
        char *found = g_find_program_in_path(name);
        if (found == NULL)
                error_fail(error, ERROR_UNKNOWN, "runtime \"%s\" binary not installed \"%s\": file does not exist",
                        runtime, name);
        return found;
}

struct shim *manager_connect(struct manager *manager, const struct bundle_address *address, int fd)
{
        GHashTableIter iter;
        struct task *task;
        g_hash_table_iter_init(&iter, manager->tasks);
        while (g_hash_table_iter_next(&iter, NULL, (void **)&task)) {
                if (task->shim != NULL && !shim_is_closed(task->shim) &&
                        strcmp(shim_address(task->shim), address->address) == 0) {
                        close(fd);
                        return shim_ref(task->shim);
                }
        }
        return shim_new(manager->loop, address, fd, on_shim_closed, manager);
}

struct listing {
        struct manager *manager;
        const char *namespace_;
        void (*done)(void *data, char *const *ids, size_t n);
        void *data;
};

static void list(void *data)
{
        struct listing *listing = data;
        g_autoptr(GPtrArray) ids = g_ptr_array_new();
        GHashTableIter iter;
        struct task *task;
        g_hash_table_iter_init(&iter, listing->manager->tasks);
        while (g_hash_table_iter_next(&iter, NULL, (void **)&task)) {
                if (task->phase == TASK_LIVE && strcmp(task->bundle->namespace_, listing->namespace_) == 0)
                        g_ptr_array_add(ids, task->bundle->id);
        }
        listing->done(listing->data, (char *const *)ids->pdata, ids->len);
        g_free(listing);
}

static void task_list(struct task_runtime *runtime, const char *namespace_,
        void (*done)(void *data, char *const *ids, size_t n), void *data)
{
        struct listing *listing = g_new(struct listing, 1);
        *listing = (struct listing){(struct manager *)runtime, namespace_, done, data};
        loop_post(listing->manager->loop, list, listing);
}

static const struct task_runtime_ops runtime_ops = {
        .create = task_create,
        .call = task_call,
        .remove = task_remove,
        .list = task_list,
};

static void *init(struct plugin_host *host, GError **error)
{
        const char *own_shim = plugin_host_program(host, "containerd-shim-skiff-v2", error);
        if (own_shim == NULL)
                return NULL;
        plugin_host_export(host, "log-uri-schemes", "fifo,binary,binary-v2,file");
        struct manager *manager = g_new0(struct manager, 1);
        manager->runtime.ops = &runtime_ops;
        manager->loop = plugin_host_loop(host);
        manager->lanes = plugin_host_lanes(host);
        manager->events = plugin_host_get(host, PLUGIN_EVENT, "exchange");
        manager->mounts = plugin_host_get(host, PLUGIN_MOUNT_MANAGER, "bolt");
        manager->root = g_strdup(plugin_host_root_dir(host));
        manager->state = g_strdup(plugin_host_state_dir(host));
        manager->grpc_address = g_strdup(plugin_host_address(host));
        manager->ttrpc_address = g_strconcat(manager->grpc_address, ".ttrpc", NULL);
        manager->own_shim = own_shim;
        manager->copy = runtime_copy_new();
        const char *socket_dir = plugin_host_config_string(host, "socket_dir");
        manager->socket_dir =
                *socket_dir != 0 ? g_strdup(socket_dir) : g_build_filename(plugin_host_daemon_state(host), "s", NULL);
        manager->shim_environment = plugin_host_config_strings(host, "env");
        manager->replace_runc = plugin_host_config_bool(host, "replace_runc_shim");
        manager->tasks = g_hash_table_new(g_str_hash, g_str_equal);
        mkdir(manager->socket_dir, 0711);
        manager_load(manager);
        return manager;
}

static void stop(void *instance)
{
        struct manager *manager = instance;
        manager->stopping = true;
        g_autoptr(GList) tasks = g_hash_table_get_values(manager->tasks);
        for (GList *item = tasks; item != NULL; item = item->next) {
                struct task *task = item->data;
                task_close_log(task);
                if (task->phase == TASK_LIVE)
                        task_forget(task);
        }
        while (manager->n_busy > 0)
                uv_run(loop_uv(manager->loop), UV_RUN_ONCE);
        g_hash_table_unref(manager->tasks);
        g_free(manager->root);
        g_free(manager->state);
        g_free(manager->grpc_address);
        g_free(manager->ttrpc_address);
        g_free(manager->socket_dir);
        runtime_copy_free(manager->copy);
        g_free(manager);
}

const struct plugin runtime_v2_plugin = {
        .type = PLUGIN_RUNTIME_V2,
        .id = "task",
        .settings =
                (const struct plugin_setting[]){
                        {"env", "[]"},                 // KEY=VALUE for shims
                        {"socket_dir", "''"},          // where shims listen; empty: STATE/s
                        {"replace_runc_shim", "true"}, // io.containerd.runc.v2 is skiff's own shim
                        {NULL, NULL},
                },
        .requires_ =
                (const struct plugin_requirement[]){
                        {PLUGIN_EVENT, "exchange"},
                        {PLUGIN_MOUNT_MANAGER, "bolt"},
                        {NULL, NULL},
                },
        .init = init,
        .stop = stop,
        .info = runtime_info,
        .platforms = true,
};
