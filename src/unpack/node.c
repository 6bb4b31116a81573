// SPDX-License-Identifier: Apache-2.0
//
// Things are made first and looked at only if that fails with EEXIST: layers are mostly new files. The order of
// attributes is forced: a change of owner clears set-id bits and capabilities, so it comes first, then extended
// attributes, then the mode, then the times. Attributes of links and FIFOs have no call that takes a descriptor: the
// directory becomes the working directory for a moment.
#include "unpack/node.h"

#include "sys/files.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MAX_ATTRIBUTE_BYTES = 64 * 1024, MAX_ATTRIBUTES = 1000 };

static enum node_outcome failed_errno(int errnum, const char *what, GError **error)
{
        if (errnum == EEXIST)
                return NODE_EXISTS;
        error_fail_errno(error, errnum, "%s", what);
        return NODE_FAILED;
}

// ---- attributes

// As containerd: "trusted." is the host's, and what a file system or a type of file has no room for is left out.
// In a user namespace the security modules' attributes, capabilities apart, are refused.
static bool may_be_ignored(int errnum, const char *name, mode_t type)
{
        if (errnum == ENOTSUP)
                return true;
        if (errnum == EPERM && g_str_has_prefix(name, "user."))
                return type != S_IFREG && type != S_IFDIR;
        return errnum == EPERM && g_str_has_prefix(name, "security.") && strcmp(name, "security.capability") != 0;
}

static bool set_attributes(const struct node *node, mode_t type, int fd, const char *name, GError **error)
{
        const char *key;
        const void *value;
        size_t size;
        archive_entry_xattr_reset(node->entry);
        while (archive_entry_xattr_next(node->entry, &key, &value, &size) == ARCHIVE_OK) {
                if (g_str_has_prefix(key, "trusted."))
                        continue;
                int status = fd >= 0 ? fsetxattr(fd, key, value, size, 0) : lsetxattr(name, key, value, size, 0);
                if (status < 0 && !may_be_ignored(errno, key, type))
                        return error_fail_errno(error, errno, "set attribute %s", key);
        }
        return true;
}

static bool finish_fd(const struct node *node, int fd, GError **error)
{
        if (fchown(fd, node->uid, node->gid) < 0)
                return error_fail_errno(error, errno, "change owner to %u:%u", node->uid, node->gid);
        if (archive_entry_xattr_count(node->entry) > 0 && !set_attributes(node, node->type, fd, NULL, error))
                return false;
        if (fchmod(fd, node->mode) < 0)
                return error_fail_errno(error, errno, "change mode");
        if (futimens(fd, node->times) < 0)
                return error_fail_errno(error, errno, "set times");
        return true;
}

// For what cannot be opened without side effects.
static bool finish_name(const struct node *node, const struct rootfs_place *place, GError **error)
{
        struct stat status;
        if (fstatat(place->directory_fd, place->name, &status, AT_SYMLINK_NOFOLLOW) < 0)
                return error_fail_errno(error, errno, "stat");
        if (fchownat(place->directory_fd, place->name, node->uid, node->gid, AT_SYMLINK_NOFOLLOW) < 0)
                return error_fail_errno(error, errno, "change owner to %u:%u", node->uid, node->gid);
        if (archive_entry_xattr_count(node->entry) > 0) {
                if (fchdir(place->directory_fd) < 0)
                        return error_fail_errno(error, errno, "enter directory");
                if (!set_attributes(node, status.st_mode & S_IFMT, -1, place->name, error))
                        return false;
        }
        if (!S_ISLNK(status.st_mode) && fchmodat(place->directory_fd, place->name, node->mode, 0) < 0)
                return error_fail_errno(error, errno, "change mode");
        if (utimensat(place->directory_fd, place->name, node->times, AT_SYMLINK_NOFOLLOW) < 0)
                return error_fail_errno(error, errno, "set times");
        return true;
}

// ---- regular files

static bool copy_data(const struct node_context *context, const struct node *node, int fd, GError **error)
{
        off_t size = (off_t)archive_entry_size(node->entry);
        off_t end = 0;
        for (;;) {
                const void *bytes;
                size_t n_bytes;
                la_int64_t offset;
                int status = archive_read_data_block(node->archive, &bytes, &n_bytes, &offset);
                if (status == ARCHIVE_EOF)
                        break;
                if (status == ARCHIVE_RETRY)
                        continue;
                if (status < ARCHIVE_WARN)
                        return error_fail(error, ERROR_INVALID_ARGUMENT, "%s", archive_error_string(node->archive));
                if (!file_write_at(fd, bytes, n_bytes, offset, error))
                        return false;
                end = offset + (off_t)n_bytes;
                *context->bytes += n_bytes;
        }
        if (end < size && ftruncate(fd, size) < 0) // a hole at the end of a sparse file
                return error_fail_errno(error, errno, "set size");
        return true;
}

