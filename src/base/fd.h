// SPDX-License-Identifier: Apache-2.0
//
// Ownership of file descriptors: `fd_auto int fd = open(…)` is closed at the end of its scope, `fd_take(&fd)` hands it
// on. Threads: any.
#pragma once

#include <fcntl.h>
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

// Puts /dev/null where 0, 1 or 2 is closed, so that no file or socket which is opened later has that number and is
// written to as output or log. The first thing that a program does which people start.
static inline void fd_open_standard(void)
{
        int fd;
        do
                fd = open("/dev/null", O_RDWR);
        while (fd >= 0 && fd <= STDERR_FILENO);
        fd_close(&fd);
}

#define fd_auto __attribute__((cleanup(fd_close)))
