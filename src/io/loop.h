// SPDX-License-Identifier: Apache-2.0
//
// The event loop: libuv on one thread, a mailbox for all others, timers, and watches on descriptors and processes.
// Threads: loop_post and loop_stop by any; everything else on the loop's own thread.
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct loop;
typedef void (*loop_fn)(void *data);

// The loop belongs to the thread that calls loop_run; until then, to the one that made it.
struct loop *loop_new(GError **error);
// Runs what is still in the mailbox, then frees. No timer or watch may be left.
void loop_free(struct loop *loop);
// Runs it, at the end, until nothing is watched and no message waits. In the loop's thread.
void loop_drain(struct loop *loop);

// Serves until loop_stop.
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
uv_loop_t *loop_uv(struct loop *loop);

// Runs fn(data) on the loop's thread, later (never within this call), in the order of posting per poster.
void loop_post(struct loop *loop, loop_fn fn, void *data);

// A one-shot timer. Stopping it is always safe before it fired; after fn ran it is gone.
struct loop_timer;
struct loop_timer *loop_timer_start(struct loop *loop, uint64_t delay_ms, loop_fn fn, void *data);
void loop_timer_stop(struct loop_timer *timer);

// Calls fn when fd is readable (or writable, or has an error or hang-up: events are UV_READABLE, UV_WRITABLE,
// UV_DISCONNECT), until stopped. The fd stays the caller's and is closed by it after loop_watch_stop.
typedef void (*loop_watch_fn)(void *data, int events);
struct loop_watch;
struct loop_watch *loop_watch_start(struct loop *loop, int fd, int events, loop_watch_fn fn, void *data);
void loop_watch_change(struct loop_watch *watch, int events); // 0: none for now
void loop_watch_stop(struct loop_watch *watch);
