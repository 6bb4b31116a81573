// SPDX-License-Identifier: Apache-2.0
//
// Unmounting, and mounts that are made for a while. Another process can hold a mount for a moment (a fork that has not
// closed its descriptors yet), so a busy one is tried again before it counts as busy.
#include "base/error.h"
#include "base/fd.h"
#include "sys/mounts.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUSY_TRIES = 50, BUSY_WAIT_MS = 50 };

// False with errno.
static bool unmount_once(const char *target, int flags)
{
        for (int i = 0;; i++) {
                if (umount2(target, flags | UMOUNT_NOFOLLOW) == 0)
                        return true;
                if (errno != EBUSY || i == BUSY_TRIES)
                        return false;
                nanosleep(&(struct timespec){.tv_nsec = BUSY_WAIT_MS * 1000000L}, NULL);
        }
}

// EINVAL: no mount point.
static bool unmount_failed(const char *target, int errnum, GError **error)
{
        if (errnum == EINVAL || errnum == ENOENT)
                return true;
        return error_fail_errno(error, errnum, "failed to unmount target %s", target);
}

bool mount_unmount(const char *target, int flags, GError **error)
{
        return unmount_once(target, flags) || unmount_failed(target, errno, error);
}

// mountinfo writes blank, tab, newline and backslash as \ and three octal digits. In place.
static void unescape(char *text)
{
        char *out = text;
        for (const char *in = text; *in != '\0';) {
                if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' && in[3] >= '0' &&
                        in[3] <= '7') {
                        *out++ = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
                        in += 4;
                } else {
                        *out++ = *in++;
                }
        }
        *out = '\0';
}

static bool is_below(const char *point, const char *path)
{
        size_t length = strlen(path);
        if (length == 1)
                return true;
        return strncmp(point, path, length) == 0 && (point[length] == '\0' || point[length] == '/');
}

GPtrArray *mount_points(const char *path, GError **error)
{
        char resolved[PATH_MAX];
        g_autofree char *full = g_canonicalize_filename(realpath(path, resolved) != NULL ? resolved : path, NULL);
        g_autofree char *text = NULL;
        g_autoptr(GError) failure = NULL;
        if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, &failure)) {
                error_fail(error, ERROR_UNKNOWN, "read mountinfo: %s", failure->message);
                return NULL;
        }
        GPtrArray *points = g_ptr_array_new_with_free_func(g_free);
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; *line != NULL; line++) {
                // id, parent, major:minor, root, mount point, …
                g_auto(GStrv) fields = g_strsplit(*line, " ", 6);
                if (g_strv_length(fields) < 5)
                        continue;
                unescape(fields[4]);
                if (is_below(fields[4], full))
                        g_ptr_array_insert(points, 0, g_strdup(fields[4]));
        }
        return points;
}

bool unmount_below(const char *path, GError **error)
{
        g_autoptr(GPtrArray) points = mount_points(path, error);
        if (points == NULL)
                return false;
        for (guint i = 0; i < points->len; i++) {
                const char *point = points->pdata[i];
                if (umount2(point, UMOUNT_NOFOLLOW) == 0)
                        continue;
                int errnum = errno;
                if (errnum == EBUSY && umount2(point, UMOUNT_NOFOLLOW | MNT_DETACH) == 0)
                        continue;
                if (!unmount_failed(point, errnum, error))
                        return false;
        }
        return true;
}

bool mount_unmount_recursive(const char *target, int flags, GError **error)
{
        g_autoptr(GPtrArray) points = mount_points(target, error);
        if (points == NULL)
                return false;
        for (guint i = 0; i < points->len; i++)
                if (!mount_unmount(points->pdata[i], flags, error))
                        return false;
        return true;
}

char *mount_temp(const GPtrArray *mounts, const char *dir, bool read_only, GError **error)
{
        if (g_mkdir_with_parents(dir, 0700) != 0) {
                error_fail_errno(error, errno, "failed to create temp dir \"%s\"", dir);
                return NULL;
        }
        g_autofree char *path = g_strdup_printf("%s/containerd-mountXXXXXX", dir);
        if (mkdtemp(path) == NULL) {
                error_fail_errno(error, errno, "failed to create temp dir in \"%s\"", dir);
                return NULL;
        }
        g_autoptr(GPtrArray) readable = read_only ? mounts_read_only(mounts) : NULL;
        if (!mounts_apply(read_only ? readable : mounts, path, error)) {
                g_prefix_error(error, "failed to mount %s: ", path);
                rmdir(path);
                return NULL;
        }
        return g_steal_pointer(&path);
}

bool mount_temp_remove(char *path, GError **error)
{
        g_autofree char *owned = path;
        if (!mount_unmount_recursive(owned, 0, error))
                return false;
        // rmdir only: if something is mounted or written there after all, it stays.
        if (rmdir(owned) != 0 && errno != ENOENT)
                return error_fail_errno(error, errno, "failed to remove temp dir %s", owned);
        return true;
}
