// SPDX-License-Identifier: Apache-2.0
//
// The seals are those that crun and runc look for. A script cannot be run from a descriptor that is closed on exec, as
// its interpreter would have to open it again.
#include "sys/sealed_program.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#ifndef MFD_EXEC // Linux 6.3
#define MFD_EXEC 0x10U
#endif

enum { SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

char *sealed_program_identity(const char *name)
{
        g_autofree char *path = g_find_program_in_path(name);
        struct stat st;
        if (path == NULL || stat(path, &st) < 0)
                return NULL;
        return g_strdup_printf("%lx-%lx-%lx-%lx.%09ld", (unsigned long)st.st_dev, (unsigned long)st.st_ino,
                (unsigned long)st.st_size, (unsigned long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

static int make_file(const char *name)
{
        int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
        return fd < 0 && errno == EINVAL ? memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING) : fd;
}

static bool is_binary(int fd)
{
        char magic[4];
        return pread(fd, magic, sizeof magic, 0) == sizeof magic && memcmp(magic, "\177ELF", sizeof magic) == 0;
}

static bool copy_all(int from, int to, size_t n_bytes)
{
        while (n_bytes > 0) {
                ssize_t n = sendfile(to, from, NULL, n_bytes);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return false;
                n_bytes -= (size_t)n;
        }
        return true;
}

int sealed_program_open(const char *name, size_t max_bytes)
{
        g_autofree char *path = g_find_program_in_path(name);
        fd_auto int from = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        struct stat st;
        if (from < 0 || fstat(from, &st) < 0 || st.st_size > (off_t)max_bytes || !is_binary(from))
                return -1;
        fd_auto int to = make_file(name);
        if (to < 0 || !copy_all(from, to, (size_t)st.st_size) || fchmod(to, 0755) < 0 ||
                fcntl(to, F_ADD_SEALS, SEALS) < 0)
                return -1;
        return fd_take(&to);
}
