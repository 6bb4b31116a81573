// SPDX-License-Identifier: Apache-2.0
//
// Moves bytes between workers without looking at them and without holding a thread: from a file, as far as it has
// grown, into a pipe (splice), from a pipe into the next one, hashed on the way (tee), or from a pipe to a function.
// Work is done on a strand in pieces; the loop only tells when to go on. The process ignores SIGPIPE. Threads: any,
// except where said.
#pragma once

#include "base/digest.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct pump;
struct strand;

struct pump_options {
        struct loop *loop;
        struct strand *strand; // where everything runs
        int source_fd;         // taken; a file (from offset 0) or a pipe
        bool source_is_file;   // then pump_advance says how far it may be read
        int sink_fd;           // taken; a pipe; -1: on_bytes
        bool hash;             // not with a file as source
        // On the strand. False with *error: stop with it. Not with a sink.
        bool (*on_bytes)(void *data, const void *bytes, size_t n_bytes, GError **error);
        // Last callback, on the strand, once: the source has ended and all of it is through, and the sink is closed
        // (error is NULL), or not. UNAVAILABLE: nobody reads the sink any more. DATA_LOSS: the file is too short.
        void (*on_end)(void *data, const GError *error);
        void *data;
};

// on_end does not come within this call.
struct pump *pump_start(const struct pump_options *options);
struct pump *pump_ref(struct pump *pump);
void pump_unref(struct pump *pump);

// The file's first available_bytes may be read; complete: there will be no more.
void pump_advance(struct pump *pump, int64_t available_bytes, bool complete);
// Ends with a copy of reason, as soon as the strand gets to it.
void pump_stop(struct pump *pump, const GError *reason);

// In on_end or later: what went through.
char *pump_digest(const struct pump *pump);
int64_t pump_bytes(const struct pump *pump);

// A pipe of about a megabyte. Both ends close-on-exec and blocking; a pump makes its own not so.
bool pump_pipe(int *ret_read_fd, int *ret_write_fd, GError **error);
