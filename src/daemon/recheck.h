// SPDX-License-Identifier: Apache-2.0
//
// The whole check in the background (core/checkup.h). Threads: main.
#pragma once

#include "core/checkup.h"

struct lanes;
struct recheck;

// metadata, content and hash are taken from checkup. Once all is checked, last_end_checked is told.
struct recheck *recheck_start(struct lanes *lanes, int lock_fd, const struct checkup *checkup);
// Ends it if it is still under way; true if it came to its end, and found nothing that stays as it is. NULL: false.
bool recheck_stop(struct recheck *recheck);
