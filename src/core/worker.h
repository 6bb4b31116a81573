// SPDX-License-Identifier: Apache-2.0
//
// A worker is a program of ours that handles bytes from outside without rights: started with a control socket on
// descriptor 3, spoken to in records (a protobuf message behind its length, 32 bits, little-endian), watched by its
// pidfd, killed when it is not wanted any more or its deadline has passed. It jails itself before it reads a byte of
// the job. What it answers is untrusted: on_record checks form and limits. Threads: any.
#pragma once

#include "base/auto.h"
#include "base/error.h"
#include "io/lanes.h"
#include "sys/spawn.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cancel;
struct loop;
struct worker;

enum { WORKER_CONTROL_FD = 3, WORKER_FIRST_FD = 4 };

struct worker_handler {
        // A record; its bytes are valid during the call. False with *error: the worker is killed and on_end gets that
        // error.
        bool (*on_record)(void *data, const uint8_t *bytes, size_t n_bytes, GError **error);
        // Last callback, once, when the worker was reaped; all its records came before. error is NULL exactly if it
        // exited with 0 and closed its socket at the end of a record; else it is on_record's, the cancel token's,
        // DEADLINE_EXCEEDED, CANCELED (worker_kill), or UNAVAILABLE "…: killed by signal N".
        void (*on_end)(void *data, const GError *error);
};

struct worker_options {
        struct loop *loop;
        struct lanes *lanes;
        enum lane lane;             // where the handler's functions run, one at a time;
        struct strand *strand;      // instead, if not NULL: a queue that they share with others
        const char *program;        // full path
        const char *const *argv;    // NULL-terminated; argv[0] names the worker in errors
        const char *const *environ; // NULL: empty
        const struct spawn_fd *fds; // besides the control socket; they stay the caller's
        size_t n_fds;
        unsigned clone_flags;    // as in spawn_options
        size_t max_record_bytes; // of an answer; 0: 1 MiB
        int64_t timeout_ms;      // 0: none
        struct cancel *cancel;   // NULL: none; a reference is taken
};

// No callback comes before worker_start has returned, nor if it failed. Errors are spawn's.
struct worker *worker_start(
        const struct worker_options *options, const struct worker_handler *handler, void *data, GError **error);
struct worker *worker_ref(struct worker *worker);
void worker_unref(struct worker *worker);
DEFINE_AUTO(worker, worker_unref)

// Which user workers become: the configured one, for 0 the user _skiff, else a number that nothing else uses.
uint32_t worker_user(uint32_t configured);

pid_t worker_pid(const struct worker *worker);
// Queues a record (packed at once). Never waits; what a worker that has ended was to get is dropped.
void worker_send(struct worker *worker, const ProtobufCMessage *message);
// The same with a descriptor beside it, which is taken.
void worker_send_with(struct worker *worker, const ProtobufCMessage *message, int fd);
// No more records: the worker reads the end of file.
void worker_half_close(struct worker *worker);
// SIGKILL; on_end comes with a copy of reason (NULL: CANCELED).
void worker_kill(struct worker *worker, const GError *reason);
