// SPDX-License-Identifier: Apache-2.0
//
// What the operations on skiff-unpack have in common. Threads: any.
#pragma once

#include "base/arena.h"
#include "core/unpacker.h"
#include "core/worker.h"
#include "io/cancel.h"

struct unpacker {
        int references; // atomic
        struct unpacker_options options;
        char *program, *worker_uid;
};

struct unpacker_job {
        const char *name; // "untar"
        const struct spawn_fd *fds;
        size_t n_fds;
        bool in_namespaces; // untar and tar: mount, pid, net and ipc namespaces
        struct strand *strand;
        struct cancel *cancel;
        size_t max_record_bytes; // 0: the default
};
struct worker *unpacker_launch(struct unpacker *unpacker, const struct unpacker_job *job,
        const struct worker_handler *handler, void *data, GError **error);

// Decodes a record, with the errors of message_decode. The answer lives in arena.
const Worker__Answer *unpacker_decode(const uint8_t *bytes, size_t n_bytes, struct arena *arena, GError **error);
// The error that a failure record carries, with a code of our range and a text of bounded length.
GError *unpacker_failure(const Worker__Failure *failure, const char *job);
// Answers a worker in namespaces of its own that stands ready.
bool unpacker_on_ready(struct worker *worker, const Worker__Ready *ready, GError **error);

enum { UNPACKER_FREE_BYTES = 256 * 1024 * 1024 };

// What untar left to do in the directory, done with root's rights once the worker is gone; see unpack_report.c.
struct unpack_report;
struct unpack_report *unpack_report_new(void);
void unpack_report_free(struct unpack_report *report);
// Copies a part. RESOURCE_EXHAUSTED past the limits, INVALID_ARGUMENT for paths that cannot be.
bool unpack_report_add(struct unpack_report *report, const Worker__Reported *part, GError **error);
bool unpack_report_apply(
        const struct unpack_report *report, const char *directory, const char *const *parents, GError **error);
