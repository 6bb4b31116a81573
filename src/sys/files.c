// SPDX-License-Identifier: Apache-2.0
//
// A file is replaced by writing a new one beside it, syncing it, renaming it over the old one and syncing the
// directory; less than that loses the file or its content in a power cut on one file system or another.
#include "sys/files.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int open_how(int directory, const char *path, const struct open_how *how)
{
        int fd;
        // EAGAIN: somebody renamed a directory on the way, or mounted something, just now.
        do
                fd = (int)syscall(SYS_openat2, directory, *path != '\0' ? path : ".", how, sizeof *how);
        while (fd < 0 && (errno == EINTR || errno == EAGAIN));
        return fd;
}

int file_open_resolved(int directory, const char *path, int flags, uint64_t resolve)
{
        const struct open_how how = {.flags = (unsigned)(flags | O_CLOEXEC), .resolve = resolve};
        return open_how(directory, path, &how);
}

int file_open_beneath(int directory, const char *path, int flags, mode_t mode, GError **error)
{
        const struct open_how how = {
                .flags = (unsigned)(flags | O_CLOEXEC),
                .mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? mode : 0,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        };
        int fd = open_how(directory, path, &how);
        if (fd >= 0)
                return fd;
        if (errno == ENOENT)
                error_fail(error, ERROR_NOT_FOUND, "%s: not found", path);
        else if (errno == EXDEV || errno == ELOOP)
                error_fail(error, ERROR_PERMISSION_DENIED, "%s: leads out of its directory: permission denied", path);
        else
                error_fail_errno(error, errno, "open %s", path);
        return -1;
}

static bool sync_parent(const char *path, GError **error)
{
        g_autofree char *parent = g_path_get_dirname(path);
        fd_auto int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) != 0)
                return error_fail_errno(error, errno, "sync %s", parent);
        return true;
}

bool file_make_directories(const char *path, mode_t mode, GError **error)
{
        if (mkdir(path, mode) == 0)
                return sync_parent(path, error);
        if (errno == EEXIST) {
                struct stat st;
                if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
                        return true;
                return error_fail_errno(error, ENOTDIR, "mkdir %s", path);
        }
        if (errno != ENOENT)
                return error_fail_errno(error, errno, "mkdir %s", path);
        g_autofree char *parent = g_path_get_dirname(path);
        if (!file_make_directories(parent, mode, error))
                return false;
        if (mkdir(path, mode) != 0 && errno != EEXIST)
                return error_fail_errno(error, errno, "mkdir %s", path);
        return sync_parent(path, error);
}

bool file_write_at(int fd, const void *bytes, size_t n_bytes, off_t offset, GError **error)
{
        const char *at = bytes;
        while (n_bytes > 0) {
                ssize_t n = pwrite(fd, at, n_bytes, offset);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_fail_errno(error, errno, "write");
                at += n;
                offset += n;
                n_bytes -= (size_t)n;
        }
        return true;
}

char *file_read_text(int directory, const char *name, size_t limit, GError **error)
{
        fd_auto int fd = file_open_beneath(directory, name, O_RDONLY, 0, error);
        if (fd < 0)
                return NULL;
        g_autoptr(GString) text = g_string_new(NULL);
        char buffer[4096];
        for (;;) {
                ssize_t n = read(fd, buffer, sizeof buffer);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        error_fail_errno(error, errno, "read %s", name);
                        return NULL;
                }
                if (n == 0)
                        return g_string_free(g_steal_pointer(&text), FALSE);
                if (text->len + (size_t)n > limit) {
                        error_fail(error, ERROR_RESOURCE_EXHAUSTED, "%s is larger than %zu bytes", name, limit);
                        return NULL;
                }
                g_string_append_len(text, buffer, n);
        }
}

char *file_read_some(int fd, size_t limit)
{
        GString *text = g_string_new(NULL);
        char buffer[1024];
        ssize_t n = 1;
        while (text->len < limit && n > 0) {
                n = read(fd, buffer, sizeof buffer);
                if (n > 0)
                        g_string_append_len(text, buffer, n);
        }
        return g_string_free(text, FALSE);
}

bool file_sync_directory(int directory, GError **error)
{
        return fsync(directory) == 0 || error_fail_errno(error, errno, "sync directory");
}
