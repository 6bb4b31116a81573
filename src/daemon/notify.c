// SPDX-License-Identifier: Apache-2.0
//
// A failure is not worth a word: the service manager's own time-out tells of it.
#include "daemon/notify.h"

#include "base/fd.h"

#include <glib.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

void notify_service_manager(const char *state)
{
        const char *path = g_getenv("NOTIFY_SOCKET");
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        if (path == NULL || (*path != '/' && *path != '@') || strlen(path) >= sizeof address.sun_path)
                return;
        memcpy(address.sun_path, path, strlen(path));
        if (*path == '@')
                address.sun_path[0] = 0; // an abstract socket
        fd_auto int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd >= 0)
                sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
}
