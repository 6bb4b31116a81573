// SPDX-License-Identifier: Apache-2.0
//
// Ownership of file descriptors: `fd_auto int fd = open(…)` is closed at the end of its scope, `fd_take(&fd)` hands it
// on. Threads: any.
#pragma once

#include <unistd.h>

static inline int fd_take(int *fd)
{
        int taken = *fd;
        *fd = -1;
        return taken;
}

// Closes *fd if it is open, once: after close(2) failed with EINTR the descriptor is gone on Linux.
static inline void fd_close(int *fd)
{
        if (*fd >= 0)
                close(fd_take(fd));
}

#define fd_auto __attribute__((cleanup(fd_close)))
