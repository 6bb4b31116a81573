// SPDX-License-Identifier: Apache-2.0
//
// Walks by descriptor: each level holds its directory open, so that a rename above cannot lead elsewhere. A tree deeper
// than there are descriptors fails; nothing here recurses on the content of files.
#include "sys/tree.h"

#include "base/error.h"
#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK_BYTES = 512, OPEN_DIRECTORY = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC };

static DIR *open_directory(int parent, const char *name)
{
        int fd = openat(parent, name, OPEN_DIRECTORY);
        DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
        if (directory == NULL && fd >= 0) {
                int errnum = errno;
                close(fd);
                errno = errnum;
        }
        return directory;
}

static bool is_dots(const char *name)
{
        return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

// The next entry but "." and ".."; NULL at the end or with errno.
static const struct dirent *next_entry(DIR *directory)
{
        const struct dirent *entry;
        do {
                errno = 0;
                entry = readdir(directory);
        } while (entry != NULL && is_dots(entry->d_name));
        return entry;
}

// ---- usage

struct inode {
        dev_t dev;
        ino_t ino;
};

static guint inode_hash(gconstpointer key)
{
        const struct inode *inode = key;
        uint64_t ino = inode->ino;
        return g_int64_hash(&ino);
}

static gboolean inode_equal(gconstpointer a, gconstpointer b)
{
        const struct inode *one = a, *other = b;
        return one->dev == other->dev && one->ino == other->ino;
}

struct count {
        struct tree_usage usage;
        GHashTable *linked; // inodes with several links that were counted
};

static void count_inode(struct count *count, const struct stat *status)
{
        if (!S_ISDIR(status->st_mode) && status->st_nlink > 1) {
                struct inode inode = {status->st_dev, status->st_ino};
                if (!g_hash_table_add(count->linked, g_memdup2(&inode, sizeof inode)))
                        return;
        }
        count->usage.n_inodes++;
        count->usage.n_bytes += (int64_t)status->st_blocks * BLOCK_BYTES;
}

// 0 or an errno.
static int count_below(struct count *count, int parent, const char *name)
{
        DIR *directory = open_directory(parent, name);
        if (directory == NULL)
                return errno == ENOENT ? 0 : errno;
        int errnum = 0;
        const struct dirent *entry;
        while (errnum == 0 && (entry = next_entry(directory)) != NULL) {
                struct stat status;
                if (fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
                        errnum = errno == ENOENT ? 0 : errno;
                        continue;
                }
                count_inode(count, &status);
                if (S_ISDIR(status.st_mode))
                        errnum = count_below(count, dirfd(directory), entry->d_name);
        }
        if (errnum == 0 && entry == NULL)
                errnum = errno;
        closedir(directory);
        return errnum;
}

bool tree_usage(const char *path, struct tree_usage *ret_usage, GError **error)
{
        struct stat status;
        if (lstat(path, &status) != 0)
                return errno == ENOENT ? error_fail(error, ERROR_NOT_FOUND, "lstat %s: no such file or directory", path)
                                       : error_fail_errno(error, errno, "lstat %s", path);
        struct count count = {.linked = g_hash_table_new_full(inode_hash, inode_equal, g_free, NULL)};
        count_inode(&count, &status);
        int errnum = S_ISDIR(status.st_mode) ? count_below(&count, AT_FDCWD, path) : 0;
        g_hash_table_unref(count.linked);
        if (errnum != 0)
                return error_fail_errno(error, errnum, "measure %s", path);
        *ret_usage = count.usage;
        return true;
}

// ---- removal

static int remove_entry(int parent, const char *name, unsigned char type);

static int remove_below(int parent, const char *name)
{
        DIR *directory = open_directory(parent, name);
        if (directory == NULL)
                return errno;
        int errnum = 0;
        const struct dirent *entry;
        while (errnum == 0 && (entry = next_entry(directory)) != NULL)
                errnum = remove_entry(dirfd(directory), entry->d_name, entry->d_type);
        if (errnum == 0 && entry == NULL)
                errnum = errno;
        closedir(directory);
        return errnum;
}

static int remove_entry(int parent, const char *name, unsigned char type)
{
        if (type != DT_DIR) {
                if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
                        return 0;
                if (errno != EISDIR && errno != EPERM)
                        return errno;
        }
        if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
                return 0;
        if (errno != ENOTEMPTY && errno != EEXIST)
                return errno;
        int errnum = remove_below(parent, name);
        if (errnum != 0 && errnum != ENOENT)
                return errnum;
        return unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : errno;
}

bool tree_remove_at(int directory_fd, const char *name, GError **error)
{
        int errnum = remove_entry(directory_fd, name, DT_UNKNOWN);
        return errnum == 0 || error_fail_errno(error, errnum, "remove %s", name);
}

bool tree_remove(const char *path, GError **error)
{
        return tree_remove_at(AT_FDCWD, path, error);
}

bool tree_sync(const char *path, GError **error)
{
        fd_auto int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || syncfs(fd) != 0)
                return error_fail_errno(error, errno, "sync file system of %s", path);
        return true;
}
