// SPDX-License-Identifier: Apache-2.0
//
// The kernel takes one page of option text. An overlay of many layers needs more, so the part that its lower
// directories share is opened once and named /proc/self/fd/N. A read-only bind takes two calls, as the first ignores
// the flag; propagation takes one of its own.
#include "sys/mounts.h"

#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OPTIONS_LIMIT_BYTES = 4096 - 512 };

#define PROPAGATION_FLAGS ((unsigned long)(MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE))

static const struct flag {
        const char *name;
        bool clear;
        unsigned long bits;
} flags_by_name[] = {
        {"async", true, MS_SYNCHRONOUS},
        {"atime", true, MS_NOATIME},
        {"bind", false, MS_BIND},
        {"defaults", false, 0},
        {"dev", true, MS_NODEV},
        {"diratime", true, MS_NODIRATIME},
        {"dirsync", false, MS_DIRSYNC},
        {"exec", true, MS_NOEXEC},
        {"mand", false, MS_MANDLOCK},
        {"noatime", false, MS_NOATIME},
        {"nodev", false, MS_NODEV},
        {"nodiratime", false, MS_NODIRATIME},
        {"noexec", false, MS_NOEXEC},
        {"nomand", true, MS_MANDLOCK},
        {"norelatime", true, MS_RELATIME},
        {"nostrictatime", true, MS_STRICTATIME},
        {"nosuid", false, MS_NOSUID},
        {"private", false, MS_PRIVATE},
        {"rbind", false, MS_BIND | MS_REC},
        {"relatime", false, MS_RELATIME},
        {"remount", false, MS_REMOUNT},
        {"ro", false, MS_RDONLY},
        {"rprivate", false, MS_PRIVATE | MS_REC},
        {"rshared", false, MS_SHARED | MS_REC},
        {"rslave", false, MS_SLAVE | MS_REC},
        {"rw", true, MS_RDONLY},
        {"shared", false, MS_SHARED},
        {"slave", false, MS_SLAVE},
        {"strictatime", false, MS_STRICTATIME},
        {"suid", true, MS_NOSUID},
        {"sync", false, MS_SYNCHRONOUS},
};

static const struct flag *find_flag(const char *name)
{
        for (size_t i = 0; i < G_N_ELEMENTS(flags_by_name); i++) {
                if (strcmp(flags_by_name[i].name, name) == 0)
                        return &flags_by_name[i];
        }
        return NULL;
}

static bool parse_options(
        const struct mount_request *request, unsigned long *ret_flags, GPtrArray *data, GError **error)
{
        unsigned long flags = 0;
        for (size_t i = 0; i < request->n_options; i++) {
                const char *option = request->options[i];
                const struct flag *flag = find_flag(option);
                if (g_str_has_prefix(option, "X-containerd."))
                        return error_fail(error, ERROR_INVALID_ARGUMENT,
                                "internal mount option \"%s\" was not consumed by the mount manager", option);
                if (strcmp(option, "loop") == 0 || g_str_has_prefix(option, "uidmap=") ||
                        g_str_has_prefix(option, "gidmap="))
                        return error_fail(error, ERROR_UNIMPLEMENTED, "mount option \"%s\" is not supported", option);
                if (flag == NULL)
                        g_ptr_array_add(data, (char *)option);
                else if (flag->clear)
                        flags &= ~flag->bits;
                else
                        flags |= flag->bits;
        }
        *ret_flags = flags;
        return true;
}

static char *join(const GPtrArray *data)
{
        GString *text = g_string_new(NULL);
        for (guint i = 0; i < data->len; i++)
                g_string_append_printf(text, "%s%s", i > 0 ? "," : "", (const char *)data->pdata[i]);
        return g_string_free(text, FALSE);
}

// How much of all names is the same, up to and including a slash.
static size_t common_length(char **names)
{
        size_t n = strlen(names[0]);
        for (char **name = names + 1; *name != NULL; name++) {
                size_t same = 0;
                while (same < n && names[0][same] == (*name)[same])
                        same++;
                n = same;
        }
        while (n > 0 && names[0][n - 1] != '/')
                n--;
        return n;
}

