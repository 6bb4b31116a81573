// SPDX-License-Identifier: Apache-2.0
//
// The table of containers and their queues of operations.
#include "shim/container.h"

#include "base/fd.h"
#include "sys/cgroup.h"

#include <fcntl.h>
#include <string.h>

#include "google/protobuf/empty.pb-c.h"

struct operation {
        operation_fn fn;
        struct rpc_call *call;
};

static void free_process(void *data)
{
        process_done(data);
        g_free(data);
}

struct container *container_new(struct shim *shim, const char *id, const char *bundle)
{
        struct container *container = g_new0(struct container, 1);
        container->n_references = 1;
        container->shim = shim;
        container->id = g_strdup(id);
        container->bundle = g_strdup(bundle);
        container->execs = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, free_process);
        process_init(&container->init, container, NULL);
        g_queue_init(&container->operations);
        return container;
}

struct container *container_ref(struct container *container)
{
        container->n_references++;
        return container;
}

void container_unref(struct container *container)
{
        if (container == NULL || --container->n_references > 0)
                return;
        g_assert(g_queue_is_empty(&container->operations));
        oom_free(container->oom);
        cgroup_free(container->cgroup);
        g_hash_table_unref(container->execs);
        process_done(&container->init);
        oci_done(&container->oci);
        if (container->options != NULL)
                runc__options__free_unpacked(container->options, NULL);
        g_free(container->checkpoint);
        g_free(container->parent_checkpoint);
        g_free(container->rootfs);
        g_free(container->bundle);
        g_free(container->id);
        g_free(container);
}

struct container *container_find(struct shim *shim, struct rpc_call *call, const char *id)
{
        struct container *container = g_hash_table_lookup(shim->containers, id);
        if (container == NULL)
                call_fail(call, ERROR_NOT_FOUND, "container not created");
        return container;
}

struct container *container_of_call(struct shim *shim, struct rpc_call *call, const char *id)
{
        struct container *container = container_find(shim, call, id);
        if (container == NULL || container->created)
                return container;
        call_fail(call, ERROR_NOT_FOUND, "container not created");
        return NULL;
}

struct process *process_of_call(struct container *container, struct rpc_call *call, const char *exec_id)
{
        if (*exec_id == '\0')
                return &container->init;
        struct process *process = g_hash_table_lookup(container->execs, exec_id);
        if (process == NULL)
                call_fail(call, ERROR_NOT_FOUND, "process does not exist %s: not found", exec_id);
        return process;
}

// ---- the queue

static void run_next(void *data)
{
        struct container *container = data;
        struct operation *operation = g_queue_pop_head(&container->operations);
        container->busy = operation != NULL;
        if (operation != NULL) {
                operation->fn(container, operation->call); // may drop the last other reference
                g_free(operation);
        }
        container_unref(container);
}

void container_enqueue(struct container *container, operation_fn fn, struct rpc_call *call)
{
        struct operation *operation = g_new(struct operation, 1);
        *operation = (struct operation){fn, call};
        g_queue_push_tail(&container->operations, operation);
        if (container->busy)
                return;
        container->busy = true;
        loop_post(container->shim->loop, run_next, container_ref(container));
}

void container_operation_done(struct container *container)
{
        g_assert(container->busy);
        loop_post(container->shim->loop, run_next, container_ref(container));
}

// ---- helpers

bool container_write_file(const struct container *container, const char *name, const char *text, GError **error)
{
        g_autofree char *path = g_strdup_printf("%s/%s", container->bundle, name);
        fd_auto int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        size_t n = strlen(text);
        if (fd < 0 || write(fd, text, n) != (ssize_t)n)
                return error_fail_errno(error, errno, "write %s", path);
        return true;
}

void container_publish(struct container *container, const char *topic, const ProtobufCMessage *event)
{
        publisher_send(container->shim->publisher, topic, event);
}

void call_reply_empty(struct rpc_call *call)
{
        Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
        rpc_call_reply(call, &empty.base);
}

void call_fail(struct rpc_call *call, enum error_code code, const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        GError *error = g_error_new_valist(SKIFF_ERROR, (int)code, format, arguments);
        va_end(arguments);
        rpc_call_fail(call, error);
}
