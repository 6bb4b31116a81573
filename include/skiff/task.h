// SPDX-License-Identifier: Apache-2.0
//
// Tasks: the running side of containers, and further processes in them (exec). One handle stands for one process.
// Ownership and threads: see client.h; a handle may be used by several threads, and freed once none uses it.
#pragma once

#include <skiff/client.h>
#include <skiff/stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct skiff_process;

// A handle on what runs already, a container's first process or (exec_id not NULL) another. Asks nothing of the daemon.
struct skiff_process *skiff_process_attach(struct skiff_client *client, const char *container_id, const char *exec_id);
// The task of a container, ready to start: its namespaces, mounts and cgroup are there. stdio says where its input and
// output go; it stays the caller's. ALREADY_EXISTS: it has one; NOT_FOUND: no such container; UNKNOWN: what the OCI
// runtime says.
struct skiff_process *skiff_task_create(struct skiff_client *client, const char *container_id,
        const struct skiff_stdio *stdio, struct skiff_error **error);

// NULL or 0: as the container's own process.
struct skiff_exec_options {
        const char *id;          // unique within the container; NULL: a random one
        const char *const *args; // NULL-terminated
        const char *const *env;  // "NAME=VALUE", over the container's
        const char *cwd;
        const char *user; // UID[:GID], or names where the container's root file system can be looked into
        bool terminal;
        uint32_t columns, rows; // of the terminal at the start; 0: not said
        bool privileged;
};
// A further process of a running task, ready to start. NOT_FOUND: no such task.
struct skiff_process *skiff_exec_create(struct skiff_client *client, const char *container_id,
        const struct skiff_exec_options *options, const struct skiff_stdio *stdio, struct skiff_error **error);

// Starts it, and from now on listens for its end. UNKNOWN: what the OCI runtime says.
bool skiff_process_start(struct skiff_process *process, struct skiff_error **error);
// Readable once the process has ended (or the connection is lost), for poll(2); stays the handle's, which listens for
// the end from now on. -1: there was no descriptor left; then only skiff_process_wait tells.
int skiff_process_wait_fd(struct skiff_process *process);
// Blocks until it has ended. ret_status: 0–255, 128 + N for signal N. NOT_FOUND.
bool skiff_process_wait(struct skiff_process *process, uint32_t *ret_status, struct skiff_error **error);
// 0 before the start.
uint32_t skiff_process_pid(const struct skiff_process *process);
// all: to every process of the container. NOT_FOUND: it has ended.
bool skiff_process_kill(struct skiff_process *process, int signal, bool all, struct skiff_error **error);
// columns and rows of its terminal.
bool skiff_process_resize(struct skiff_process *process, uint32_t columns, uint32_t rows, struct skiff_error **error);
// No more input comes: the process reads the end of file after what was written.
bool skiff_process_close_stdin(struct skiff_process *process, struct skiff_error **error);
// Removes an ended process; ret_status (may be NULL) as of wait. FAILED_PRECONDITION: it runs; NOT_FOUND.
bool skiff_process_delete(struct skiff_process *process, uint32_t *ret_status, struct skiff_error **error);
// Frees the handle alone. NULL is fine.
void skiff_process_free(struct skiff_process *process);

// The pids, as the daemon's machine sees them, of all processes of a container. The caller frees them with free(3).
bool skiff_task_pids(struct skiff_client *client, const char *container_id, uint32_t **ret_pids, size_t *ret_count,
        struct skiff_error **error);

#ifdef __cplusplus
}
#endif
