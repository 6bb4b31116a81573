// SPDX-License-Identifier: Apache-2.0
//
// A program that is killed leaves its directory of fifos. Its container may go on: the shim holds both ends of each
// fifo then, and somebody may still open it by name. So a directory is stale when none of its fifos has a reader, which
// a write-only open tells without waiting. One that was just made has none yet either, hence the age.
#include "client/stdio_internal.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { YOUNG_S = 60 };

static bool is_old(int fd)
{
        struct stat status;
        return fstat(fd, &status) == 0 && status.st_uid == geteuid() && time(NULL) - status.st_mtime > YOUNG_S;
}

static bool is_unused_fifo(int directory, const char *name)
{
        struct stat status;
        if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISFIFO(status.st_mode))
                return false;
        fd_auto int fd = openat(directory, name, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 && errno == ENXIO;
}

static bool is_stale(DIR *directory)
{
        for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
                if (entry->d_name[0] != '.' && !is_unused_fifo(dirfd(directory), entry->d_name))
                        return false;
        }
        return true;
}

static void remove_if_stale(int parent, const char *name)
{
        fd_auto int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || !is_old(fd))
                return;
        DIR *directory = fdopendir(fd);
        if (directory == NULL)
                return;
        fd_take(&fd); // closedir's now
        if (is_stale(directory)) {
                rewinddir(directory);
                for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
                        if (entry->d_name[0] != '.')
                                unlinkat(dirfd(directory), entry->d_name, 0);
                }
                unlinkat(parent, name, AT_REMOVEDIR);
        }
        closedir(directory);
}

void stdio_sweep(const char *parent)
{
        DIR *all = opendir(parent);
        if (all == NULL)
                return;
        for (const struct dirent *entry; (entry = readdir(all)) != NULL;) {
                if (entry->d_name[0] != '.')
                        remove_if_stale(dirfd(all), entry->d_name);
        }
        closedir(all);
}
