// SPDX-License-Identifier: Apache-2.0
//
// The paths come from a worker that a hostile layer may have taken over, and the directory holds what it made: every
// path is opened below the directory without following a symbolic link, and nothing is done while the worker lives.
// What can be reached that way is the layer's own.
#include "core/unpacker_private.h"

#include "base/fd.h"
#include "base/message.h"
#include "sys/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum { MAX_REPORT_BYTES = 64 * 1024 * 1024, MAX_ATTRIBUTE_LIST = 64 * 1024 };

struct unpack_report {
        GPtrArray *parts; // of GBytes: Worker__Reported as it came, many times as large once it is decoded
        size_t n_bytes;
};

static void free_part(void *part)
{
        g_bytes_unref(part);
}

struct unpack_report *unpack_report_new(void)
{
        struct unpack_report *report = g_new0(struct unpack_report, 1);
        report->parts = g_ptr_array_new_with_free_func(free_part);
        return report;
}

void unpack_report_free(struct unpack_report *report)
{
        if (report == NULL)
                return;
        g_ptr_array_free(report->parts, TRUE);
        g_free(report);
}

// ---- taking it in

static bool path_is_fine(const ProtobufCBinaryData *path, bool may_be_root)
{
        if (path->len == 0)
                return may_be_root;
        return path->len < 64 * PATH_MAX && path->data[0] != '/' && memchr(path->data, 0, path->len) == NULL;
}

static bool device_is_fine(const Worker__Device *device)
{
        mode_t type = device->mode & S_IFMT;
        if (!path_is_fine(&device->path, false))
                return false;
        if (device->link_target.len > 0)
                return path_is_fine(&device->link_target, false);
        return (type == S_IFCHR || type == S_IFBLK) && device->mtime_nanoseconds < 1000000000;
}

static bool part_is_fine(const Worker__Reported *part)
{
        bool fine = true;
        for (size_t i = 0; i < part->n_directories; i++)
                fine &= path_is_fine(&part->directories[i]->path, false);
        for (size_t i = 0; i < part->n_opaque_paths; i++)
                fine &= path_is_fine(&part->opaque_paths[i], true);
        for (size_t i = 0; i < part->n_devices; i++)
                fine &= device_is_fine(part->devices[i]);
        return fine;
}

bool unpack_report_add(struct unpack_report *report, const Worker__Reported *part, GError **error)
{
        size_t n_bytes = worker__reported__get_packed_size(part);
        report->n_bytes += n_bytes;
        if (report->n_bytes > MAX_REPORT_BYTES)
                return error_fail(error, ERROR_RESOURCE_EXHAUSTED, "untar: the layer needs too much help");
        if (!part_is_fine(part))
                return error_fail(error, ERROR_INVALID_ARGUMENT, "untar: malformed report");
        uint8_t *packed = g_malloc(n_bytes + 1);
        worker__reported__pack(part, packed);
        g_ptr_array_add(report->parts, g_bytes_new_take(packed, n_bytes));
        return true;
}

// ---- opening

