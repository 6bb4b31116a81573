// SPDX-License-Identifier: Apache-2.0
//
// Runs a short-lived helper program without holding a thread: its standard input, output and error are memory files,
// its end is watched by the loop. For programs that we trust: what they write is held in memory.
#pragma once

#include "io/loop.h"
#include "sys/spawn.h"

struct program_result {
        int status; // as of waitpid(2)
        GBytes *out, *err;
};
// On the loop's thread, exactly once. result is NULL if error is set; both live during the call alone.
typedef void (*program_fn)(void *data, const struct program_result *result, const GError *error);

// Threads: any, but the loop's should avoid it: the calling thread sleeps until the program has started. The options'
// descriptors are the caller's beside 0, 1 and 2. input may be NULL. After timeout_ms the program is killed and done
// gets DEADLINE_EXCEEDED.
void program_run(struct loop *loop, const struct spawn_options *options, GBytes *input, unsigned timeout_ms,
        program_fn done, void *data);
