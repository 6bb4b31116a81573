// SPDX-License-Identifier: Apache-2.0
//
// The parts of the Tasks service, inside src/services alone. An answer of the task runtime comes on the loop's thread,
// which packs it into the response; what it takes to do so lives in the call's arena.
#pragma once

#include "core/checkpoint.h"
#include "core/container.h"
#include "core/metadata.h"
#include "core/plugin.h"
#include "core/task.h"
#include "rpc/rpc.h"

#include "containerd/shim_v3.pb-c.h"
#include "containerd/tasks.pb-c.h"

struct tasks_service {
        struct plugin_service service; // first: the plugin's instance
        struct metadata *metadata;
        struct task_runtime *runtime;
        struct content_store *content;
        struct checkpoints *checkpoints;
};

#define MEDIA_TYPE_CHECKPOINT "application/vnd.containerd.container.criu.checkpoint.criu.tar"

// A call that waits for the runtime.
struct tasks_pending {
        struct rpc_call *call;
        // Builds the response and answers; NULL: Empty.
        void (*reply)(struct tasks_pending *pending, const ProtobufCMessage *response);
        const char *id; // of the process in the response
};

// The call's namespace and container. NULL: the call has been answered with the error.
struct tasks_pending *tasks_begin(struct tasks_service *service, struct rpc_call *call, const char *container_id,
        struct container *ret_container);
// For task_runtime: data is a struct tasks_pending.
void tasks_answer(void *data, const ProtobufCMessage *response, const GError *error);
TaskTypes__Process *tasks_process(struct arena *arena, const ShimV3__StateResponse *state, const char *id);

void tasks_on_create(struct rpc_call *call, void *service);
void tasks_on_checkpoint(struct rpc_call *call, void *service);
void tasks_on_list(struct rpc_call *call, void *service);
void tasks_on_metrics(struct rpc_call *call, void *service);
