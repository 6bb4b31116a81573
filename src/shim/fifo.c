// SPDX-License-Identifier: Apache-2.0
//
// The kernel opens a FIFO for writing at once only where it is open for reading. So it is for a moment, by ourselves; a
// reader that waits in open(2) counts from then on, and poll(2) tells whether there is one.
#include "shim/fifo.h"

#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

bool fifo_is(const char *path)
{
        struct stat st;
        return stat(path, &st) == 0 && S_ISFIFO(st.st_mode);
}

// By the descriptor, not the path: that may be another's meanwhile.
static int open_again(int fd, int flags)
{
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        return open(path, flags | O_NONBLOCK | O_CLOEXEC);
}

int fifo_open_writer(const char *path, GError **error)
{
        fd_auto int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        int writer = reader >= 0 ? open_again(reader, O_WRONLY) : -1;
        if (writer < 0)
                error_fail_errno(error, errno, "open %s", path);
        return writer;
}

bool fifo_has_reader(int writer)
{
        struct pollfd end = {.fd = writer};
        return poll(&end, 1, 0) == 0;
}

int fifo_open_reader_of(int writer)
{
        return open_again(writer, O_RDONLY);
}
