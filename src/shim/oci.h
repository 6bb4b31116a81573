// SPDX-License-Identifier: Apache-2.0
//
// Calls to an OCI runtime (crun, runc) as a program, without waiting: one job per call. Threads: the loop's.
#pragma once

#include "io/loop.h"
#include "shim/reaper.h"
#include "sys/spawn.h"

#include <glib.h>
#include <stdbool.h>

// How to call the runtime for one container. The strings are the owner's.
struct oci {
        struct loop *loop;
        struct reaper *reaper;
        char *binary;   // name or path
        int program_fd; // a sealed copy of it that the daemon made; 0: none
        char *root;     // the runtime's state directory, one per namespace
        char *log;      // its log file, in the bundle
        char *bundle;   // its working directory
        bool systemd_cgroup;
        bool container_ended; // its first process did: a job that takes long from now on is killed
};
void oci_done(struct oci *oci);

// error is NULL if the runtime exited with 0. Its text is that of go-runc: "crun did not terminate successfully: exit
// status 1: …output…", its code UNKNOWN.
typedef void (*oci_done_fn)(void *data, const GError *error);

struct oci_job {
        const char *const *args;    // "start", ID, NULL
        const struct spawn_fd *fds; // the container's standard streams; NULL: output is collected for the error
        size_t n_fds;
        const char *input;   // on stdin; NULL: /dev/null
        bool leaves_process; // creates a process whose id will be known only afterwards
};
// oci stays until done, which is called once, later. False: it was not started, done is not called.
bool oci_run(const struct oci *oci, const struct oci_job *job, oci_done_fn done, void *data, GError **error);

// The error that a client gets: "WHAT: TEXT" with the last error that the runtime wrote to its log, as that says what
// went wrong inside the container; without one, error's own text.
GError *oci_describe(const struct oci *oci, const char *what, const GError *error);

// The process id that the runtime wrote. NOT_FOUND, INVALID_ARGUMENT.
bool oci_read_pid(const char *path, pid_t *ret_pid, GError **error);
