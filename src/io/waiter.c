// SPDX-License-Identifier: Apache-2.0
//
// A one-shot event: a flag under a mutex with a condition.
#include "io/waiter.h"

#include "base/clock.h"

#include <glib.h>
#include <uv.h>

struct waiter {
        uv_mutex_t mutex;
        uv_cond_t changed;
        bool signalled; // under mutex
};

struct waiter *waiter_new(void)
{
        struct waiter *waiter = g_new0(struct waiter, 1);
        g_assert(uv_mutex_init(&waiter->mutex) == 0);
        g_assert(uv_cond_init(&waiter->changed) == 0);
        return waiter;
}

void waiter_free(struct waiter *waiter)
{
        if (waiter == NULL)
                return;
        // The signaller may still be leaving its lock.
        uv_mutex_lock(&waiter->mutex);
        uv_mutex_unlock(&waiter->mutex);
        uv_cond_destroy(&waiter->changed);
        uv_mutex_destroy(&waiter->mutex);
        g_free(waiter);
}

void waiter_signal(struct waiter *waiter)
{
        uv_mutex_lock(&waiter->mutex);
        waiter->signalled = true;
        uv_cond_broadcast(&waiter->changed);
        uv_mutex_unlock(&waiter->mutex);
}

bool waiter_wait(struct waiter *waiter, int64_t timeout_ms)
{
        int64_t end_ns = timeout_ms < 0 ? INT64_MAX : clock_monotonic_ns() + timeout_ms * NS_PER_MS;
        uv_mutex_lock(&waiter->mutex);
        while (!waiter->signalled) {
                if (timeout_ms < 0) {
                        uv_cond_wait(&waiter->changed, &waiter->mutex);
                        continue;
                }
                int64_t left_ns = end_ns - clock_monotonic_ns();
                if (left_ns <= 0 || uv_cond_timedwait(&waiter->changed, &waiter->mutex, (uint64_t)left_ns) != 0)
                        break;
        }
        bool signalled = waiter->signalled;
        uv_mutex_unlock(&waiter->mutex);
        return signalled;
}
