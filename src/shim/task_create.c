// SPDX-License-Identifier: Apache-2.0
//
// Create, step by step: options, root file system, streams, the runtime's `create`, and then the container is known. A
// step that fails undoes what came before and answers the call; the bundle is the daemon's and stays. So does a client
// that is gone before its answer: nobody would know of the container. Creation is the first operation of the
// container's queue; a Delete that comes meanwhile finds out how it ended.
#include "base/log.h"
#include "codec/runtime_spec.h"
#include "containerd/events.pb-c.h"
#include "containerd/shim_v3.pb-c.h"
#include "shim/console.h"
#include "shim/container.h"
#include "shim/oci_choice.h"
#include "shim/options.h"
#include "sys/mounts.h"
#include "sys/sealed_program.h"

#include <string.h>
#include <sys/stat.h>

struct creation {
        struct container *container; // a reference
        struct rpc_call *call;
        struct console *console; // NULL: no terminal
        char *pid_file;
};

static const ShimV3__CreateTaskRequest *request_of(const struct creation *creation)
{
        return (const ShimV3__CreateTaskRequest *)rpc_call_request(creation->call);
}

static void creation_free(struct creation *creation)
{
        console_free(creation->console);
        g_free(creation->pid_file);
        container_unref(creation->container);
        g_free(creation);
}

// Takes error.
static void fail(struct creation *creation, GError *error)
{
        struct container *container = creation->container;
        g_autoptr(GError) not_unmounted = NULL;
        streams_free(g_steal_pointer(&container->init.streams));
        if (container->rootfs != NULL && !unmount_below(container->rootfs, &not_unmounted))
                log_warn("failed to cleanup rootfs mount", "id", container->id, "error", not_unmounted->message);
        rpc_call_fail(creation->call, error);
        g_hash_table_remove(container->shim->containers, container->id);
        container_operation_done(container);
        creation_free(creation);
}

// ---- before the runtime

static bool mount_rootfs(struct creation *creation, GError **error)
{
        const ShimV3__CreateTaskRequest *request = request_of(creation);
        struct container *container = creation->container;
        if (request->n_rootfs == 0)
                return true;
        container->rootfs = g_strdup_printf("%s/rootfs", request->bundle);
        if (mkdir(container->rootfs, 0711) < 0 && errno != EEXIST)
                return error_fail_errno(error, errno, "make %s", container->rootfs);
        struct mount_request *mounts =
                arena_array(rpc_call_arena(creation->call), struct mount_request, request->n_rootfs);
        for (size_t i = 0; i < request->n_rootfs; i++) {
                const Types__Mount *mount = request->rootfs[i];
                mounts[i] = (struct mount_request){mount->type, mount->source, mount->target,
                        (const char *const *)mount->options, mount->n_options};
        }
        if (mount_all(mounts, request->n_rootfs, container->rootfs, error))
                return true;
        g_prefix_error(error, "failed to mount rootfs component: ");
        return false;
}

static void choose_runtime(struct container *container)
{
        struct oci *oci = &container->oci;
        g_autofree char *reason = NULL;
        if (*container->options->binary_name != '\0') {
                oci->binary = g_strdup(container->options->binary_name);
                reason = g_strdup("the runtime options name it");
        } else {
                oci->binary = oci_choose(&reason);
        }
        const char *copied = container->shim->copied_runtime;
        g_autofree char *identity = copied != NULL ? sealed_program_identity(oci->binary) : NULL;
        if (identity != NULL && strcmp(identity, copied) == 0)
                oci->program_fd = SEALED_PROGRAM_FD;
        log_info("OCI runtime", "runtime", oci->binary, "reason", reason, "id", container->id);
}

static bool prepare_runtime(struct creation *creation, GError **error)
{
        struct container *container = creation->container;
        struct shim *shim = container->shim;
        struct oci *oci = &container->oci;
        choose_runtime(container);
        oci->loop = shim->loop;
        oci->reaper = shim->reaper;
        oci->root = options_runtime_root(container->options->root, shim->namespace_);
        oci->log = g_strdup_printf("%s/log.json", container->bundle);
        oci->bundle = g_strdup(container->bundle);
        oci->systemd_cgroup = container->options->systemd_cgroup;
        g_autofree char *options = options_to_json(container->options);
        // For the delete command: the name that was chosen, so that it asks the runtime that knows the container.
        return container_write_file(container, "options.json", options, error) &&
               container_write_file(container, "runtime", oci->binary, error) &&
               oci_adapt_spec(oci->binary, container->bundle, shim->socket_directory, error);
}

static bool read_spec(struct container *container, GError **error)
{
        g_autofree char *path = g_strdup_printf("%s/config.json", container->bundle), *text = NULL;
        gsize n;
        g_autoptr(GError) failed = NULL;
        if (!g_file_get_contents(path, &text, &n, &failed))
                return error_fail(error, ERROR_UNKNOWN, "read spec: %s", failed->message);
        container->own_pid_namespace = runtime_spec_has_own_pid_namespace(text, n);
        return true;
}

// ---- the runtime

static void publish_create(const struct creation *creation)
{
        const ShimV3__CreateTaskRequest *request = request_of(creation);
        Events__TaskIO io = EVENTS__TASK_IO__INIT;
        io.stdin = request->stdin;
        io.stdout = request->stdout;
        io.stderr = request->stderr;
        io.terminal = request->terminal;
        Events__TaskCreate event = EVENTS__TASK_CREATE__INIT;
        event.container_id = request->id;
        event.bundle = request->bundle;
        event.n_rootfs = request->n_rootfs;
        event.rootfs = request->rootfs;
        event.io = &io;
        event.checkpoint = request->checkpoint;
        event.pid = (uint32_t)creation->container->init.pid;
        container_publish(creation->container, "/tasks/create", &event.base);
}

