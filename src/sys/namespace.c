// SPDX-License-Identifier: Apache-2.0
//
// The order matters: a worker enters its root while it is still root in the initial user namespace, so that its mount
// and network namespaces belong to that one, and even "root" of the user namespace that it enters next has no say in
// them.
#include "sys/namespace.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

int namespace_clone_mount(const char *path, unsigned flags, GError **error)
{
        fd_auto int fd =
                (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_NO_AUTOMOUNT);
        if (fd < 0) {
                error_fail_errno(error, errno, "clone mount of %s", path);
                return -1;
        }
        struct mount_attr attributes = {
                .attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID |
                            ((flags & CLONE_MOUNT_READ_ONLY) != 0 ? MOUNT_ATTR_RDONLY : 0) |
                            ((flags & CLONE_MOUNT_EXECUTABLE) != 0 ? 0 : MOUNT_ATTR_NOEXEC),
                .propagation = MS_PRIVATE,
        };
        if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) < 0) {
                error_fail_errno(error, errno, "set attributes of the mount of %s", path);
                return -1;
        }
        return fd_take(&fd);
}

bool namespace_change_root(GError **error)
{
        // Where pivot_root is refused (an initramfs as root) the mounts below are merely out of reach.
        if (syscall(SYS_pivot_root, ".", ".") == 0) {
                if (umount2(".", MNT_DETACH) < 0)
                        return error_fail_errno(error, errno, "detach the old root");
        } else if (chroot(".") < 0) {
                return error_fail_errno(error, errno, "change the root");
        }
        return chdir("/") == 0 || error_fail_errno(error, errno, "enter the root");
}

bool namespace_enter_root(int mount_fd, GError **error)
{
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return error_fail_errno(error, errno, "make mounts private");
        if (syscall(SYS_move_mount, mount_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
                return error_fail_errno(error, errno, "attach the root");
        if (fchdir(mount_fd) < 0)
                return error_fail_errno(error, errno, "enter the root");
        return namespace_change_root(error);
}

bool namespace_new_user(void)
{
        return unshare(CLONE_NEWUSER) == 0;
}

static bool write_proc(pid_t pid, const char *name, const char *text, GError **error)
{
        char path[64];
        snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        fd_auto int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, text, strlen(text)) < 0)
                return error_fail_errno(error, errno, "write %s", path);
        return true;
}

static bool map_identity(pid_t pid, const char *name, GError **error)
{
        // What is mapped here is what there is to map: in a nested namespace not all ids.
        g_autofree char *own = NULL;
        g_autofree char *path = g_strdup_printf("/proc/self/%s", name);
        if (!g_file_get_contents(path, &own, NULL, NULL))
                return error_fail_errno(error, errno, "read %s", path);
        GString *lines = g_string_new(NULL);
        g_auto(GStrv) ranges = g_strsplit(own, "\n", -1);
        for (char **range = ranges; *range != NULL; range++) {
                unsigned long inside, outside, count;
                if (sscanf(*range, "%lu %lu %lu", &inside, &outside, &count) == 3)
                        g_string_append_printf(lines, "%lu %lu %lu\n", inside, inside, count);
        }
        bool good = write_proc(pid, name, lines->str, error);
        g_string_free(lines, TRUE);
        return good;
}

bool namespace_map_identity(pid_t pid, GError **error)
{
        return map_identity(pid, "uid_map", error) && map_identity(pid, "gid_map", error);
}
