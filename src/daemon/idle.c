// SPDX-License-Identifier: Apache-2.0
//
// glibc keeps the pages of freed memory for the next burst, and a daemon that is loaded for a minute and idle for a day
// would hold them all day. The timer runs only while calls end, so an idle daemon is not woken up for this.
#include "daemon/idle.h"

#include "io/lanes.h"
#include "io/loop.h"

#include <malloc.h>

enum { IDLE_MS = 5000, WORTH_BYTES = 512 * 1024 };

struct idle {
        struct loop *loop;
        struct lanes *lanes;
        struct loop_timer *timer; // NULL: nothing ended since the last one
        unsigned n_ended, n_seen;
};

struct idle *idle_new(struct loop *loop, struct lanes *lanes)
{
        struct idle *idle = g_new0(struct idle, 1);
        idle->loop = loop;
        idle->lanes = lanes;
        return idle;
}

void idle_free(struct idle *idle)
{
        if (idle == NULL)
                return;
        if (idle->timer != NULL)
                loop_timer_stop(idle->timer);
        g_free(idle);
}

static void trim(void *data)
{
        if (mallinfo2().fordblks > WORTH_BYTES)
                malloc_trim(0);
}

static void on_timer(void *data)
{
        struct idle *idle = data;
        bool busy = idle->n_ended != idle->n_seen;
        idle->n_seen = idle->n_ended;
        idle->timer = busy ? loop_timer_start(idle->loop, IDLE_MS, on_timer, idle) : NULL;
        if (!busy)
                lanes_submit(idle->lanes, LANE_SLOW, trim, NULL);
}

void idle_note(struct idle *idle)
{
        idle->n_ended++;
        if (idle->timer == NULL)
                idle->timer = loop_timer_start(idle->loop, IDLE_MS, on_timer, idle);
}
