// SPDX-License-Identifier: Apache-2.0
//
// What the shim keeps of its containers and their processes, inside src/shim alone. Threads: the loop's.
//
// A container is counted: the shim's table holds one reference, each thing under way (a runtime's job, a watch on a
// process) another. Its processes live in it. Operations that change it run one after the other, in the order in which
// they came (container_enqueue); kill, resize, close of stdin and all questions pass them by.
#pragma once

#include "containerd/runc.pb-c.h"
#include "rpc/rpc.h"
#include "rpc/server.h"
#include "shim/oci.h"
#include "shim/oom.h"
#include "shim/publisher.h"
#include "shim/streams.h"

#include "google/protobuf/timestamp.pb-c.h"

struct shim {
        struct loop *loop;
        struct reaper *reaper;
        struct rpc_server *server;
        struct publisher *publisher;
        char *namespace_;
        char *socket_directory; // of the shim's socket; short enough for more sockets
        char *copied_runtime; // identity of the OCI runtime that descriptor SEALED_PROGRAM_FD is a copy of; NULL: none
        GHashTable *containers; // id to struct container
        bool stopping;
        void (*stop)(struct shim *shim); // ends the program, after what is queued is sent
};

enum process_state { PROCESS_CREATED, PROCESS_RUNNING, PROCESS_PAUSED, PROCESS_STOPPED };

struct process {
        struct container *container;
        char *exec_id; // NULL: the container's first
        enum process_state state;
        pid_t pid;                       // 0: none yet
        bool starting;                   // an end that comes now is published after the start
        bool reaped, settled, published; // settled: what it wrote is read
        unsigned exit_status;
        int64_t exited_at_ns;
        char *names[3]; // the client's stdin, stdout, stderr; "": none
        bool terminal;
        bool stdin_closed; // before there was a streams
        struct streams *streams;
        GPtrArray *waiters;   // of Wait; NULL: none
        loop_fn on_published; // called once its exit is
        void *on_published_data;
        char *spec; // of an exec: the process as JSON
};

struct container {
        unsigned n_references;
        struct shim *shim;
        char *id, *bundle;
        char *rootfs; // where the shim mounted; NULL: it did not
        bool created; // known to clients
        struct oci oci;
        Runc__Options *options;
        bool own_pid_namespace;
        struct process init;
        GHashTable *execs; // exec id to struct process
        unsigned n_running_execs;
        bool pausing;
        bool killing_all;                     // what is left after the first process ended
        unsigned n_kills;                     // the runtime's for clients, under way
        struct deletion *deletion;            // the runtime's, under way or waiting for these; NULL: none
        char *checkpoint, *parent_checkpoint; // "": a container to be started, not restored
        struct cgroup *cgroup;                // NULL: none known
        struct oom *oom;
        GQueue operations;
        bool busy;
};

// ---- container.c

struct container *container_new(struct shim *shim, const char *id, const char *bundle);
struct container *container_ref(struct container *container);
void container_unref(struct container *container);
DEFINE_AUTO(container, container_unref)
// The container of a request, its creation under way or over. NULL: the call has been failed with containerd's text.
struct container *container_find(struct shim *shim, struct rpc_call *call, const char *id);
// The same of a container that is created.
struct container *container_of_call(struct shim *shim, struct rpc_call *call, const char *id);
// The process of a request, exec_id "" for the first. NULL: as above.
struct process *process_of_call(struct container *container, struct rpc_call *call, const char *exec_id);

typedef void (*operation_fn)(struct container *container, struct rpc_call *call);
void container_enqueue(struct container *container, operation_fn fn, struct rpc_call *call);
// Each operation ends with this, once; the next one begins later.
void container_operation_done(struct container *container);

bool container_write_file(const struct container *container, const char *name, const char *text, GError **error);
// Sends an event about the container.
void container_publish(struct container *container, const char *topic, const ProtobufCMessage *event);

// ---- process.c

void process_init(struct process *process, struct container *container, const char *exec_id);
void process_done(struct process *process);
void process_set_streams(struct process *process, const char *in, const char *out, const char *err, bool terminal);
// Makes its streams and opens them for a call; ready as of streams_open.
void process_open_streams(struct process *process, struct rpc_call *call, streams_ready_fn ready, void *data);
// The runtime made the process: reads the pid file, takes the terminal from console (may be NULL), begins to copy and
// watches for the end.
struct console;
bool process_adopt(struct process *process, const char *pid_file, struct console *console, GError **error);
// Start is over, the start event is sent: an end that came meanwhile is handled now.
void process_started(struct process *process);
// Answers when the process has ended.
void process_wait(struct process *process, struct rpc_call *call);
// Whoever waits is told that the process will not end: it is not there.
void process_fail_waits(struct process *process, enum error_code code, const char *text);
// Calls done, later, when its output is copied, or when it took too long.
void process_drain(struct process *process, loop_fn done, void *data);
// Like containerd: "paused" of the container is the state of all its processes.
unsigned process_status(const struct process *process);
Google__Protobuf__Timestamp *process_exited_at(const struct process *process, struct arena *arena);
// An exec'd process ended or never started. The first process's exit is published last: maybe now.
void container_exec_ended(struct container *container);

// ---- operations

void task_create(struct rpc_call *call, void *shim);
void task_start(struct rpc_call *call, void *shim);
void task_exec(struct rpc_call *call, void *shim);
void task_pause(struct rpc_call *call, void *shim);
void task_resume(struct rpc_call *call, void *shim);
void task_update(struct rpc_call *call, void *shim);
void task_checkpoint(struct rpc_call *call, void *shim);
void task_kill(struct rpc_call *call, void *shim);
void task_delete(struct rpc_call *call, void *shim);

void call_reply_empty(struct rpc_call *call);
void call_fail(struct rpc_call *call, enum error_code code, const char *format, ...) G_GNUC_PRINTF(3, 4);
// Kills all that is in the container, by the runtime.
void container_kill_all(struct container *container, oci_done_fn done, void *data);

// ---- task_service.c

// Both versions of the task service, on one server.
void task_service_add(struct rpc_server *server, struct shim *shim);
