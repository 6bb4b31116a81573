// SPDX-License-Identifier: Apache-2.0
//
// When to collect: containerd's settings, without its waking up several times a second. Threads: new and stop by the
// loop's thread; the rest any.
#pragma once

#include "core/gc.h"
#include "plugins/gc/collect.h"

struct lanes;
struct loop;

struct gc_options {
        double pause_threshold;     // the part of real time that collections may take; 0: no limit on their distance
        int64_t deletion_threshold; // so many deletions start one at once; 0: they wait for their time
        int64_t mutation_threshold; // so many changes start one in its time; 0: they do not
        int64_t schedule_delay_ns;  // how long one that was asked for waits
        int64_t startup_delay_ns;   // when the first one comes; 0: when it is needed
        struct loop *loop;
        struct lanes *lanes;
        struct collector collector;
};

// Begins at once. What the options name outlives it.
struct gc *gc_scheduler_new(const struct gc_options *options);
// Waits for the run under way; nothing is started any more. Waiters are told CANCELED.
void gc_scheduler_stop(struct gc *gc);
