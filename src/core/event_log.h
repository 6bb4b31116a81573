// SPDX-License-Identifier: Apache-2.0
//
// Events that must not be lost (exits), each with a cursor that only grows, so that a reader can ask for what came
// after the last one it saw. One whose sender got no answer, as the daemon was killed, may be there twice. Threads:
// any.
#pragma once

#include "core/event.h"
#include "core/metadata.h"

// The event belongs to the log; take a reference to keep it.
typedef bool (*event_log_fn)(void *data, int64_t cursor, struct event *event);

struct event_log_ops {
        bool (*append)(struct tx *tx, const struct event *event, int64_t *ret_cursor, GError **error);
        // Those with a greater cursor, in order; false from fn ends the walk.
        bool (*walk_after)(struct tx *tx, int64_t cursor, event_log_fn fn, void *data, GError **error);
        // Removes those up to a cursor, and all from before a time (wall clock).
        bool (*trim)(struct tx *tx, int64_t cursor, int64_t before_ns, GError **error);
};
