// SPDX-License-Identifier: Apache-2.0
//
// Two things that protobuf-c leaves to its users: strings must be UTF-8 (a Go peer refuses others, so must we), and a
// message of a few million empty sub-messages, two bytes each, would become gigabytes of structs: the allocator refuses
// what goes past a limit that grows with the message.
#include "base/message.h"

enum { GROWTH_FACTOR = 16, EXTRA_BYTES = 256 * 1024 };

struct limited {
        struct arena *arena;
        size_t left;
        bool hit;
};

static void *limited_alloc(void *data, size_t size)
{
        struct limited *limited = data;
        if (size > limited->left) {
                limited->hit = true;
                return NULL;
        }
        limited->left -= size;
        return arena_alloc(limited->arena, size);
}

static void limited_free(void *data, void *pointer)
{
}

static bool is_text(const char *text)
{
        return text == NULL || g_utf8_validate(text, -1, NULL);
}

static bool strings_are_utf8(const ProtobufCMessage *message);

static bool field_is_utf8(const ProtobufCFieldDescriptor *field, const void *member, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                if (field->type == PROTOBUF_C_TYPE_STRING && !is_text(((char *const *)member)[i]))
                        return false;
                const ProtobufCMessage *sub =
                        field->type == PROTOBUF_C_TYPE_MESSAGE ? ((ProtobufCMessage *const *)member)[i] : NULL;
                if (sub != NULL && !strings_are_utf8(sub))
                        return false;
        }
        return true;
}

static bool strings_are_utf8(const ProtobufCMessage *message)
{
        const ProtobufCMessageDescriptor *descriptor = message->descriptor;
        for (unsigned i = 0; i < descriptor->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
                if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE)
                        continue;
                const char *base = (const char *)message;
                const void *member = base + field->offset;
                size_t n = 1;
                if (field->label == PROTOBUF_C_LABEL_REPEATED) {
                        n = *(const size_t *)(base + field->quantifier_offset);
                        member = *(void *const *)member;
                } else if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
                           *(const uint32_t *)(base + field->quantifier_offset) != field->id) {
                        continue;
                }
                if (!field_is_utf8(field, member, n))
                        return false;
        }
        return true;
}

const ProtobufCMessage *message_decode(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes,
        size_t length, struct arena *arena, GError **error)
{
        struct limited limited = {arena, length * GROWTH_FACTOR + EXTRA_BYTES, false};
        ProtobufCAllocator allocator = {limited_alloc, limited_free, &limited};
        const ProtobufCMessage *message =
                protobuf_c_message_unpack(descriptor, &allocator, length, length == 0 ? (const uint8_t *)"" : bytes);
        if (message == NULL && limited.hit)
                error_fail(error, ERROR_RESOURCE_EXHAUSTED, "message of %zu bytes holds too many fields", length);
        else if (message == NULL)
                error_fail(error, ERROR_INTERNAL, "proto: cannot parse invalid wire-format data");
        else if (strings_are_utf8(message))
                return message;
        else
                error_fail(error, ERROR_INTERNAL, "string field contains invalid UTF-8");
        return NULL;
}
