// SPDX-License-Identifier: Apache-2.0
//
// Tasks: containers that run, each behind a shim. The interface of the task runtime (PLUGIN_RUNTIME_V2 "task"), used by
// the Tasks service and later by CRI. Requests and responses are the shim API's messages (containerd/shim_v3.pb-c.h),
// which shims of version 2 share byte for byte.
//
// Every function returns at once and can be called by any thread; what it is given must live until done. done comes
// exactly once, on the loop's thread, and must not wait; response is NULL exactly if error is set, both live during the
// call alone.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "core/any.h"

#include <protobuf-c/protobuf-c.h>

struct cancel;
struct task_runtime;
typedef void (*task_done_fn)(void *data, const ProtobufCMessage *response, const GError *error);

struct task_mount {
        const char *type, *source, *target;
        const char *const *options; // ends with NULL
};

struct task_create {
        const char *namespace_, *id;
        const char *runtime;        // "io.containerd.runc.v2", or the path of a shim
        struct any runtime_options; // the container's; used where options are not given
        struct any options;         // of this task
        struct any spec;            // the OCI runtime spec, JSON
        const struct task_mount *rootfs;
        size_t n_rootfs;
        const char *stdin_path, *stdout_path, *stderr_path; // "": none
        bool terminal;
        const char *checkpoint; // a directory; "": none
        bool takes_checkpoint;  // it becomes the task's once create succeeded, and goes with it
};

enum task_method {
        TASK_STATE,
        TASK_START,
        TASK_KILL,
        TASK_EXEC,
        TASK_RESIZE_PTY,
        TASK_CLOSE_IO,
        TASK_PIDS,
        TASK_PAUSE,
        TASK_RESUME,
        TASK_UPDATE,
        TASK_CHECKPOINT,
        TASK_STATS,
        TASK_WAIT,
        TASK_DELETE_PROCESS, // of an exec
};

struct task_call {
        const char *namespace_, *id;
        enum task_method method;         // call only
        const ProtobufCMessage *request; // call only
        int64_t timeout_ns;
        struct cancel *cancel; // NULL: none
};

struct task_runtime_ops {
        // Makes the bundle, starts a shim, creates the container in it. Response: ShimV3__CreateTaskResponse.
        // ALREADY_EXISTS; what the shim and the OCI runtime say comes through as it is. A failure leaves nothing
        // behind.
        void (*create)(struct task_runtime *runtime, const struct task_create *create, struct cancel *cancel,
                task_done_fn done, void *data);
        // Passes a request to the task's shim. Methods that change the task come one after the other, in the order of
        // the calls; State, Kill, Pids, Stats, CloseIO, Resize and Wait pass them by. NOT_FOUND `task x not found`.
        // timeout_ns 0: none. Wait also ends when the shim dies, with the exit status of the clean-up.
        // A second exec with an id that is there is refused by the shim.
        void (*call)(struct task_runtime *runtime, const struct task_call *call, task_done_fn done, void *data);
        // Deletes a task that has stopped: in the shim, the shim itself if nothing else runs in it, the bundle.
        // Response: ShimV3__DeleteResponse. NOT_FOUND, FAILED_PRECONDITION while it runs.
        void (*remove)(struct task_runtime *runtime, const struct task_call *call, task_done_fn done, void *data);
        // The ids of all tasks of a namespace; on the loop's thread.
        void (*list)(struct task_runtime *runtime, const char *namespace_,
                void (*done)(void *data, char *const *ids, size_t n), void *data);
};

struct task_runtime {
        const struct task_runtime_ops *ops;
};
