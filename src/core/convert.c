// SPDX-License-Identifier: Apache-2.0
//
// protobuf-c makes a struct of its own for the entries of each map field; all of one kind of map look the same, which
// is what the casts here rest on.
#include "core/convert.h"

#include "base/clock.h"

#include "containerd/types.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

struct text_entry {
        ProtobufCMessage base;
        char *key, *value;
};

struct any_entry {
        ProtobufCMessage base;
        char *key;
        Google__Protobuf__Any *value;
};

void *labels_to_proto(
        const struct labels *labels, struct arena *arena, const ProtobufCMessageDescriptor *entry, size_t *ret_n)
{
        g_assert(entry->sizeof_message == sizeof(struct text_entry));
        *ret_n = labels->n;
        if (labels->n == 0)
                return NULL;
        struct text_entry **entries = arena_array(arena, struct text_entry *, labels->n);
        struct text_entry *items = arena_array(arena, struct text_entry, labels->n);
        for (size_t i = 0; i < labels->n; i++) {
                entry->message_init(&items[i].base);
                items[i].key = (char *)labels->items[i].key;
                items[i].value = (char *)labels->items[i].value;
                entries[i] = &items[i];
        }
        return entries;
}

struct labels labels_from_proto(const void *entries, size_t n, struct arena *arena)
{
        struct text_entry *const *items = entries;
        struct labels labels = {arena_array(arena, struct label, n), n};
        for (size_t i = 0; i < n; i++)
                labels.items[i] = (struct label){items[i]->key, items[i]->value != NULL ? items[i]->value : ""};
        labels_normalize(&labels);
        return labels;
}

Google__Protobuf__Timestamp *timestamp_to_proto(int64_t ns, struct arena *arena)
{
        Google__Protobuf__Timestamp *timestamp = arena_new0(arena, Google__Protobuf__Timestamp);
        google__protobuf__timestamp__init(timestamp);
        clock_split(ns, &timestamp->seconds, &timestamp->nanos);
        return timestamp;
}

int64_t timestamp_from_proto(const Google__Protobuf__Timestamp *timestamp)
{
        int64_t ns;
        if (timestamp == NULL)
                return 0;
        if (__builtin_mul_overflow(timestamp->seconds, NS_PER_SECOND, &ns) ||
                __builtin_add_overflow(ns, (int64_t)timestamp->nanos, &ns))
                return timestamp->seconds < 0 ? INT64_MIN : INT64_MAX;
        return ns;
}

Google__Protobuf__Any *any_to_proto(const struct any *any, struct arena *arena)
{
        if (any->type_url == NULL)
                return NULL;
        Google__Protobuf__Any *message = arena_new0(arena, Google__Protobuf__Any);
        google__protobuf__any__init(message);
        message->type_url = (char *)any->type_url;
        message->value = (ProtobufCBinaryData){any->n_value, (uint8_t *)any->value};
        return message;
}

struct any any_from_proto(const Google__Protobuf__Any *any)
{
        if (any == NULL)
                return (struct any){0};
        return (struct any){any->type_url, any->value.data, any->value.len};
}

void *extensions_to_proto(const struct extensions *extensions, struct arena *arena,
        const ProtobufCMessageDescriptor *entry, size_t *ret_n)
{
        g_assert(entry->sizeof_message == sizeof(struct any_entry));
        *ret_n = extensions->n;
        if (extensions->n == 0)
                return NULL;
        struct any_entry **entries = arena_array(arena, struct any_entry *, extensions->n);
        struct any_entry *items = arena_array(arena, struct any_entry, extensions->n);
        for (size_t i = 0; i < extensions->n; i++) {
                entry->message_init(&items[i].base);
                items[i].key = (char *)extensions->items[i].name;
                items[i].value = any_to_proto(&extensions->items[i].value, arena);
                entries[i] = &items[i];
        }
        return entries;
}

struct extensions extensions_from_proto(const void *entries, size_t n, struct arena *arena)
{
        struct any_entry *const *items = entries;
        struct extensions extensions = {arena_array(arena, struct extension, n), n};
        for (size_t i = 0; i < n; i++) {
                struct any value = any_from_proto(items[i]->value);
                if (value.type_url == NULL)
                        value.type_url = "";
                extensions.items[i] = (struct extension){items[i]->key, value};
        }
        return extensions;
}

Types__Mount **mounts_to_proto(const GPtrArray *mounts, struct arena *arena, size_t *ret_n)
{
        Types__Mount **list = arena_array(arena, Types__Mount *, mounts->len);
        for (guint i = 0; i < mounts->len; i++) {
                const struct mount *mount = mounts->pdata[i];
                list[i] = arena_new0(arena, Types__Mount);
                types__mount__init(list[i]);
                list[i]->type = mount->type;
                list[i]->source = mount->source;
                list[i]->target = mount->target;
                list[i]->options = mount->options;
                list[i]->n_options = g_strv_length(mount->options);
        }
        *ret_n = mounts->len;
        return list;
}

GPtrArray *mounts_from_proto(Types__Mount *const *mounts, size_t n)
{
        GPtrArray *list = mounts_new();
        for (size_t i = 0; i < n; i++) {
                g_autofree const char **options = g_new0(const char *, mounts[i]->n_options + 1);
                for (size_t k = 0; k < mounts[i]->n_options; k++)
                        options[k] = mounts[i]->options[k];
                g_ptr_array_add(list, mount_new(mounts[i]->type, mounts[i]->source, mounts[i]->target, options));
        }
        return list;
}
