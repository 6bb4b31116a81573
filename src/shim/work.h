// SPDX-License-Identifier: Apache-2.0
//
// A call on a container that waits for the OCI runtime: what task_run.c and task_control.c keep until its end. Threads:
// loop.
#pragma once

#include "shim/console.h"
#include "shim/container.h"

struct work {
        struct container *container; // a reference
        struct rpc_call *call;
        struct process *process;
        struct console *console;
        char *pid_file, *process_file;
        bool queued; // it is the container's current operation
};

struct work *work_new(struct container *container, struct rpc_call *call, struct process *process);
void work_free(struct work *work);
// Answers the call by error, which it takes, and frees.
void work_fail(struct work *work, GError *error);
// done gets the work as its data, maybe within this call.
void work_run(struct work *work, const struct oci_job *job, oci_done_fn done);

// For an argument list: an option, and its value unless that is NULL.
void work_add_option(GPtrArray *args, const char *option, const char *value);
