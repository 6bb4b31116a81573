// SPDX-License-Identifier: Apache-2.0
//
// Whoever heard of an exit by its event finds it in the store, whatever happened to the daemon or the machine
// meanwhile. An exit that cannot be stored is published nevertheless: on a full disk, too, clients must learn that
// their processes ended. The log is cut now and then, so that it costs nothing on the way of an exit.
#include "plugins/events/recorder.h"

#include "base/clock.h"
#include "base/log.h"
#include "core/event_log.h"

#include <string.h>

#define KEEP_NS (INT64_C(24) * 3600 * NS_PER_SECOND)
enum { KEEP_EVENTS = 10000, TRIM_EVERY = 256 };

struct append {
        struct metadata *metadata;
        const struct event *event;
};

static bool append(struct tx *tx, void *data, GError **error)
{
        const struct append *append = data;
        const struct event_log_ops *log = append->metadata->events;
        int64_t cursor;
        return log->append(tx, append->event, &cursor, error) &&
               (cursor % TRIM_EVERY != 0 || log->trim(tx, cursor - KEEP_EVENTS, clock_now_ns() - KEEP_NS, error));
}

bool recorder_record(void *metadata, struct event *event, GError **error)
{
        struct append data = {metadata, event};
        g_autoptr(GError) failed = NULL;
        if (strcmp(event->topic, "/tasks/exit") == 0 && !metadata_write(metadata, TX_DURABLE, append, &data, &failed))
                log_error("exit is published without being stored", "namespace", event->namespace_, "error",
                        failed->message);
        return true;
}
