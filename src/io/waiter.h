// SPDX-License-Identifier: Apache-2.0
//
// A lock with a condition, and a one-shot event on it, for the few places where a thread must wait for another: the
// command line, tests, the store's group commit, the end of the daemon. Never waited for on the thread of a loop that
// runs. Threads: any.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct waiter;

struct waiter *waiter_new(void);
void waiter_free(struct waiter *waiter);
void waiter_signal(struct waiter *waiter);
// False: timeout_ms (-1: none) went by first.
bool waiter_wait(struct waiter *waiter, int64_t timeout_ms);
