// SPDX-License-Identifier: Apache-2.0
//
// Events: published by services and shims, kept in the store where they must not be lost, handed to subscribers.
// An event is immutable and reference-counted. Threads: any.
#pragma once

#include "base/arena.h"
#include "base/auto.h"
#include "base/error.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

struct event {
        char *namespace_, *topic; // "default", "/tasks/exit"
        int64_t timestamp_ns;     // wall clock
        char *type_url;           // "containerd.events.TaskExit"
        uint8_t *value;           // the packed message
        size_t n_value;
        int n_references; // private
};

struct event *event_new(const char *namespace_, const char *topic, int64_t timestamp_ns, const char *type_url,
        const void *value, size_t n_value);
struct event *event_ref(struct event *event);
void event_unref(struct event *event);
DEFINE_AUTO(event, event_unref)

// Namespace (identifier), topic ("/" and components) and time as containerd wants them in an envelope;
// INVALID_ARGUMENT with its texts.
bool event_check(const struct event *event, GError **error);

// The fields of an event as containerd's filters name them: "namespace", "topic", "event.FIELD" for every string field
// of the known event types ("event.container_id", "event.labels.a.b"). The message is decoded at most once, on demand.
struct event_fields {
        const struct event *event;
        struct arena *arena; // private
        const ProtobufCMessage *message;
        bool decoded;
};
void event_fields_init(struct event_fields *fields, const struct event *event);
void event_fields_done(struct event_fields *fields);
// A filter_field (base/filter.h) on a struct event_fields. An empty field is an absent one. The value lives as long as
// fields.
const char *event_fields_get(void *fields, const char *const *path, size_t n_path, bool *ret_present);

// The descriptor of a known event type by its full name or type URL; NULL: not known.
const ProtobufCMessageDescriptor *event_type(const char *type_url);

// The instance of PLUGIN_EVENT "exchange".
struct event_exchange;
struct event_subscriber;
typedef bool (*event_record_fn)(void *data, struct event *event, GError **error);
struct event_exchange_ops {
        // Checks namespace (identifier) and topic ("/" and components); INVALID_ARGUMENT. Never waits for a subscriber.
        bool (*publish)(struct event_exchange *exchange, struct event *event, GError **error);
        // Calls on_event for each matching event from now on, one at a time, in order of publishing, on a FAST worker;
        // a subscriber that is slow gets a queue of its own, capped: past the cap it ends with RESOURCE_EXHAUSTED by
        // on_end. INVALID_ARGUMENT for bad filters.
        struct event_subscription *(*subscribe)(struct event_exchange *exchange, const char *const *filters,
                size_t n_filters, const struct event_subscriber *subscriber, void *data, GError **error);
        // No callback after this returned, except one that is running in another thread. on_free comes when none is
        // left.
        void (*unsubscribe)(struct event_exchange *exchange, struct event_subscription *subscription);
        // At most one, set before anything is published: called in the publisher's thread for each event that passed
        // the checks, before a subscriber can see it. False: the event is refused with that error. For events that
        // must be stored first (exits).
        void (*set_recorder)(struct event_exchange *exchange, event_record_fn record, void *data);
};
struct event_exchange {
        const struct event_exchange_ops *ops;
};
struct event_subscriber {
        // False: take a pause; event_subscription_resume goes on with the next one.
        bool (*on_event)(void *data, struct event *event);
        void (*on_end)(void *data, GError *error);
        void (*on_free)(void *data);
};
void event_subscription_resume(struct event_subscription *subscription);

// Packs message and publishes it with the time of now; failures are logged, as the deed that it tells of is done.
void event_publish(
        struct event_exchange *exchange, const char *namespace_, const char *topic, const ProtobufCMessage *message);
