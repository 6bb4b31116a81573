// SPDX-License-Identifier: Apache-2.0
//
// A cancel token: set once, with a reason, by whoever ends the work (client gone, deadline, shutdown); asked or watched
// by those who do it. Threads: any.
#pragma once

#include "base/auto.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct cancel;
typedef void (*cancel_fn)(void *data);

struct cancel *cancel_new(void);
// Another token for the same work, that can be triggered by itself (it is not when `of` is): what is noted at it, see
// below, is noted at `of`. of may be NULL.
struct cancel *cancel_new_part(struct cancel *of);
struct cancel *cancel_ref(struct cancel *cancel);
void cancel_unref(struct cancel *cancel);
DEFINE_AUTO(cancel, cancel_unref)

// The first call counts: stores the reason and calls the watchers, in the calling thread, with no lock held.
void cancel_trigger(struct cancel *cancel, enum error_code code, const char *reason);
bool cancel_is_set(const struct cancel *cancel);
// False and *error set to the reason if it was triggered. cancel may be NULL: never set.
bool cancel_check(const struct cancel *cancel, GError **error);

// Calls fn once when the token is triggered; at once, in this thread, if it is already. The id is for cancel_unwatch.
unsigned long cancel_watch(struct cancel *cancel, cancel_fn fn, void *data);
// True: fn has not been called and will not be. False: it was, or is being called just now in another thread, so data
// must stay valid (let the watcher own a reference).
bool cancel_unwatch(struct cancel *cancel, unsigned long id);

// ---- what the work waits for just now, for a list of running calls

// Lies with whoever waits; zeroed: nothing. As many as there are things waited for at the same time.
struct cancel_note {
        struct cancel *cancel; // NULL: it says nothing
        struct cancel_note *next, **link;
        char *text;
        int64_t since_ns;
};
// Says it, in place of what the note said before. The token must outlive the note. cancel NULL: nothing is said.
void cancel_note_set(struct cancel_note *note, struct cancel *cancel, const char *format, ...) G_GNUC_PRINTF(3, 4);
void cancel_note_clear(struct cancel_note *note);
// What has been waited for longest, and how many others there are; NULL: nothing. The caller frees. ret_since_ns:
// CLOCK_MONOTONIC.
char *cancel_waits_for(struct cancel *cancel, int64_t *ret_since_ns);
