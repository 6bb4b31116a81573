// SPDX-License-Identifier: Apache-2.0
//
// A daemon that died between a shim's start and the note of its address leaves a shim that nobody can reach; a shim
// that died leaves an OCI runtime at work. Both are known by their working directory, which is the bundle. Each is
// asked to end; a shim that is asked takes its socket with it.
#include "plugins/runtime_v2/bundle.h"

#include "base/fd.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ROUNDS = 20, END_TIMEOUT_MS = 3000 };

static bool works_in(int pid, const char *path)
{
        g_autofree char *link = g_strdup_printf("/proc/%d/cwd", pid);
        g_autofree char *directory = g_file_read_link(link, NULL);
        return directory != NULL && strcmp(directory, path) == 0;
}

static void end_process(int pid, const char *path)
{
        fd_auto int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        // Looked at again: the number may be another's by now, but not behind the descriptor.
        if (pidfd < 0 || !works_in(pid, path))
                return;
        syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
        struct pollfd ended = {.fd = pidfd, .events = POLLIN};
        if (poll(&ended, 1, END_TIMEOUT_MS) <= 0)
                syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

void bundle_end_strays(const char *path)
{
        // A process that is ended may just have started another one: until a round finds none.
        bool found = true;
        for (int round = 0; found && round < ROUNDS; round++) {
                found = false;
                g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
                const char *name;
                while (proc != NULL && (name = g_dir_read_name(proc)) != NULL) {
                        int pid = g_ascii_isdigit(*name) ? atoi(name) : 0;
                        if (pid > 0 && works_in(pid, path)) {
                                found = true;
                                end_process(pid, path);
                        }
                }
        }
}
