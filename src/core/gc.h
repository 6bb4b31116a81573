// SPDX-License-Identifier: Apache-2.0
//
// Garbage collection, as others see it: the instance of PLUGIN_GC "scheduler". Threads: any.
#pragma once

#include "base/error.h"

struct gc;
// error is NULL after a run that succeeded; it stays the caller's.
typedef void (*gc_done_fn)(void *data, const GError *error);

struct gc_ops {
        // Runs a collection soon, one that begins after this call, and calls done after it, on a worker.
        void (*collect)(struct gc *gc, gc_done_fn done, void *data);
};

struct gc {
        const struct gc_ops *ops;
};
