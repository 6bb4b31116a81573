// SPDX-License-Identifier: Apache-2.0
//
// A copy is made file by file, depth first; a directory gets its times last, as filling it changes them. Hard links are
// found by inode number: the first copy's path below the target is remembered, its descriptor would be one too many.
#include "base/error.h"
#include "base/fd.h"
#include "sys/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 30, BUFFER_BYTES = 128 * 1024 };

struct copy {
        int to;             // root of the target
        GHashTable *linked; // source inode (uint64) → path below the target
        GString *path;      // of the entry that is copied, below the roots
        GError **error;
};

static bool failed(struct copy *copy, const char *what)
{
        return error_fail_errno(copy->error, errno, "copy \"%s\": %s", copy->path->str, what);
}

// By way of /proc, as there are no …xattrat calls; path names the entry itself.
static void copy_attributes(const char *from, const char *to)
{
        ssize_t length = llistxattr(from, NULL, 0);
        if (length <= 0)
                return;
        g_autofree char *names = g_malloc((gsize)length);
        length = llistxattr(from, names, (size_t)length);
        for (ssize_t at = 0; at < length; at += (ssize_t)strlen(names + at) + 1) {
                const char *name = names + at;
                ssize_t size = lgetxattr(from, name, NULL, 0);
                if (size < 0)
                        continue;
                g_autofree char *value = g_malloc((gsize)size + 1);
                size = lgetxattr(from, name, value, (size_t)size);
                // security.* cannot be set in most cases; containerd ignores that too.
                if (size >= 0)
                        (void)lsetxattr(to, name, value, (size_t)size, 0);
        }
}

// What openat(2) cannot name for lsetxattr(2): an entry of an open directory.
static char *proc_path(int directory, const char *name)
{
        return g_strdup_printf("/proc/self/fd/%d/%s", directory, name);
}

static bool copy_status(struct copy *copy, int from, int to, const char *name, const struct stat *status)
{
        if (fchownat(to, name, status->st_uid, status->st_gid, AT_SYMLINK_NOFOLLOW) != 0)
                return failed(copy, "change owner");
        // After the owner: chown clears set-id bits.
        if (!S_ISLNK(status->st_mode) && fchmodat(to, name, status->st_mode & 07777, 0) != 0)
                return failed(copy, "change mode");
        g_autofree char *source = proc_path(from, name);
        g_autofree char *target = proc_path(to, name);
        copy_attributes(source, target);
        struct timespec times[] = {status->st_atim, status->st_mtim};
        if (utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) != 0)
                return failed(copy, "change times");
        return true;
}

static bool copy_by_buffer(int from, int to, off_t start, off_t end)
{
        g_autofree char *buffer = g_malloc(BUFFER_BYTES);
        while (start < end) {
                ssize_t n = pread(from, buffer, (size_t)MIN((off_t)BUFFER_BYTES, end - start), start);
                if (n == 0)
                        return true;
                if (n < 0 || pwrite(to, buffer, (size_t)n, start) != n)
                        return false;
                start += n;
        }
        return true;
}

static bool copy_range(int from, int to, off_t start, off_t end)
{
        off_t in = start, out = start;
        while (in < end) {
                ssize_t n = copy_file_range(from, &in, to, &out, (size_t)MIN((off_t)CHUNK_BYTES, end - in), 0);
                if (n == 0)
                        return true;
                if (n < 0)
                        return copy_by_buffer(from, to, in, end);
        }
        return true;
}

// The data between the holes; a file system without SEEK_DATA says that all is data.
static bool copy_data(int from, int to, off_t size)
{
        if (ioctl(to, FICLONE, from) == 0)
                return true;
        if (ftruncate(to, size) != 0)
                return false;
        for (off_t at = 0; at < size;) {
                off_t start = lseek(from, at, SEEK_DATA);
                if (start < 0 && errno == ENXIO)
                        return true;
                off_t end = start >= 0 ? lseek(from, start, SEEK_HOLE) : -1;
                if (start < 0)
                        start = at;
                if (end < 0)
                        end = size;
                if (!copy_range(from, to, start, end))
                        return false;
                at = end;
        }
        return true;
}

