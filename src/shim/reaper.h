// SPDX-License-Identifier: Apache-2.0
//
// Ends of processes: those that we start, and those that the OCI runtime leaves to us, as this process is the subreaper
// of its containers. Threads: the loop's.
#pragma once

#include "base/auto.h"
#include "io/loop.h"

#include <sys/types.h>

struct reaper;
// status as of waitpid(2); -1 if the process was not ours to wait for.
typedef void (*reaper_fn)(void *data, int status, int64_t ended_ns);

// Makes this process a subreaper and takes SIGCHLD. One per process.
struct reaper *reaper_new(struct loop *loop, GError **error);
void reaper_free(struct reaper *reaper);
DEFINE_AUTO(reaper, reaper_free)

// Calls fn once when the child has ended, later (never within this call), also if it ended before.
void reaper_watch(struct reaper *reaper, pid_t pid, reaper_fn fn, void *data);

// Between hold and release no process is reaped but the watched ones: a runtime may be about to tell us the id of a
// process that has ended already.
void reaper_hold(struct reaper *reaper);
void reaper_release(struct reaper *reaper);
