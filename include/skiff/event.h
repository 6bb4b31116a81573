// SPDX-License-Identifier: Apache-2.0
//
// Events: what happens in the daemon, as it happens. Ownership and threads: see client.h.
#pragma once

#include <skiff/client.h>

#ifdef __cplusplus
extern "C" {
#endif

// The strings live during the call alone.
struct skiff_event {
        int64_t at_ns; // since 1970, UTC
        const char *name_space;
        const char *topic;   // "/tasks/exit", …
        const char *type;    // of the event: "containerd.events.TaskExit"
        const char *json;    // the event as one line of JSON; "{}" for a type that this library does not know
        const uint8_t *data; // the event as it came, protobuf of that type
        size_t data_bytes;
};
// Called in the thread that called skiff_events_subscribe. False: enough.
typedef bool (*skiff_event_fn)(void *data, const struct skiff_event *event);

// Blocks, and calls on_event for each event that one of the filters (containerd's grammar; NULL or empty: all, of every
// namespace) lets through, until on_event returns false: then true; or until the connection ends: then false.
bool skiff_events_subscribe(struct skiff_client *client, const char *const *filters, skiff_event_fn on_event,
        void *data, struct skiff_error **error);

#ifdef __cplusplus
}
#endif
