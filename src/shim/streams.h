// SPDX-License-Identifier: Apache-2.0
//
// The standard streams of one process: what the client named (FIFOs, files, a logger, nothing), what the process gets
// (pipes, a terminal), and the copying between. Threads: the loop's.
#pragma once

#include "base/auto.h"
#include "io/cancel.h"
#include "io/loop.h"
#include "shim/reaper.h"
#include "sys/spawn.h"

#include <stdbool.h>
#include <sys/types.h>

struct streams_options {
        const char *in, *out, *err; // "": none
        bool terminal;
        const char *id, *namespace_; // for a logger
        uid_t uid;                   // of the pipes
        gid_t gid;
};

struct streams;
struct streams *streams_new(struct loop *loop, struct reaper *reaper, const struct streams_options *options);
// Also while streams are copied: that ends, what was not copied is lost.
void streams_free(struct streams *streams);
DEFINE_AUTO(streams, streams_free)

// Makes what the process is started with. ready is called once: later, when the client reads each output FIFO or the
// logger is ready; or within this call, if it fails at once. The wait for a client ends with cancel. error is valid in
// the call.
typedef void (*streams_ready_fn)(void *data, const GError *error);
void streams_open(struct streams *streams, struct cancel *cancel, streams_ready_fn ready, void *data);
// What the process is started with, at most three; what is missing is /dev/null. Not with a terminal.
size_t streams_child_fds(const struct streams *streams, struct spawn_fd fds[3]);
// The process has them: begins to copy. master: the terminal, taken; -1 without.
bool streams_start(struct streams *streams, int master, GError **error);

// The process is started: from now on its input ends only by streams_close_stdin.
void streams_hold_stdin(struct streams *streams);
// No more input will come from the client that asks: once all writers of the FIFO are gone, the process reads an end of
// file. Before the start, too.
void streams_close_stdin(struct streams *streams);
bool streams_resize(struct streams *streams, unsigned width, unsigned height, GError **error);
// The process ended: what a terminal still holds is the last of it. Calls done once, maybe within this call: when the
// client has read from the FIFOs what the process wrote, or has left it there for a second. Not after streams_free.
void streams_process_ended(struct streams *streams, loop_fn done, void *data);
// Calls done once, later: when all output is copied, or after timeout_ms.
void streams_drain(struct streams *streams, unsigned timeout_ms, loop_fn done, void *data);