// The option with its common directory opened. NULL: cannot be made shorter.
static char *compact_lowerdir(const char *option, int *ret_fd)
{
        g_auto(GStrv) names = g_strsplit(option + strlen("lowerdir="), ":", -1);
        size_t n_common = g_strv_length(names) > 1 ? common_length(names) : 0;
        if (n_common < 2)
                return NULL;
        g_autofree char *common = g_strndup(names[0], n_common);
        int fd = open(common, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return NULL;
        GString *text = g_string_new("lowerdir=");
        for (char **name = names; *name != NULL; name++)
                g_string_append_printf(text, "%s/proc/self/fd/%d/%s", name > names ? ":" : "", fd, *name + n_common);
        *ret_fd = fd;
        return g_string_free(text, FALSE);
}

static char *data_text(const struct mount_request *request, GPtrArray *data, int *ret_fd)
{
        char *text = join(data);
        if (strcmp(request->type, "overlay") != 0 || strlen(text) < OPTIONS_LIMIT_BYTES)
                return text;
        for (guint i = 0; i < data->len; i++) {
                if (!g_str_has_prefix(data->pdata[i], "lowerdir="))
                        continue;
                g_autofree char *shorter = compact_lowerdir(data->pdata[i], ret_fd);
                if (shorter == NULL)
                        continue;
                data->pdata[i] = shorter;
                g_free(text);
                return join(data);
        }
        return text;
}

static bool call_mount(const struct mount_request *request, const char *target, GError **error)
{
        if (g_str_has_prefix(request->type, "fuse.") || g_str_has_prefix(request->type, "fuse3."))
                return error_fail(error, ERROR_UNIMPLEMENTED, "mount type \"%s\" is not supported", request->type);
        g_autoptr(GPtrArray) data = g_ptr_array_new();
        unsigned long flags;
        if (!parse_options(request, &flags, data, error))
                return false;
        fd_auto int common_fd = -1;
        g_autofree char *text = data_text(request, data, &common_fd);
        unsigned long own = flags & ~PROPAGATION_FLAGS;
        if ((!(flags & MS_REMOUNT) || *text != '\0') && mount(request->source, target, request->type, own, text) < 0)
                return error_fail_errno(error, errno,
                        "mount source: \"%s\", target: \"%s\", fstype: %s, flags: %lu, data: \"%s\"", request->source,
                        target, request->type, own, text);
        if (flags & PROPAGATION_FLAGS &&
                mount("", target, "", (flags & PROPAGATION_FLAGS) | (flags & MS_REC), NULL) < 0)
                return error_fail_errno(error, errno, "set propagation of %s", target);
        unsigned long read_only_bind = MS_BIND | MS_RDONLY;
        if ((own & read_only_bind) == read_only_bind && mount("", target, "", own | MS_REMOUNT, NULL) < 0)
                return error_fail_errno(error, errno, "remount %s read-only", target);
        return true;
}

static bool mount_below(const struct mount_request *request, const char *directory, GError **error)
{
        fd_auto int root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
                return error_fail_errno(error, errno, "open %s", directory);
        struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
        fd_auto int below = (int)syscall(SYS_openat2, root, request->target, &how, sizeof how);
        if (below < 0)
                return error_fail_errno(error, errno, "open %s below %s", request->target, directory);
        char target[sizeof "/proc/self/fd/" + 12];
        snprintf(target, sizeof target, "/proc/self/fd/%d", below);
        return call_mount(request, target, error);
}

bool mount_all(const struct mount_request *requests, size_t n_requests, const char *directory, GError **error)
{
        for (size_t i = 0; i < n_requests; i++) {
                const struct mount_request *request = &requests[i];
                bool below = request->target != NULL && *request->target != '\0';
                if (!(below ? mount_below(request, directory, error) : call_mount(request, directory, error)))
                        return false;
        }
        return true;
}

// ---- unmounting

// Undoes mountinfo's octal escapes, in place.
static void unescape(char *text)
{
        char *to = text;
        for (const char *from = text; *from != '\0'; to++) {
                if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] != '\0' && from[3] != '\0') {
                        *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
                        from += 4;
                } else {
                        *to = *from++;
                }
        }
        *to = '\0';
}

static GPtrArray *mount_points_below(const char *path, GError **error)
{
        FILE *file = fopen("/proc/self/mountinfo", "re");
        if (file == NULL) {
                error_fail_errno(error, errno, "open /proc/self/mountinfo");
                return NULL;
        }
        GPtrArray *points = g_ptr_array_new_with_free_func(g_free);
        size_t n_path = strlen(path), size = 0;
        char *line = NULL;
        while (getline(&line, &size, file) > 0) {
                g_auto(GStrv) fields = g_strsplit(line, " ", 6);
                if (g_strv_length(fields) < 6)
                        continue;
                unescape(fields[4]);
                if (strncmp(fields[4], path, n_path) == 0 && (fields[4][n_path] == '/' || fields[4][n_path] == '\0'))
                        g_ptr_array_add(points, g_strdup(fields[4]));
        }
        free(line);
        fclose(file);
        return points;
}

bool unmount_below(const char *path, GError **error)
{
        g_autofree char *real = realpath(path, NULL);
        if (real == NULL)
                return errno == ENOENT || error_fail_errno(error, errno, "resolve %s", path);
        g_autoptr(GPtrArray) points = mount_points_below(real, error);
        if (points == NULL)
                return false;
        for (guint i = points->len; i > 0; i--) {
                const char *point = points->pdata[i - 1];
                if (umount2(point, UMOUNT_NOFOLLOW) == 0 || errno == EINVAL || errno == ENOENT)
                        continue;
                if (errno == EBUSY && umount2(point, UMOUNT_NOFOLLOW | MNT_DETACH) == 0)
                        continue;
                return error_fail_errno(error, errno, "unmount %s", point);
        }
        return true;
}
