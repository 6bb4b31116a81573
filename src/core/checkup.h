// SPDX-License-Identifier: Apache-2.0
//
// The whole check of what the daemon keeps, for after an unclean end. It runs beside everything else. Threads: worker;
// stop may be set by any.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

struct content_store;
struct metadata;

struct checkup {
        struct metadata *metadata;
        struct content_store *content; // NULL: there is none
        bool hash;                     // the machine went down: read all content and compare its digests
        atomic_bool stop;
};

// Logs what it finds, with what to do about it, and repairs what can be repaired. False: it was stopped, or something
// was found that stays as it is, so the next start should check again.
bool checkup_run(struct checkup *checkup);
