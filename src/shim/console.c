// SPDX-License-Identifier: Apache-2.0
//
// The runtime connects, sends one message with one descriptor, and ends after that; so once it was waited for,
// connection and message lie in the socket's queues and nothing here blocks.
#include "shim/console.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/identifier.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

struct console {
        char *path;
        int fd;
};

struct console *console_new(const char *directory, GError **error)
{
        g_autofree char *name = identifier_random_hex(8);
        g_autofree char *path = g_strdup_printf("%s/%s.tty", directory, name);
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        if (strlen(path) >= sizeof address.sun_path) {
                error_fail(error, ERROR_UNKNOWN, "path of console socket too long: %s", path);
                return NULL;
        }
        memcpy(address.sun_path, path, strlen(path));
        fd_auto int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
                error_fail_errno(error, errno, "failed to create OCI runtime console socket");
                return NULL;
        }
        struct console *console = g_new0(struct console, 1);
        console->path = g_steal_pointer(&path);
        console->fd = fd_take(&fd);
        if (listen(console->fd, 1) == 0)
                return console;
        error_fail_errno(error, errno, "failed to create OCI runtime console socket");
        console_free(console);
        return NULL;
}

void console_free(struct console *console)
{
        if (console == NULL)
                return;
        unlink(console->path);
        fd_close(&console->fd);
        g_free(console->path);
        g_free(console);
}

const char *console_path(const struct console *console)
{
        return console->path;
}

int console_receive(struct console *console, GError **error)
{
        fd_auto int connection = accept4(console->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        char text[4096];
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr aligned;
        } control;
        struct iovec part = {text, sizeof text};
        struct msghdr message = {.msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof control.bytes};
        if (connection < 0 || recvmsg(connection, &message, MSG_CMSG_CLOEXEC) < 0) {
                error_fail_errno(error, errno, "failed to retrieve console master");
                return -1;
        }
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (header == NULL || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
                header->cmsg_len != CMSG_LEN(sizeof(int))) {
                error_fail(error, ERROR_UNKNOWN, "failed to retrieve console master: no descriptor came");
                return -1;
        }
        int master;
        memcpy(&master, CMSG_DATA(header), sizeof master);
        return master;
}