static int open_plain(int directory_fd, const char *path, int flags)
{
        return file_open_resolved(
                directory_fd, path, flags | O_NOFOLLOW, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

static char *text_of(const ProtobufCBinaryData *bytes)
{
        return g_strndup((const char *)bytes->data, bytes->len);
}

// Opens the directory of path and returns its last component; NULL: failed.
static const char *open_parent(int directory_fd, const char *path, int *ret_fd, GError **error)
{
        const char *slash = strrchr(path, '/');
        g_autofree char *parent = slash == NULL ? g_strdup("") : g_strndup(path, (size_t)(slash - path));
        const char *name = slash == NULL ? path : slash + 1;
        if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
                error_fail(error, ERROR_INVALID_ARGUMENT, "untar: malformed report");
                return NULL;
        }
        *ret_fd = open_plain(directory_fd, parent, O_RDONLY | O_DIRECTORY);
        if (*ret_fd < 0) {
                error_fail_errno(error, errno, "open /%s", parent);
                return NULL;
        }
        return name;
}

// ---- directories that the layer takes for granted

static bool copy_attribute(int from, int to, const char *name, GError **error)
{
        g_autofree char *value = g_malloc(XATTR_SIZE_MAX);
        ssize_t size = fgetxattr(from, name, value, XATTR_SIZE_MAX);
        if (size < 0)
                return errno == ENODATA || errno == ENOTSUP || error_fail_errno(error, errno, "get attribute %s", name);
        if (fsetxattr(to, name, value, (size_t)size, XATTR_CREATE) < 0 && errno != EEXIST && errno != ENOTSUP &&
                errno != ENODATA)
                return error_fail_errno(error, errno, "set attribute %s", name);
        return true;
}

static bool copy_attributes(int from, int to, GError **error)
{
        g_autofree char *names = g_malloc(MAX_ATTRIBUTE_LIST);
        ssize_t size = flistxattr(from, names, MAX_ATTRIBUTE_LIST);
        if (size < 0)
                return errno == ENOTSUP || error_fail_errno(error, errno, "list attributes");
        for (const char *name = names; name < names + size; name += strlen(name) + 1) {
                if (!g_str_has_prefix(name, "trusted.") && !copy_attribute(from, to, name, error))
                        return false;
        }
        return true;
}

static bool copy_looks(int from, int to, bool attributes_only, GError **error)
{
        struct stat status;
        if (fstat(from, &status) < 0)
                return error_fail_errno(error, errno, "stat");
        if (!attributes_only && fchown(to, status.st_uid, status.st_gid) < 0)
                return error_fail_errno(error, errno, "change owner");
        if (!copy_attributes(from, to, error))
                return false;
        if (attributes_only)
                return true;
        struct timespec times[2] = {status.st_atim, status.st_mtim};
        if (fchmod(to, status.st_mode & 07777) < 0 || futimens(to, times) < 0)
                return error_fail_errno(error, errno, "change mode and times");
        return true;
}

// The topmost lower layer that has something at path decides; if that is no directory, nobody does.
static int open_in_parents(const char *path, const int *parent_fds, size_t n_parents)
{
        for (size_t i = 0; i < n_parents; i++) {
                int fd = file_open_resolved(parent_fds[i], path, O_PATH, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
                if (fd < 0 && errno == ENOENT)
                        continue;
                fd_close(&fd);
                return file_open_resolved(
                        parent_fds[i], path, O_RDONLY | O_DIRECTORY, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
        }
        return -1;
}

struct directories {
        int fd;
        int *parent_fds;
        size_t n_parents;
};

static bool dress(const struct directories *directories, const Worker__InventedDirectory *invented, GError **error)
{
        g_autofree char *path = text_of(&invented->path);
        fd_auto int from = open_in_parents(path, directories->parent_fds, directories->n_parents);
        if (from < 0)
                return true;
        fd_auto int to = open_plain(directories->fd, path, O_RDONLY | O_DIRECTORY);
        if (to < 0)
                return error_fail_errno(error, errno, "open /%s", path);
        if (copy_looks(from, to, invented->named_later, error))
                return true;
        g_prefix_error(error, "directory /%s: ", path);
        return false;
}

// ---- opaque markers and devices

static bool mark_opaque(const struct directories *directories, const ProtobufCBinaryData *bytes, GError **error)
{
        g_autofree char *path = text_of(bytes);
        fd_auto int fd = open_plain(directories->fd, path, O_RDONLY | O_DIRECTORY);
        if (fd < 0 || fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
                return error_fail_errno(error, errno, "mark /%s opaque", path);
        return true;
}

static bool set_device_attributes(int device_fd, const Worker__Device *device, GError **error)
{
        char magic[64];
        snprintf(magic, sizeof(magic), "/proc/self/fd/%d", device_fd);
        for (size_t i = 0; i < device->n_attributes; i++) {
                const Worker__Attribute *attribute = device->attributes[i];
                g_autofree char *name = text_of(&attribute->name);
                if (g_str_has_prefix(name, "trusted."))
                        continue;
                bool refused = setxattr(magic, name, attribute->value.data, attribute->value.len, 0) < 0;
                if (refused && errno != ENOTSUP && errno != EPERM)
                        return error_fail_errno(error, errno, "set attribute %s", name);
        }
        return true;
}

static bool finish_device(int parent_fd, const char *name, const Worker__Device *device, GError **error)
{
        fd_auto int fd = openat(parent_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fchownat(fd, "", device->uid, device->gid, AT_EMPTY_PATH) < 0)
                return error_fail_errno(error, errno, "change owner");
        if (!set_device_attributes(fd, device, error))
                return false;
        if (fchmodat(parent_fd, name, device->mode & 07777, 0) < 0)
                return error_fail_errno(error, errno, "change mode");
        struct timespec time = {device->mtime_seconds, device->mtime_nanoseconds};
        if (utimensat(parent_fd, name, (struct timespec[]){time, time}, AT_SYMLINK_NOFOLLOW) < 0)
                return error_fail_errno(error, errno, "set times");
        return true;
}

static bool link_device(const struct directories *directories, int parent_fd, const char *name,
        const Worker__Device *device, GError **error)
{
        g_autofree char *target = text_of(&device->link_target);
        fd_auto int target_fd = -1;
        const char *target_name = open_parent(directories->fd, target, &target_fd, error);
        if (target_name == NULL)
                return false;
        return linkat(target_fd, target_name, parent_fd, name, 0) == 0 || error_fail_errno(error, errno, "link");
}

static bool make_device(const struct directories *directories, const Worker__Device *device, GError **error)
{
        g_autofree char *path = text_of(&device->path);
        fd_auto int parent_fd = -1;
        const char *name = open_parent(directories->fd, path, &parent_fd, error);
        if (name == NULL)
                return false;
        struct stat before;
        if (fstat(parent_fd, &before) < 0)
                return error_fail_errno(error, errno, "stat");
        bool good;
        if (device->link_target.len > 0)
                good = link_device(directories, parent_fd, name, device, error);
        else
                good = mknodat(parent_fd, name, device->mode & (S_IFMT | 07777),
                               makedev(device->major, device->minor)) == 0 ||
                       error_fail_errno(error, errno, "make device");
        if (!good || !finish_device(parent_fd, name, device, error)) {
                g_prefix_error(error, "device /%s: ", path);
                return false;
        }
        futimens(parent_fd, (struct timespec[]){before.st_atim, before.st_mtim});
        return true;
}

static bool apply_part(const struct directories *directories, GBytes *bytes, GError **error)
{
        AUTO(arena) arena = arena_new();
        size_t n_bytes;
        const uint8_t *packed = g_bytes_get_data(bytes, &n_bytes);
        const Worker__Reported *part =
                (const Worker__Reported *)message_decode(&worker__reported__descriptor, packed, n_bytes, arena, error);
        bool good = part != NULL;
        for (size_t i = 0; good && i < part->n_devices; i++)
                good = make_device(directories, part->devices[i], error);
        for (size_t i = 0; good && i < part->n_opaque_paths; i++)
                good = mark_opaque(directories, &part->opaque_paths[i], error);
        for (size_t i = 0; good && i < part->n_directories && directories->n_parents > 0; i++)
                good = dress(directories, part->directories[i], error);
        return good;
}

bool unpack_report_apply(
        const struct unpack_report *report, const char *directory, const char *const *parents, GError **error)
{
        if (report->parts->len == 0)
                return true;
        size_t n_parents = parents != NULL ? g_strv_length((char **)parents) : 0;
        g_autofree int *parent_fds = g_new(int, n_parents + 1);
        struct directories directories = {.parent_fds = parent_fds};
        fd_auto int fd = directories.fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        bool good = fd >= 0 || error_fail_errno(error, errno, "open %s", directory);
        while (good && directories.n_parents < n_parents) {
                const char *parent = parents[directories.n_parents];
                int parent_fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (parent_fd >= 0)
                        parent_fds[directories.n_parents++] = parent_fd;
                else
                        good = error_fail_errno(error, errno, "open %s", parent);
        }
        // Devices change the times of their directories, which those that are dressed get last.
        for (guint i = 0; good && i < report->parts->len; i++)
                good = apply_part(&directories, g_ptr_array_index(report->parts, i), error);
        for (size_t i = 0; i < directories.n_parents; i++)
                close(parent_fds[i]);
        return good;
}
