// SPDX-License-Identifier: Apache-2.0
//
// Tells when the kernel kills for want of memory in a container's cgroup. Threads: the loop's.
#pragma once

#include "base/auto.h"
#include "io/loop.h"
#include "sys/cgroup.h"

struct oom;
// fn is called for each report of the kernel. NULL if the container has no memory cgroup of its own. The cgroup must
// outlive it.
struct oom *oom_watch(struct loop *loop, const struct cgroup *cgroup, loop_fn fn, void *data);
// A process has ended: calls fn now if there was a kill that was not reported, so that the cause comes before the exit.
void oom_check(struct oom *oom);
void oom_free(struct oom *oom);
DEFINE_AUTO(oom, oom_free)
