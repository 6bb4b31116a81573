// SPDX-License-Identifier: Apache-2.0
//
// Copies one direction of a process's standard streams: pipe to FIFO or file, FIFO to pipe, terminal to FIFO and back.
// Between pipes by splice, so that the bytes never pass through this process. Threads: the loop's.
#pragma once

#include "base/auto.h"
#include "io/loop.h"

struct pump;
// Nothing more will be copied: the source ended, or the destination is gone. Called at most once, not within pump_start
// or pump_free; the descriptors are closed before.
typedef void (*pump_end_fn)(void *data);

struct pump_options {
        int from, to;  // owned by the pump; it sets O_NONBLOCK on both
        bool terminal; // one of them is a terminal: no splice
        pump_end_fn on_end;
        void *data;
};
struct pump *pump_start(struct loop *loop, const struct pump_options *options);
// What is in the source now is the last: copies that and ends.
void pump_finish(struct pump *pump);
// All writers of the source have come and gone (it may hold bytes yet).
bool pump_source_is_over(const struct pump *pump);
// Whatever was written to the source is at the destination.
bool pump_is_caught_up(const struct pump *pump);
void pump_free(struct pump *pump);
DEFINE_AUTO(pump, pump_free)
