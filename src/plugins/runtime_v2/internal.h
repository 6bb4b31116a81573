// SPDX-License-Identifier: Apache-2.0
//
// The task runtime's state, all of it on the loop's thread; workers see bundles and single fields that nobody changes
// meanwhile. A task is in the manager's table from the first moment of its creation to the last of its removal.
#pragma once

#include "core/event.h"
#include "core/plugin.h"
#include "core/task.h"
#include "io/cancel.h"
#include "io/lanes.h"
#include "io/loop.h"
#include "plugins/runtime_v2/shim.h"

#include "containerd/shim_v3.pb-c.h"

struct manager {
        struct task_runtime runtime; // first: what others see
        struct loop *loop;
        struct lanes *lanes;
        struct event_exchange *events;
        struct mount_manager *mounts; // NULL: it did not start
        char *root, *state;           // of all bundles
        char *grpc_address, *ttrpc_address;
        const char *own_shim; // the full path
        struct runtime_copy *copy;
        char *socket_dir;
        const char *const *shim_environment; // borrowed from the host
        bool replace_runc;                   // io.containerd.runc.v2 is our shim
        GHashTable *tasks;                   // "NS/ID" → struct task
        unsigned n_busy;                     // operations and clean-ups under way
        bool stopping;
        unsigned n_loading;
};

enum task_phase {
        TASK_CREATING, // no call finds it yet
        TASK_LIVE,
        TASK_REMOVING, // by its Delete
        TASK_CLEANING, // its shim died
};

struct task {
        unsigned references;
        struct manager *manager;
        struct bundle *bundle;
        char *key;    // in the table
        char *binary; // of the shim
        enum task_phase phase;
        struct shim *shim; // NULL until it has started
        int log_fd;
        struct loop_watch *log_watch;
        GQueue queue;         // of struct op: those that wait for their turn
        bool busy;            // one of them has it
        GQueue waits;         // of struct op: Wait calls that a shim's death left to the clean-up
        GQueue successors;    // of struct op: creations that wait for the id
        struct op *closing;   // waits for the shim to go
        bool may_have_mounts; // in the mount manager
        bool loading;         // the start of the daemon waits for its clean-up
};

// One call of core/task.h under way.
struct op {
        struct manager *manager;
        struct task *task; // a reference; NULL until found
        struct task_call call;
        const struct task_create *create;
        struct arena *arena;                 // NULL: none
        char *checkpoint;                    // that was taken; NULL: none
        const Types__ActivationInfo *rootfs; // what the mount manager leaves to the shim; NULL: everything
        task_done_fn done;
        void *data;
        bool queued; // it holds its task's turn
        GError *error;
        ShimV3__DeleteResponse deleted; // what remove answers
        Google__Protobuf__Timestamp deleted_at;
        struct loop_timer *timer;
        struct cancel_note note; // what it waits for
};

// ---- manager.c

char *manager_key(const char *namespace_, const char *id);
struct task *manager_find(struct manager *manager, const char *namespace_, const char *id);
struct shim_program_options manager_shim_options(const struct manager *manager, const char *binary);
// Resolves "io.containerd.NAME.vN" or an absolute path. Any thread.
char *manager_resolve_runtime(const struct manager *manager, const char *runtime, GError **error);
// An open connection to that address, shared with its other tasks, or a new one over fd. Takes fd.
struct shim *manager_connect(struct manager *manager, const struct bundle_address *address, int fd);

// ---- task.c

struct task *task_new(struct manager *manager, const char *namespace_, const char *id);
struct task *task_ref(struct task *task);
void task_unref(struct task *task);
// Out of the table: the id is free again, for the creations that wait for it first.
void task_forget(struct task *task);
void task_open_log(struct task *task);
void task_close_log(struct task *task);

struct op *op_new(struct manager *manager, task_done_fn done, void *data);
// Answers, gives the task's turn to the next, frees.
void op_finish(struct op *op, const ProtobufCMessage *response, const GError *error);
// The same with op->error.
void op_fail(struct op *op);
// Says in the list of calls what the operation waits for from now on.
void op_waits_for(struct op *op, const char *what);
// Runs run(op) once no other operation has the task's turn.
void op_take_turn(struct op *op, loop_fn run);
// Does work on a SLOW worker, which posts what follows to the loop.
void op_work(struct op *op, lane_fn work, const char *what);
// A call to the task's shim for the operation: done(op, …).
void op_call_shim(struct op *op, const struct shim_call *call, task_done_fn done);
// Leaves it to the clean-up after the task's shim to answer.
void op_wait_for_clean_up(struct op *op);
void task_call(struct task_runtime *runtime, const struct task_call *call, task_done_fn done, void *data);

// ---- create.c, remove.c, cleanup.c, load.c

void task_create(struct task_runtime *runtime, const struct task_create *create, struct cancel *cancel,
        task_done_fn done, void *data);
void task_remove(struct task_runtime *runtime, const struct task_call *call, task_done_fn done, void *data);
// Tries again, once the id is free.
void create_retry(void *op);
// Before a create; false with op->error.
bool rootfs_activate(struct op *op);
void rootfs_deactivate(struct task *task);
// As struct plugin's info: a containerd.types.RuntimeRequest is answered by a RuntimeInfo.
void runtime_info(void *manager, const struct any *request, plugin_info_fn done, void *data);
// After the shim was told to shut down: waits for its end, removes the bundle, finishes.
void remove_shut_down(struct op *op);
// The shim is gone and nobody asked it to go: `shim delete`, exit event, bundle.
void task_clean_up(struct task *task);
void on_shim_closed(void *manager);
// Finds what an earlier daemon left. Runs the loop until each shim has answered or its deadline passed.
void manager_load(struct manager *manager);