static enum node_outcome make_file(
        const struct node_context *context, const struct node *node, const struct rootfs_place *place, GError **error)
{
        int fd = openat(place->directory_fd, place->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return failed_errno(errno, "create file", error);
        bool good = copy_data(context, node, fd, error) && finish_fd(node, fd, error);
        if (close(fd) < 0 && good)
                good = error_fail_errno(error, errno, "close");
        return good ? NODE_DONE : NODE_FAILED;
}

// ---- directories

static enum node_outcome make_directory(const struct node *node, const struct rootfs_place *place, GError **error)
{
        if (mkdirat(place->directory_fd, place->name, 0700) < 0 && errno != EEXIST)
                return failed_errno(errno, "create directory", error);
        // What was there is merged with if it is a directory too; links do not count as one.
        int fd = openat(place->directory_fd, place->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
                return NODE_EXISTS;
        if (fd < 0)
                return failed_errno(errno, "open directory", error);
        bool good = finish_fd(node, fd, error);
        close(fd);
        return good ? NODE_DONE : NODE_FAILED;
}

// ---- devices: skiffd's

static void add_device(const struct node *node, const struct rootfs_place *place, struct report *report,
        const Worker__Device *template)
{
        Worker__Device device = *template;
        device.uid = node->uid;
        device.gid = node->gid;
        device.mtime_seconds = node->times[1].tv_sec;
        device.mtime_nanoseconds = (uint32_t)node->times[1].tv_nsec;
        g_autofree char *path = rootfs_place_path(place);
        report_device(report, &device, path);
}

static enum node_outcome note_device(
        const struct node_context *context, const struct node *node, const struct rootfs_place *place, GError **error)
{
        if (faccessat(place->directory_fd, place->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                return NODE_EXISTS;
        Worker__Device device = WORKER__DEVICE__INIT;
        device.mode = node->type | node->mode;
        device.major = (uint32_t)archive_entry_rdevmajor(node->entry);
        device.minor = (uint32_t)archive_entry_rdevminor(node->entry);
        Worker__Attribute attributes[16], *pointers[16];
        const char *key;
        const void *value;
        size_t size;
        archive_entry_xattr_reset(node->entry);
        while (device.n_attributes < G_N_ELEMENTS(attributes) &&
                archive_entry_xattr_next(node->entry, &key, &value, &size) == ARCHIVE_OK) {
                Worker__Attribute *attribute = &attributes[device.n_attributes];
                worker__attribute__init(attribute);
                attribute->name = (ProtobufCBinaryData){strlen(key), (uint8_t *)key};
                attribute->value = (ProtobufCBinaryData){size, (uint8_t *)value};
                pointers[device.n_attributes] = attribute;
                if (!g_str_has_prefix(key, "trusted.") && size <= MAX_ATTRIBUTE_BYTES)
                        device.n_attributes++;
        }
        device.attributes = pointers;
        add_device(node, place, context->report, &device);
        return NODE_DONE;
}

bool node_make_whiteout(
        const struct node *node, const struct rootfs_place *place, struct report *report, GError **error)
{
        if (mknodat(place->directory_fd, place->name, S_IFCHR, makedev(0, 0)) == 0) {
                if (fchownat(place->directory_fd, place->name, node->uid, node->gid, AT_SYMLINK_NOFOLLOW) < 0)
                        return error_fail_errno(error, errno, "change owner of whiteout");
                return true;
        }
        if (errno != EPERM)
                return error_fail_errno(error, errno, "failed to convert whiteout file");
        // Before Linux 5.8, whiteouts were devices like all others.
        Worker__Device device = WORKER__DEVICE__INIT;
        device.mode = S_IFCHR;
        add_device(node, place, report, &device);
        return true;
}

// ---- links and FIFOs

static enum node_outcome make_hardlink(
        const struct node_context *context, const struct node *node, const struct rootfs_place *place, GError **error)
{
        struct rootfs_place target;
        if (!rootfs_find_target(context->rootfs, node->hardlink, &target, error))
                return NODE_FAILED;
        g_autofree char *target_path = rootfs_place_path(&target);
        if (report_has_device(context->report, target_path)) {
                Worker__Device device = WORKER__DEVICE__INIT;
                device.mode = node->mode;
                device.link_target = (ProtobufCBinaryData){strlen(target_path), (uint8_t *)target_path};
                add_device(node, place, context->report, &device);
                return NODE_DONE;
        }
        if (linkat(target.directory_fd, target.name, place->directory_fd, place->name, 0) < 0)
                return failed_errno(errno, "link", error);
        return finish_name(node, place, error) ? NODE_DONE : NODE_FAILED;
}

static enum node_outcome make_symlink(const struct node *node, const struct rootfs_place *place, GError **error)
{
        const char *target = archive_entry_symlink(node->entry);
        if (target == NULL || symlinkat(target, place->directory_fd, place->name) < 0)
                return failed_errno(target == NULL ? EINVAL : errno, "create symbolic link", error);
        return finish_name(node, place, error) ? NODE_DONE : NODE_FAILED;
}

static enum node_outcome make_fifo(const struct node *node, const struct rootfs_place *place, GError **error)
{
        if (mknodat(place->directory_fd, place->name, S_IFIFO | 0600, 0) < 0)
                return failed_errno(errno, "create FIFO", error);
        return finish_name(node, place, error) ? NODE_DONE : NODE_FAILED;
}

enum node_outcome node_make(
        const struct node_context *context, const struct node *node, const struct rootfs_place *place, GError **error)
{
        if (archive_entry_xattr_count(node->entry) > MAX_ATTRIBUTES) {
                error_fail(error, ERROR_RESOURCE_EXHAUSTED, "more than %d attributes", MAX_ATTRIBUTES);
                return NODE_FAILED;
        }
        if (node->hardlink != NULL)
                return make_hardlink(context, node, place, error);
        switch (node->type) {
        case S_IFREG:
                return make_file(context, node, place, error);
        case S_IFDIR:
                return make_directory(node, place, error);
        case S_IFLNK:
                return make_symlink(node, place, error);
        case S_IFIFO:
                return make_fifo(node, place, error);
        case S_IFCHR:
        case S_IFBLK:
                return note_device(context, node, place, error);
        default:
                error_fail(error, ERROR_INVALID_ARGUMENT, "unhandled tar header type %o", node->type);
                return NODE_FAILED;
        }
}
