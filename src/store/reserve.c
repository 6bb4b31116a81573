// SPDX-License-Identifier: Apache-2.0
//
// Room that is set aside, so that on a full disk records can still be written: to free space, clients must be able to
// remove images, snapshots and ingests. The blocks lie behind the ends of the files, which therefore do not grow, and
// are given back when a file is closed for good or cut. The log is the one that each write goes to; SQLite starts it
// over from its beginning once it has moved its pages to the database, and never cuts it.
#include "store/internal.h"

#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <sys/stat.h>

// A thousand pages is when SQLite moves them; the rest is for while it cannot, as the database needs room too.
enum { LOG_BYTES = 6 << 20, DATABASE_BYTES = 1 << 20 };

static void reserve(int fd, const char *path, off_t from, off_t bytes)
{
        int failed = fallocate(fd, FALLOC_FL_KEEP_SIZE, from, bytes) == 0 ? 0 : errno;
        if (failed != 0 && failed != EOPNOTSUPP)
                log_warn("no room can be set aside for a full disk", "path", path, "error", errno_text(failed));
}

bool reserve_database(const char *path, GError **error)
{
        fd_auto int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) != 0)
                return error_fail_errno(error, errno, "open %s", path);
        reserve(fd, path, st.st_size, DATABASE_BYTES);
        return true;
}

bool reserve_log(const char *path, GError **error)
{
        g_autofree char *log_path = g_strconcat(path, "-wal", NULL);
        fd_auto int fd = open(log_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return error_fail_errno(error, errno, "open %s", log_path);
        reserve(fd, log_path, 0, LOG_BYTES);
        return true;
}
