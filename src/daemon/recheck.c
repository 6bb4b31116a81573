// SPDX-License-Identifier: Apache-2.0
//
// One job on a worker, which asks the disk for nothing that others want at that moment.
#include "daemon/recheck.h"

#include "daemon/last_end.h"
#include "io/lanes.h"
#include "io/waiter.h"

#include <glib.h>
#include <linux/ioprio.h>
#include <sys/syscall.h>
#include <unistd.h>

struct recheck {
        struct checkup checkup;
        int lock_fd;
        struct waiter *ended;
        bool whole;
};

// Of this thread.
static void set_disk_priority(int class)
{
        syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(class, 0)); // only a wish
}

static void run(void *data)
{
        struct recheck *recheck = data;
        set_disk_priority(IOPRIO_CLASS_IDLE);
        recheck->whole = checkup_run(&recheck->checkup);
        set_disk_priority(IOPRIO_CLASS_NONE);
        if (recheck->whole)
                last_end_checked(recheck->lock_fd);
        waiter_signal(recheck->ended);
}

struct recheck *recheck_start(struct lanes *lanes, int lock_fd, const struct checkup *checkup)
{
        struct recheck *recheck = g_new0(struct recheck, 1);
        recheck->lock_fd = lock_fd;
        recheck->checkup.metadata = checkup->metadata;
        recheck->checkup.content = checkup->content;
        recheck->checkup.hash = checkup->hash;
        recheck->ended = waiter_new();
        lanes_submit(lanes, LANE_SLOW, run, recheck);
        return recheck;
}

bool recheck_stop(struct recheck *recheck)
{
        if (recheck == NULL)
                return false;
        atomic_store(&recheck->checkup.stop, true);
        waiter_wait(recheck->ended, -1);
        bool whole = recheck->whole;
        waiter_free(recheck->ended);
        g_free(recheck);
        return whole;
}
