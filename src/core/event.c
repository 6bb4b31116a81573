// SPDX-License-Identifier: Apache-2.0
//
// Events travel packed; only a filter that asks for "event.FIELD" makes us decode one. The known types are one table,
// and their fields are found by protobuf-c's descriptors: strings, maps of strings ("labels"; the rest of the path,
// joined by dots, is the key), nested messages and booleans. Numbers and times have no text form for filters, as in
// containerd.
#include "core/event.h"

#include "base/clock.h"
#include "base/filter.h"
#include "base/identifier.h"
#include "base/log.h"

#include "containerd/events.pb-c.h"
#include "containerd/images.pb-c.h"

#include <string.h>

// Larger than any event that we or a shim make; a message of this size expands to a bounded arena.
enum { MAX_EVENT_BYTES = 4 * 1024 * 1024 };

struct event *event_new(const char *namespace_, const char *topic, int64_t timestamp_ns, const char *type_url,
        const void *value, size_t n_value)
{
        struct event *event = g_new(struct event, 1);
        *event = (struct event){
                .namespace_ = g_strdup(namespace_),
                .topic = g_strdup(topic),
                .timestamp_ns = timestamp_ns,
                .type_url = g_strdup(type_url),
                .value = g_memdup2(value, n_value),
                .n_value = n_value,
                .n_references = 1,
        };
        return event;
}

struct event *event_ref(struct event *event)
{
        __atomic_add_fetch(&event->n_references, 1, __ATOMIC_RELAXED);
        return event;
}

void event_unref(struct event *event)
{
        if (event == NULL || __atomic_sub_fetch(&event->n_references, 1, __ATOMIC_ACQ_REL) != 0)
                return;
        g_free(event->namespace_);
        g_free(event->topic);
        g_free(event->type_url);
        g_free(event->value);
        g_free(event);
}

static bool check_topic(const char *topic, GError **error)
{
        if (topic[0] == '\0')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "must not be empty: invalid argument");
        if (topic[0] != '/')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "must start with '/': invalid argument");
        if (topic[1] == '\0')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "must have at least one component: invalid argument");
        g_auto(GStrv) components = g_strsplit(topic + 1, "/", -1);
        for (char **component = components; *component != NULL; component++)
                if (!identifier_validate(*component, error)) {
                        g_prefix_error(error, "failed validation on component \"%s\": ", *component);
                        return false;
                }
        return true;
}

bool event_check(const struct event *event, GError **error)
{
        if (!identifier_validate(event->namespace_, error)) {
                g_prefix_error(error, "event envelope has invalid namespace: ");
                return false;
        }
        if (!check_topic(event->topic, error)) {
                g_prefix_error(error, "envelope topic \"%s\": ", event->topic);
                return false;
        }
        return true;
}

const ProtobufCMessageDescriptor *event_type(const char *type_url)
{
        static const ProtobufCMessageDescriptor *const types[] = {
                &events__container_create__descriptor,
                &events__container_update__descriptor,
                &events__container_delete__descriptor,
                &events__content_create__descriptor,
                &events__content_delete__descriptor,
                &events__namespace_create__descriptor,
                &events__namespace_update__descriptor,
                &events__namespace_delete__descriptor,
                &events__sandbox_create__descriptor,
                &events__sandbox_start__descriptor,
                &events__sandbox_exit__descriptor,
                &events__snapshot_prepare__descriptor,
                &events__snapshot_commit__descriptor,
                &events__snapshot_remove__descriptor,
                &events__task_create__descriptor,
                &events__task_start__descriptor,
                &events__task_delete__descriptor,
                &events__task_exit__descriptor,
                &events__task_oom__descriptor,
                &events__task_exec_added__descriptor,
                &events__task_exec_started__descriptor,
                &events__task_paused__descriptor,
                &events__task_resumed__descriptor,
                &events__task_checkpointed__descriptor,
                &images__image_create__descriptor,
                &images__image_update__descriptor,
                &images__image_delete__descriptor,
        };
        const char *slash = strrchr(type_url, '/');
        const char *name = slash != NULL ? slash + 1 : type_url;
        for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
                if (g_str_equal(types[i]->name, name))
                        return types[i];
        return NULL;
}

void event_fields_init(struct event_fields *fields, const struct event *event)
{
        *fields = (struct event_fields){.event = event};
}

