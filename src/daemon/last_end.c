// SPDX-License-Identifier: Apache-2.0
//
// The record has one length whatever it says, and is written in place: a full disk has room for it from the first start
// on. It is synced when a daemon begins, before anything else is written; that it ended may get to the disk later, as a
// check too many does no harm.
#include "daemon/last_end.h"

#include "base/log.h"
#include "sys/boot.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { RECORD_BYTES = 48 };
#define RUNNING "running "
#define CLEAN "clean"

static bool write_record(int fd, const char *text)
{
        char record[RECORD_BYTES + 1];
        snprintf(record, sizeof record, "%-*.*s\n", RECORD_BYTES - 1, RECORD_BYTES - 1, text);
        if (pwrite(fd, record, RECORD_BYTES, 0) == RECORD_BYTES)
                return true;
        log_warn("cannot note in the lock file how this daemon ends", "error", errno_text(errno));
        return false;
}

static void write_running(int fd)
{
        g_autofree char *boot = boot_id();
        g_autofree char *text = g_strconcat(RUNNING, boot, NULL);
        if (write_record(fd, text) && fdatasync(fd) != 0)
                log_warn("cannot sync the lock file", "error", errno_text(errno));
}

enum last_end last_end_begin(int lock_fd)
{
        char record[RECORD_BYTES + 1] = "";
        g_autofree char *boot = boot_id();
        if (pread(lock_fd, record, RECORD_BYTES, 0) < 0)
                log_warn("cannot read the lock file", "error", errno_text(errno));
        if (!g_str_has_prefix(record, RUNNING)) {
                write_running(lock_fd);
                return LAST_END_CLEAN;
        }
        return strcmp(g_strchomp(record + strlen(RUNNING)), boot) == 0 ? LAST_END_KILLED : LAST_END_MACHINE;
}

void last_end_checked(int lock_fd)
{
        write_running(lock_fd);
}

void last_end_clean(int lock_fd)
{
        write_record(lock_fd, CLEAN);
}
