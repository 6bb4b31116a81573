// SPDX-License-Identifier: Apache-2.0
//
// Gives back what the work left in the allocator, once the calls have stopped. Threads: the loop's.
#pragma once

struct idle;
struct lanes;
struct loop;

struct idle *idle_new(struct loop *loop, struct lanes *lanes);
void idle_free(struct idle *idle);
// A call has ended.
void idle_note(struct idle *idle);
