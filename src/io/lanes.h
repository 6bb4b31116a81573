// SPDX-License-Identifier: Apache-2.0
//
// Worker threads in two lanes: FAST for metadata (never waits for more than a disk), SLOW for mounts, unpacking and the
// like. A strand is a queue in front of a lane whose jobs run one at a time, in order. Threads are started when they
// are first needed, and take no signals. Threads: any, except where said.
#pragma once

#include <stdbool.h>

struct lanes;
struct loop;
enum lane { LANE_FAST, LANE_SLOW };
typedef void (*lane_fn)(void *data);

struct lanes_options {
        unsigned fast_threads; // 0: 4
        unsigned slow_threads; // 0: 16
};

struct lanes *lanes_new(const struct lanes_options *options);
// For single-threaded programs: every job runs on the loop's thread, later, in order.
struct lanes *lanes_new_inline(struct loop *loop);
// Finishes every job that was submitted, then joins the threads. Not from a worker.
void lanes_free(struct lanes *lanes);
// The same without freeing: what the loop's callbacks submit from now on is run by the loop, until lanes_free.
void lanes_join(struct lanes *lanes, struct loop *loop);

// Runs fn(data) on a thread of the lane, later (never within this call).
void lanes_submit(struct lanes *lanes, enum lane lane, lane_fn fn, void *data);

struct strand;
struct strand *strand_new(struct lanes *lanes, enum lane lane);
struct strand *strand_ref(struct strand *strand);
// Jobs that were submitted still run.
void strand_unref(struct strand *strand);
void strand_submit(struct strand *strand, lane_fn fn, void *data);
