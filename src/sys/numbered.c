// SPDX-License-Identifier: Apache-2.0
//
// ext4 looks for a new file's inode from the start of its directory's block group, and passes by one after the other
// those that were freed in the last minutes. Directories beside each other share a group, so that a snapshot made after
// another one's removal would pass by all of that one's files for each of its own. The flag of `chattr +T` gives each
// entry of ROOT a group with much free space, and its files stay together in it. Other file systems refuse the flag.
#include "sys/numbered.h"

#include "base/error.h"
#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

// Best effort.
static void spread_entries(const char *root)
{
        fd_auto int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int flags;
        if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0 || (flags & FS_TOPDIR_FL) != 0)
                return;
        flags |= FS_TOPDIR_FL;
        ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

bool numbered_open(const char *root, GError **error)
{
        if (g_mkdir_with_parents(root, 0700) != 0)
                return error_fail_errno(error, errno, "create %s", root);
        spread_entries(root);
        return true;
}

char *numbered_begin(const char *root, GError **error)
{
        g_autofree char *path = g_strdup_printf("%s/new-XXXXXX", root);
        if (mkdtemp(path) == NULL) {
                error_fail_errno(error, errno, "failed to create temp dir in %s", root);
                return NULL;
        }
        return g_steal_pointer(&path);
}

char *numbered_place(const char *root, const char *directory, int64_t number, GError **error)
{
        g_autofree char *path = g_strdup_printf("%s/%" G_GINT64_FORMAT, root, number);
        if (renameat2(AT_FDCWD, directory, AT_FDCWD, path, RENAME_NOREPLACE) != 0 &&
                (errno != EINVAL || rename(directory, path) != 0)) {
                error_fail_errno(error, errno, "failed to rename %s to %s", directory, path);
                return NULL;
        }
        return g_steal_pointer(&path);
}

// -1 unless name is a number as we write it.
static int64_t parse_number(const char *name)
{
        uint64_t number;
        if (name[0] < '1' || name[0] > '9' || !g_ascii_string_to_unsigned(name, 10, 1, INT64_MAX, &number, NULL))
                return -1;
        return (int64_t)number;
}

bool numbered_list(const char *root, numbered_fn fn, void *data, GError **error)
{
        DIR *directory = opendir(root);
        if (directory == NULL)
                return error_fail_errno(error, errno, "open %s", root);
        const struct dirent *entry;
        errno = 0;
        while ((entry = readdir(directory)) != NULL) {
                if (!g_str_equal(entry->d_name, ".") && !g_str_equal(entry->d_name, "..")) {
                        g_autofree char *path = g_build_filename(root, entry->d_name, NULL);
                        fn(data, parse_number(entry->d_name), path);
                }
                errno = 0;
        }
        int errnum = errno;
        closedir(directory);
        return errnum == 0 || error_fail_errno(error, errnum, "read %s", root);
}
