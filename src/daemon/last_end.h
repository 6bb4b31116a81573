// SPDX-License-Identifier: Apache-2.0
//
// How the daemon before this one ended. Threads: any, one at a time.
#pragma once

#include "base/error.h"

// The record is the content of the root's lock file, while that is locked.
enum last_end {
        LAST_END_CLEAN,
        LAST_END_KILLED,  // during this boot of the machine
        LAST_END_MACHINE, // with the machine
};

// Reads the record, and writes that a daemon runs, unless the last end was unclean: then its record stays until
// last_end_checked. What cannot be read or written is logged.
enum last_end last_end_begin(int lock_fd);
// What the last end left behind was looked after; a daemon still runs.
void last_end_checked(int lock_fd);
// Everything is closed.
void last_end_clean(int lock_fd);
