// SPDX-License-Identifier: Apache-2.0
//
// A running shim as the daemon sees it: one connection, used by one task or, where the shim groups containers, by
// several; and the shim's program, run to start one and to clean up after a dead one. Threads: loop, except where said.
#pragma once

#include "core/task.h"
#include "plugins/runtime_v2/bundle.h"
#include "rpc/client.h"

struct loop;

// ---- the program

struct shim_program_options {
        struct loop *loop;
        const char *binary;       // the shim's full path
        const char *grpc_address; // the daemon's, which the shim hands on
        const char *ttrpc_address;
        const char *const *environment; // KEY=VALUE added to ours, ends with NULL; NULL: none
        const char *socket_dir;         // where shims make their sockets; "": as they choose
        struct runtime_copy *copy;      // for our own shim; NULL: none
};

// A sealed copy of crun in memory, which every call of it would otherwise make for itself. Not of runc: its binary is
// ten times as large, and it gains nothing. Made when it is first wanted, and anew when crun was replaced. Threads:
// any.
struct runtime_copy;
struct runtime_copy *runtime_copy_new(void);
void runtime_copy_free(struct runtime_copy *copy);
// The caller closes it. -1: there is none; else *ret_identity (freed by the caller) says of which file.
int runtime_copy_open(struct runtime_copy *copy, char **ret_identity);

// What is known of a shim after its start, or of a container after its clean-up. Exactly one of the two calls comes.
struct shim_started {
        struct bundle_address address;
        int fd; // connected; the callee takes it (sets it to -1)
};
typedef void (*shim_start_fn)(void *data, struct shim_started *started, const GError *error);
// Runs `start` in the bundle, connects, saves the address in the bundle. Worker; done on the loop. The bundle outlives
// it.
void shim_start(const struct shim_program_options *options, const struct bundle *bundle, const struct any *task_options,
        struct lanes *lanes, shim_start_fn done, void *data);

// Runs `delete` in the bundle of a shim that is gone. Worker; done on the loop with a ShimV3__DeleteResponse.
void shim_delete(
        const struct shim_program_options *options, const struct bundle *bundle, task_done_fn done, void *data);

// ---- the connection

struct shim;

// Takes fd. on_closed is called once, on the loop, unless the last reference went before.
struct shim *shim_new(
        struct loop *loop, const struct bundle_address *address, int fd, void (*on_closed)(void *data), void *data);
struct shim *shim_ref(struct shim *shim);
void shim_unref(struct shim *shim);
const char *shim_address(const struct shim *shim);
bool shim_is_closed(const struct shim *shim);
unsigned shim_n_references(const struct shim *shim);

// Calls METHOD of the shim's task service. Errors are the shim's own, UNAVAILABLE once it is gone.
struct shim_call {
        const char *namespace_, *method;
        const ProtobufCMessage *request;
        const ProtobufCMessageDescriptor *response;
        int64_t timeout_ns;
        struct cancel *cancel;
};
void shim_call(struct shim *shim, const struct shim_call *call, task_done_fn done, void *data);