void event_fields_done(struct event_fields *fields)
{
        if (fields->arena != NULL)
                arena_free(fields->arena);
}

static void decode(struct event_fields *fields)
{
        fields->decoded = true;
        const ProtobufCMessageDescriptor *descriptor = event_type(fields->event->type_url);
        if (descriptor == NULL || fields->event->n_value > MAX_EVENT_BYTES)
                return;
        fields->arena = arena_new();
        fields->message = protobuf_c_message_unpack(
                descriptor, arena_allocator(fields->arena), fields->event->n_value, fields->event->value);
}

static const char *present_unless_empty(const char *text, bool *ret_present)
{
        *ret_present = text != NULL && text[0] != '\0';
        return text;
}

// An entry of a map of strings is a message with the fields "key" and "value"; of equal keys the last one counts.
static const char *get_entry(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *map,
        const char *const *path, size_t n_path, bool *ret_present)
{
        const ProtobufCFieldDescriptor *key = protobuf_c_message_descriptor_get_field_by_name(map->descriptor, "key");
        const ProtobufCFieldDescriptor *value =
                protobuf_c_message_descriptor_get_field_by_name(map->descriptor, "value");
        if (key == NULL || value == NULL || key->type != PROTOBUF_C_TYPE_STRING ||
                value->type != PROTOBUF_C_TYPE_STRING)
                return NULL;
        size_t n_entries = G_STRUCT_MEMBER(size_t, message, map->quantifier_offset);
        ProtobufCMessage *const *entries = G_STRUCT_MEMBER(ProtobufCMessage *const *, message, map->offset);
        for (size_t i = n_entries; i-- > 0;)
                if (filter_path_is(path, n_path, G_STRUCT_MEMBER(const char *, entries[i], key->offset))) {
                        *ret_present = true;
                        return G_STRUCT_MEMBER(const char *, entries[i], value->offset);
                }
        return NULL;
}

static const char *get_field(const ProtobufCMessage *message, const char *const *path, size_t n_path, bool *ret_present)
{
        if (n_path == 0 || message == NULL)
                return NULL;
        const ProtobufCFieldDescriptor *field =
                protobuf_c_message_descriptor_get_field_by_name(message->descriptor, path[0]);
        if (field == NULL)
                return NULL;
        const void *member = G_STRUCT_MEMBER_P(message, field->offset);
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
                return field->type == PROTOBUF_C_TYPE_MESSAGE
                               ? get_entry(message, field, path + 1, n_path - 1, ret_present)
                               : NULL;
        switch (field->type) {
        case PROTOBUF_C_TYPE_STRING:
                return present_unless_empty(*(const char *const *)member, ret_present);
        case PROTOBUF_C_TYPE_BOOL:
                *ret_present = true;
                return *(const protobuf_c_boolean *)member ? "true" : "false";
        case PROTOBUF_C_TYPE_MESSAGE:
                return get_field(*(const ProtobufCMessage *const *)member, path + 1, n_path - 1, ret_present);
        default:
                return NULL;
        }
}

const char *event_fields_get(void *object, const char *const *path, size_t n_path, bool *ret_present)
{
        struct event_fields *fields = object;
        if (g_str_equal(path[0], "namespace"))
                return present_unless_empty(fields->event->namespace_, ret_present);
        if (g_str_equal(path[0], "topic"))
                return present_unless_empty(fields->event->topic, ret_present);
        if (!g_str_equal(path[0], "event"))
                return NULL;
        if (!fields->decoded)
                decode(fields);
        return get_field(fields->message, path + 1, n_path - 1, ret_present);
}

void event_publish(
        struct event_exchange *exchange, const char *namespace_, const char *topic, const ProtobufCMessage *message)
{
        size_t n_value = protobuf_c_message_get_packed_size(message);
        g_autofree uint8_t *value = g_malloc(n_value);
        protobuf_c_message_pack(message, value);
        AUTO(event)
        event = event_new(namespace_, topic, clock_now_ns(), message->descriptor->name, value, n_value);
        g_autoptr(GError) error = NULL;
        if (!exchange->ops->publish(exchange, event, &error))
                log_error("error publishing event", "topic", topic, "ns", namespace_, "error", error->message);
}