static bool copy_file(struct copy *copy, int from, int to, const char *name, const struct stat *status)
{
        uint64_t inode = status->st_ino;
        if (status->st_nlink > 1) {
                const char *first = g_hash_table_lookup(copy->linked, &inode);
                if (first != NULL)
                        return linkat(copy->to, first, to, name, 0) == 0 || failed(copy, "link");
                g_hash_table_insert(
                        copy->linked, g_memdup2(&inode, sizeof inode), g_strndup(copy->path->str, copy->path->len));
        }
        fd_auto int source = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (source < 0)
                return failed(copy, "open");
        fd_auto int target = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (target < 0)
                return failed(copy, "create");
        if (status->st_size > 0 && !copy_data(source, target, status->st_size))
                return failed(copy, "copy data");
        return copy_status(copy, from, to, name, status);
}

static bool copy_link(struct copy *copy, int from, int to, const char *name, const struct stat *status)
{
        g_autofree char *text = g_malloc((gsize)status->st_size + 1);
        ssize_t n = readlinkat(from, name, text, (size_t)status->st_size + 1);
        if (n < 0 || n > status->st_size)
                return failed(copy, "read link");
        text[n] = '\0';
        return (symlinkat(text, to, name) == 0 || failed(copy, "symlink")) && copy_status(copy, from, to, name, status);
}

static bool copy_below(struct copy *copy, int from, int to);

static bool copy_directory(struct copy *copy, int from, int to, const char *name, const struct stat *status)
{
        if (mkdirat(to, name, 0700) != 0)
                return failed(copy, "mkdir");
        int source = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        fd_auto int target = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (source < 0 || target < 0) {
                failed(copy, "open");
                fd_close(&source);
                return false;
        }
        return copy_below(copy, source, target) && copy_status(copy, from, to, name, status);
}

static bool copy_entry(struct copy *copy, int from, int to, const char *name)
{
        struct stat status;
        if (fstatat(from, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
                return failed(copy, "stat");
        switch (status.st_mode & S_IFMT) {
        case S_IFREG:
                return copy_file(copy, from, to, name, &status);
        case S_IFLNK:
                return copy_link(copy, from, to, name, &status);
        case S_IFDIR:
                return copy_directory(copy, from, to, name, &status);
        default:
                return (mknodat(to, name, status.st_mode, status.st_rdev) == 0 || failed(copy, "mknod")) &&
                       copy_status(copy, from, to, name, &status);
        }
}

// Takes from.
static bool copy_below(struct copy *copy, int from, int to)
{
        DIR *directory = fdopendir(from);
        if (directory == NULL) {
                close(from);
                return failed(copy, "open");
        }
        bool ok = true;
        const struct dirent *entry;
        errno = 0;
        while (ok && (entry = readdir(directory)) != NULL) {
                gsize length = copy->path->len;
                if (!g_str_equal(entry->d_name, ".") && !g_str_equal(entry->d_name, "..")) {
                        g_string_append_printf(copy->path, "%s%s", length > 0 ? "/" : "", entry->d_name);
                        ok = copy_entry(copy, from, to, entry->d_name);
                        g_string_truncate(copy->path, length);
                }
                errno = 0;
        }
        if (ok && errno != 0)
                ok = failed(copy, "read directory");
        closedir(directory);
        return ok;
}

bool tree_copy(const char *from, const char *to, GError **error)
{
        int source = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        fd_auto int source_again = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        fd_auto int target = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct stat status;
        if (source < 0 || source_again < 0 || target < 0 || fstat(source, &status) != 0) {
                error_fail_errno(error, errno, "copy %s to %s", from, to);
                fd_close(&source);
                return false;
        }
        struct copy copy = {
                .to = target,
                .linked = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free),
                .path = g_string_new(NULL),
                .error = error,
        };
        bool ok = copy_below(&copy, source, target) && copy_status(&copy, source_again, target, ".", &status);
        g_hash_table_unref(copy.linked);
        g_string_free(copy.path, true);
        return ok;
}
