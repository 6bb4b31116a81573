// SPDX-License-Identifier: Apache-2.0
//
// The one way to start a program: no fork without exec in a threaded process. The child gets exactly the descriptors
// that it is given, an empty signal mask, default signal dispositions and the environment that is passed. Threads: any.
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

struct spawn_fd {
        int from; // in this process, stays the caller's
        int to;   // in the child
};

struct spawn_options {
        const char *path;           // the program; searched in PATH if it has no slash
        int program_fd;             // instead, an open copy of it, stays the caller's; 0, or if it cannot be run: path
        const char *const *argv;    // NULL-terminated
        const char *const *environ; // NULL: this process's
        const char *cwd;            // NULL: this process's
        const struct spawn_fd *fds; // all others are closed; 0, 1, 2 that are not named are /dev/null
        size_t n_fds;
        bool new_session; // setsid
        bool new_process_group;
        unsigned clone_flags; // CLONE_NEW*: namespaces for the child (clone3)
};

struct child {
        pid_t pid;
        int pidfd; // owned: close it after the child was waited for
};

// NOT_FOUND if the program is not there, PERMISSION_DENIED if it cannot be executed, else UNKNOWN with the step that
// failed.
bool spawn(const struct spawn_options *options, struct child *ret_child, GError **error);

// Waits (blocking, workers only) and reaps. status is as of waitpid(2).
bool child_wait(struct child *child, int *ret_status, GError **error);
// Reaps if it has ended (loop: when the pidfd is readable). False with no error: still running.
bool child_try_wait(struct child *child, int *ret_status);
void child_kill(const struct child *child, int signal);
// 0–255, 128 + N for signal N, as shells and containerd count.
int child_exit_code(int status);

// A subreaper's duty: reaps every ended child that spawn did not start (orphans that the kernel gave to this process).
// True: call again in a moment, as an own child that its owner has not reaped yet stands in the way. Never waits.
bool child_reap_orphans(void);

// Runs to the end and collects its output, each at most limit_bytes (more is dropped). For short-lived helpers.
struct spawn_output {
        int status;
        GString *out, *err;
};
bool spawn_collect(const struct spawn_options *options, size_t limit_bytes, int timeout_ms,
        struct spawn_output *ret_output, GError **error);
void spawn_output_done(struct spawn_output *output);
