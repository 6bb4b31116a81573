// SPDX-License-Identifier: Apache-2.0
//
// v1: an eventfd that is written when the cgroup runs out of memory, before the kill, and once more when the cgroup is
// removed. v2: inotify on memory.events, which changes for other reasons too; the counter oom_kill decides. The kernel
// may report a kill later than the end of the process that was killed, so at each end the counter is read.
#include "shim/oom.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

struct oom {
        const struct cgroup *cgroup;
        int fd;
        struct loop_watch *watch;
        uint64_t n_told; // kills, or reports where the kernel does not count
        loop_fn fn;
        void *data;
};

static bool read_kills(const struct oom *oom, uint64_t *ret_kills)
{
        bool unified = cgroup_mode(oom->cgroup) == CGROUP_UNIFIED;
        g_autofree char *text = cgroup_read(oom->cgroup, "memory", unified ? "memory.events" : "memory.oom_control");
        return text != NULL && cgroup_find_number(text, "oom_kill", ret_kills);
}

void oom_check(struct oom *oom)
{
        uint64_t kills;
        if (oom == NULL || !read_kills(oom, &kills) || kills <= oom->n_told)
                return;
        oom->n_told = kills;
        oom->fn(oom->data);
}

static void on_event(void *data, int events)
{
        struct oom *oom = data;
        _Alignas(struct inotify_event) char buffer[512];
        ssize_t n = read(oom->fd, buffer, sizeof buffer);
        if (n <= 0)
                return;
        const char *directory = cgroup_directory(oom->cgroup, "memory");
        if (directory == NULL || access(directory, F_OK) < 0) {
                loop_watch_stop(g_steal_pointer(&oom->watch)); // removed
                return;
        }
        if (cgroup_mode(oom->cgroup) == CGROUP_UNIFIED) {
                oom_check(oom);
                return;
        }
        // The kill comes after the report, so it is counted as told already.
        uint64_t kills = 0;
        read_kills(oom, &kills);
        oom->n_told = MAX(oom->n_told, kills) + 1;
        oom->fn(oom->data);
}

static int watch_v1(const char *directory)
{
        g_autofree char *control = g_strdup_printf("%s/memory.oom_control", directory);
        g_autofree char *events = g_strdup_printf("%s/cgroup.event_control", directory);
        fd_auto int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        fd_auto int control_fd = open(control, O_RDONLY | O_CLOEXEC);
        fd_auto int events_fd = open(events, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || control_fd < 0 || events_fd < 0 || dprintf(events_fd, "%d %d", fd, control_fd) < 0)
                return -1;
        return fd_take(&fd);
}

static int watch_v2(const char *directory)
{
        g_autofree char *events = g_strdup_printf("%s/memory.events", directory);
        fd_auto int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (fd < 0 || inotify_add_watch(fd, events, IN_MODIFY) < 0)
                return -1;
        return fd_take(&fd);
}

struct oom *oom_watch(struct loop *loop, const struct cgroup *cgroup, loop_fn fn, void *data)
{
        const char *directory = cgroup_directory(cgroup, "memory");
        if (directory == NULL || !cgroup_is_own(cgroup))
                return NULL;
        int fd = cgroup_mode(cgroup) == CGROUP_UNIFIED ? watch_v2(directory) : watch_v1(directory);
        struct oom *oom = g_new0(struct oom, 1);
        *oom = (struct oom){.cgroup = cgroup, .fd = fd, .fn = fn, .data = data};
        read_kills(oom, &oom->n_told);
        // Without (a user may have 128 inotify instances, whatever the number of containers) it is seen at the exit.
        if (fd >= 0)
                oom->watch = loop_watch_start(loop, fd, UV_READABLE, on_event, oom);
        return oom;
}

void oom_free(struct oom *oom)
{
        if (oom == NULL)
                return;
        loop_watch_stop(oom->watch);
        fd_close(&oom->fd);
        g_free(oom);
}
