// SPDX-License-Identifier: Apache-2.0
//
// skiff-fetch's one loop: curl's transfers, timers, and a few descriptors besides. Small on purpose: the process has
// one thread and some dozens of objects. Threads: one.
#pragma once

#include "base/auto.h"

#include <curl/curl.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct reactor;
typedef void (*reactor_fn)(void *data);

struct reactor *reactor_new(GError **error);
void reactor_free(struct reactor *reactor);
DEFINE_AUTO(reactor, reactor_free)

// Serves until reactor_stop.
void reactor_run(struct reactor *reactor);
void reactor_stop(struct reactor *reactor);

// A transfer; done comes once, later, unless it was removed before. The handle stays the caller's.
typedef void (*reactor_done_fn)(void *data, CURLcode result);
void reactor_add(struct reactor *reactor, CURL *easy, reactor_done_fn done, void *data);
void reactor_remove(struct reactor *reactor, CURL *easy);

// Calls fn while fd is readable (CURL_WAIT_POLLIN) or writable (CURL_WAIT_POLLOUT); 0: not now.
struct reactor_watch;
struct reactor_watch *reactor_watch_start(struct reactor *reactor, int fd, short events, reactor_fn fn, void *data);
void reactor_watch_change(struct reactor_watch *watch, short events);
void reactor_watch_stop(struct reactor_watch *watch);

// A one-shot timer; stopping is safe before it fired, after that it is gone.
struct reactor_timer;
struct reactor_timer *reactor_timer_start(struct reactor *reactor, int64_t delay_ms, reactor_fn fn, void *data);
void reactor_timer_stop(struct reactor_timer *timer);
