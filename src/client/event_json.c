// SPDX-License-Identifier: Apache-2.0
//
// Walks a message by its protobuf-c descriptor. Only what events contain is handled: no groups, no oneofs, and maps as
// the repeated entries that they are on the wire.
#include "client/event_json.h"

#include "base/arena.h"
#include "base/clock.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "containerd/events.pb-c.h"
#include "containerd/images.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

static const ProtobufCMessageDescriptor *const known[] = {
        &events__container_create__descriptor,
        &events__container_delete__descriptor,
        &events__container_update__descriptor,
        &events__content_create__descriptor,
        &events__content_delete__descriptor,
        &events__namespace_create__descriptor,
        &events__namespace_delete__descriptor,
        &events__namespace_update__descriptor,
        &events__sandbox_create__descriptor,
        &events__sandbox_exit__descriptor,
        &events__sandbox_start__descriptor,
        &events__snapshot_commit__descriptor,
        &events__snapshot_prepare__descriptor,
        &events__snapshot_remove__descriptor,
        &events__task_checkpointed__descriptor,
        &events__task_create__descriptor,
        &events__task_delete__descriptor,
        &events__task_exec_added__descriptor,
        &events__task_exec_started__descriptor,
        &events__task_exit__descriptor,
        &events__task_io__descriptor,
        &events__task_oom__descriptor,
        &events__task_paused__descriptor,
        &events__task_resumed__descriptor,
        &events__task_start__descriptor,
        &images__image_create__descriptor,
        &images__image_delete__descriptor,
        &images__image_update__descriptor,
};

static json_t *message_to_json(const ProtobufCMessage *message);

static json_t *time_to_json(const ProtobufCMessage *message)
{
        const Google__Protobuf__Timestamp *time = (const Google__Protobuf__Timestamp *)message;
        g_autofree char *text = clock_format_rfc3339(time->seconds * NS_PER_SECOND + time->nanos);
        return json_string(text);
}

static json_t *text_to_json(const char *text)
{
        json_t *json = text != NULL ? json_string(text) : NULL;
        return json != NULL ? json : json_string(""); // not UTF-8: the daemon refuses it, so it does not come
}

// NULL: not set.
static json_t *value_to_json(ProtobufCType type, const void *at)
{
        switch (type) {
        case PROTOBUF_C_TYPE_STRING:
                return **(char *const *)at == '\0' ? NULL : text_to_json(*(char *const *)at);
        case PROTOBUF_C_TYPE_MESSAGE:
                return *(ProtobufCMessage *const *)at == NULL ? NULL : message_to_json(*(ProtobufCMessage *const *)at);
        case PROTOBUF_C_TYPE_BOOL:
                return *(const protobuf_c_boolean *)at ? json_true() : NULL;
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_ENUM:
                return *(const int32_t *)at == 0 ? NULL : json_integer(*(const int32_t *)at);
        case PROTOBUF_C_TYPE_UINT32:
                return *(const uint32_t *)at == 0 ? NULL : json_integer(*(const uint32_t *)at);
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_UINT64:
                return *(const int64_t *)at == 0 ? NULL : json_integer(*(const int64_t *)at);
        default:
                return NULL; // bytes: options of a runtime, which are of no use as text
        }
}

// A map's entries as one object.
static json_t *map_to_json(ProtobufCMessage *const *entries, size_t n)
{
        json_t *object = json_object();
        for (size_t i = 0; i < n; i++) {
                const ProtobufCFieldDescriptor *fields = entries[i]->descriptor->fields;
                const char *key = *(char *const *)((const char *)entries[i] + fields[0].offset);
                const char *value = *(char *const *)((const char *)entries[i] + fields[1].offset);
                json_object_set_new(object, key, text_to_json(value));
        }
        return object;
}

static json_t *repeated_to_json(const ProtobufCFieldDescriptor *field, const void *items, size_t n)
{
        if (n == 0)
                return NULL;
        if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
                ProtobufCMessage *const *messages = items;
                if (g_str_has_suffix(messages[0]->descriptor->name, "Entry"))
                        return map_to_json(messages, n);
        }
        json_t *array = json_array();
        for (size_t i = 0; i < n; i++) {
                bool pointers = field->type == PROTOBUF_C_TYPE_MESSAGE || field->type == PROTOBUF_C_TYPE_STRING;
                json_t *item = pointers ? value_to_json(field->type, (void *const *)items + i) : NULL;
                if (item != NULL)
                        json_array_append_new(array, item);
        }
        return array;
}

static json_t *message_to_json(const ProtobufCMessage *message)
{
        if (message->descriptor == &google__protobuf__timestamp__descriptor)
                return time_to_json(message);
        json_t *object = json_object();
        for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
                const char *at = (const char *)message + field->offset;
                json_t *value;
                if (field->label == PROTOBUF_C_LABEL_REPEATED)
                        value = repeated_to_json(field, *(void *const *)at,
                                *(const size_t *)((const char *)message + field->quantifier_offset));
                else
                        value = value_to_json(field->type, at);
                if (value != NULL)
                        json_object_set_new(object, field->name, value);
        }
        return object;
}

char *event_to_json(const Google__Protobuf__Any *event)
{
        const char *slash = strrchr(event->type_url, '/');
        const char *name = slash != NULL ? slash + 1 : event->type_url;
        AUTO(arena) arena = arena_new();
        const ProtobufCMessage *message = NULL;
        for (size_t i = 0; i < G_N_ELEMENTS(known) && message == NULL; i++) {
                if (strcmp(known[i]->name, name) == 0)
                        message = protobuf_c_message_unpack(
                                known[i], arena_allocator(arena), event->value.len, event->value.data);
        }
        if (message == NULL)
                return g_strdup("{}");
        json_t *json = message_to_json(message);
        char *dumped = json_dumps(json, JSON_COMPACT);
        json_decref(json);
        char *text = g_strdup(dumped != NULL ? dumped : "{}");
        free(dumped);
        return text;
}
