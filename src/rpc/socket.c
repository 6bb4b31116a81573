// SPDX-License-Identifier: Apache-2.0
//
// Unix sockets: addresses as containerd's clients write them, and a connect that gives up in time. A full backlog makes
// a non-blocking connect fail with EAGAIN, without anything that could be polled for: hence the short retries.
#include "rpc/internal.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { BACKLOG_RETRY_MS = 5 };

bool rpc_socket_prepare(int fd, GError **error)
{
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
                return error_fail_errno(error, errno, "socket %d", fd);
        return true;
}

static bool parse_address(const char *address, struct sockaddr_un *ret_address, socklen_t *ret_length, GError **error)
{
        const char *path = g_str_has_prefix(address, "unix://") ? address + strlen("unix://") : address;
        size_t length = strlen(path);
        *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
        if (length == 0 || length >= sizeof ret_address->sun_path)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "address \"%s\" is empty or too long", address);
        memcpy(ret_address->sun_path, path, length);
        bool abstract = path[0] == '@';
        if (abstract)
                ret_address->sun_path[0] = '\0';
        *ret_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (abstract ? 0 : 1));
        return true;
}

int rpc_connect_unix(const char *address, unsigned timeout_ms, GError **error)
{
        struct sockaddr_un sockaddr;
        socklen_t length = 0;
        if (!parse_address(address, &sockaddr, &length, error))
                return -1;
        fd_auto int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return error_fail_errno(error, errno, "socket for \"%s\"", address), -1;
        int64_t deadline_ns = clock_monotonic_ns() + (int64_t)timeout_ms * NS_PER_MS;
        while (connect(fd, (struct sockaddr *)&sockaddr, length) < 0) {
                if (errno == EINTR)
                        continue;
                if (errno != EAGAIN) {
                        int errnum = errno;
                        error_fail(error, ERROR_UNAVAILABLE, "connect to \"%s\": %s", address, errno_text(errnum));
                        return -1;
                }
                if (clock_monotonic_ns() >= deadline_ns) {
                        error_fail(error, ERROR_DEADLINE_EXCEEDED, "connect to \"%s\": timed out", address);
                        return -1;
                }
                poll(NULL, 0, BACKLOG_RETRY_MS);
        }
        return fd_take(&fd);
}
