// SPDX-License-Identifier: Apache-2.0
//
// Between spawn.c and child.c: which children are ours. Threads: any.
#pragma once

#include <sys/types.h>

// Around the clone; no sweep of orphans runs in between. pid: the new child, 0 if there is none.
void child_spawning_begin(void);
void child_spawning_end(pid_t pid);
