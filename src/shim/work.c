// SPDX-License-Identifier: Apache-2.0
#include "shim/work.h"

#include <unistd.h>

struct work *work_new(struct container *container, struct rpc_call *call, struct process *process)
{
        struct work *work = g_new0(struct work, 1);
        work->container = container_ref(container);
        work->call = call;
        work->process = process;
        return work;
}

void work_free(struct work *work)
{
        if (work->process_file != NULL)
                unlink(work->process_file);
        if (work->queued)
                container_operation_done(work->container);
        console_free(work->console);
        g_free(work->pid_file);
        g_free(work->process_file);
        container_unref(work->container);
        g_free(work);
}

void work_fail(struct work *work, GError *error)
{
        rpc_call_fail(work->call, error);
        work_free(work);
}

void work_run(struct work *work, const struct oci_job *job, oci_done_fn done)
{
        GError *error = NULL;
        if (!oci_run(&work->container->oci, job, done, work, &error))
                done(work, error);
        g_clear_error(&error);
}

void work_add_option(GPtrArray *args, const char *option, const char *value)
{
        if (value != NULL && *value == '\0')
                return;
        g_ptr_array_add(args, (char *)option);
        if (value != NULL)
                g_ptr_array_add(args, (char *)value);
}