static void on_oom(void *data)
{
        struct container *container = data;
        Events__TaskOOM event = EVENTS__TASK_OOM__INIT;
        event.container_id = container->id;
        container_publish(container, "/tasks/oom", &event.base);
}

static void watch_cgroup(struct container *container)
{
        g_autoptr(GError) error = NULL;
        container->cgroup = cgroup_of_process(container->init.pid, &error);
        if (container->cgroup == NULL) {
                log_warn("no cgroup of container", "id", container->id, "error", error->message);
                return;
        }
        container->oom = oom_watch(container->shim->loop, container->cgroup, on_oom, container);
}

static void finish(struct creation *creation)
{
        struct container *container = creation->container;
        container->created = true;
        publish_create(creation);
        ShimV3__CreateTaskResponse response = SHIM_V3__CREATE_TASK_RESPONSE__INIT;
        response.pid = (uint32_t)container->init.pid;
        rpc_call_reply(creation->call, &response.base);
        process_started(&container->init);
        container_operation_done(container);
        creation_free(creation);
}

struct undoing {
        struct creation *creation;
        GError *error;
};

static void on_undone(void *data, const GError *error)
{
        struct undoing *undoing = data;
        if (error != NULL)
                log_warn("failed to remove container", "error", error->message);
        fail(undoing->creation, undoing->error);
        g_free(undoing);
}

// The runtime has the container, but we cannot serve it. Takes error.
static void undo_create(struct creation *creation, GError *error)
{
        struct container *container = creation->container;
        struct oci_job job = {.args = (const char *[]){"delete", "--force", container->id, NULL}};
        struct undoing *undoing = g_new(struct undoing, 1);
        *undoing = (struct undoing){creation, error};
        container->init.published = true; // nobody knows of it
        if (!oci_run(&container->oci, &job, on_undone, undoing, NULL))
                on_undone(undoing, NULL);
}

static void on_created(void *data, const GError *job_error)
{
        struct creation *creation = data;
        struct container *container = creation->container;
        GError *error = NULL;
        if (job_error != NULL) {
                fail(creation, oci_describe(&container->oci, "OCI runtime create failed", job_error));
                return;
        }
        container->init.starting = true;
        if (!process_adopt(&container->init, creation->pid_file, creation->console, &error) ||
                !cancel_check(rpc_call_cancel(creation->call), &error)) {
                undo_create(creation, error);
                return;
        }
        watch_cgroup(container);
        finish(creation);
}

static void run_create(struct creation *creation)
{
        struct container *container = creation->container;
        const Runc__Options *options = container->options;
        struct spawn_fd fds[3];
        GError *error = NULL;
        g_autoptr(GPtrArray) args = g_ptr_array_new();
        const char *head[] = {"create", "--bundle", container->bundle, "--pid-file", creation->pid_file};
        for (size_t i = 0; i < G_N_ELEMENTS(head); i++)
                g_ptr_array_add(args, (char *)head[i]);
        if (creation->console != NULL) {
                g_ptr_array_add(args, (char *)"--console-socket");
                g_ptr_array_add(args, (char *)console_path(creation->console));
        }
        if (options->no_pivot_root)
                g_ptr_array_add(args, (char *)"--no-pivot");
        if (options->no_new_keyring)
                g_ptr_array_add(args, (char *)"--no-new-keyring");
        g_ptr_array_add(args, container->id);
        g_ptr_array_add(args, NULL);
        struct oci_job job = {.args = (const char *const *)args->pdata, .leaves_process = true};
        if (creation->console == NULL) {
                job.n_fds = streams_child_fds(container->init.streams, fds);
                job.fds = fds;
        }
        if (!oci_run(&container->oci, &job, on_created, creation, &error)) {
                g_prefix_error(&error, "OCI runtime create failed: ");
                fail(creation, error);
        }
}

static void on_streams_ready(void *data, const GError *streams_error)
{
        struct creation *creation = data;
        struct container *container = creation->container;
        GError *error = NULL;
        if (streams_error != NULL)
                fail(creation, g_error_copy(streams_error));
        else if (*container->checkpoint != '\0')
                finish(creation); // restored by start
        else if (container->init.terminal &&
                 (creation->console = console_new(container->shim->socket_directory, &error)) == NULL)
                fail(creation, error);
        else
                run_create(creation);
}

void task_create(struct rpc_call *call, void *data)
{
        struct shim *shim = data;
        const ShimV3__CreateTaskRequest *request = (const ShimV3__CreateTaskRequest *)rpc_call_request(call);
        if (shim->stopping) {
                call_fail(call, ERROR_UNAVAILABLE, "shim is shutting down");
                return;
        }
        if (g_hash_table_contains(shim->containers, request->id)) {
                call_fail(call, ERROR_ALREADY_EXISTS, "container %s: already exists", request->id);
                return;
        }
        struct container *container = container_new(shim, request->id, request->bundle);
        g_hash_table_insert(shim->containers, container->id, container);
        container->busy = true;
        process_set_streams(&container->init, request->stdin, request->stdout, request->stderr, request->terminal);
        container->checkpoint = g_strdup(request->checkpoint);
        container->parent_checkpoint = g_strdup(request->parent_checkpoint);
        struct creation *creation = g_new0(struct creation, 1);
        creation->container = container_ref(container);
        creation->call = call;
        creation->pid_file = g_strdup_printf("%s/init.pid", container->bundle);
        GError *error = NULL;
        container->options = options_from_any(request->options, &error);
        if (container->options == NULL || !read_spec(container, &error) || !prepare_runtime(creation, &error) ||
                !mount_rootfs(creation, &error))
                fail(creation, error);
        else
                process_open_streams(&container->init, call, on_streams_ready, creation);
}
