// SPDX-License-Identifier: Apache-2.0
// Every message of every .proto, with all fields filled in, survives packing and unpacking. Messages are built through
// their descriptors, as codec code does; nested messages are filled two levels deep, so that recursion ends.
#include "proto_test.h"

#include <glib.h>
#include <stdbool.h>
#include <string.h>

static ProtobufCMessage *make_message(const ProtobufCMessageDescriptor *desc, int depth);

static void *allocate(void *data, size_t size)
{
        return g_malloc0(size);
}

static void release(void *data, void *pointer)
{
        g_free(pointer);
}

static ProtobufCAllocator allocator = {.alloc = allocate, .free = release};

static size_t type_size(ProtobufCType type)
{
        switch (type) {
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
        case PROTOBUF_C_TYPE_DOUBLE:
                return 8;
        case PROTOBUF_C_TYPE_STRING:
        case PROTOBUF_C_TYPE_MESSAGE:
                return sizeof(void *);
        case PROTOBUF_C_TYPE_BYTES:
                return sizeof(ProtobufCBinaryData);
        case PROTOBUF_C_TYPE_BOOL:
                return sizeof(protobuf_c_boolean);
        default:
                return 4;
        }
}

static void fill_value(const ProtobufCFieldDescriptor *field, void *member, int depth)
{
        switch (field->type) {
        case PROTOBUF_C_TYPE_STRING:
                *(char **)member = g_strdup(field->name);
                break;
        case PROTOBUF_C_TYPE_MESSAGE:
                *(ProtobufCMessage **)member = make_message(field->descriptor, depth - 1);
                break;
        case PROTOBUF_C_TYPE_BYTES:
                *(ProtobufCBinaryData *)member = (ProtobufCBinaryData){3, g_memdup2("a\0b", 3)};
                break;
        case PROTOBUF_C_TYPE_BOOL:
                *(protobuf_c_boolean *)member = TRUE;
                break;
        case PROTOBUF_C_TYPE_DOUBLE:
                *(double *)member = 0.25;
                break;
        case PROTOBUF_C_TYPE_ENUM: {
                const ProtobufCEnumDescriptor *values = field->descriptor;
                *(int *)member = values->values[values->n_values - 1].value;
                break;
        }
        default:
                memset(member, 0x7e, type_size(field->type));
        }
}

static ProtobufCMessage *make_message(const ProtobufCMessageDescriptor *desc, int depth)
{
        ProtobufCMessage *message = g_malloc0(desc->sizeof_message);

        protobuf_c_message_init(desc, message);
        for (unsigned i = 0; i < desc->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = &desc->fields[i];
                void *member = (char *)message + field->offset;
                void *quantifier = (char *)message + field->quantifier_offset;

                bool oneof = field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
                if ((field->type == PROTOBUF_C_TYPE_MESSAGE && depth == 0) || (oneof && *(uint32_t *)quantifier != 0))
                        continue;
                if (field->label == PROTOBUF_C_LABEL_REPEATED) {
                        size_t size = type_size(field->type);
                        char *items = g_malloc0(2 * size);

                        fill_value(field, items, depth);
                        fill_value(field, items + size, depth);
                        *(void **)member = items;
                        *(size_t *)quantifier = 2;
                        continue;
                }
                fill_value(field, member, depth);
                if (oneof)
                        *(uint32_t *)quantifier = field->id;
        }
        return message;
}

static uint8_t *pack(const ProtobufCMessage *message, size_t *ret_size)
{
        size_t size = protobuf_c_message_get_packed_size(message);
        uint8_t *bytes = g_malloc(size + 1);

        g_assert_cmpuint(protobuf_c_message_pack(message, bytes), ==, size);
        *ret_size = size;
        return bytes;
}

static void test_round_trip(void)
{
        unsigned count = 0;

        for (const ProtobufCMessageDescriptor *const *desc = proto_test_messages; *desc; desc++, count++) {
                ProtobufCMessage *message = make_message(*desc, 2), *copy;
                g_autofree uint8_t *bytes = NULL, *again = NULL;
                size_t size, again_size;

                g_assert_true(protobuf_c_message_check(message));
                bytes = pack(message, &size);
                copy = protobuf_c_message_unpack(*desc, &allocator, size, bytes);
                g_assert_nonnull(copy);
                again = pack(copy, &again_size);
                g_assert_cmpmem(bytes, size, again, again_size);
                if ((*desc)->n_fields > 0)
                        g_assert_cmpuint(size, >, 0);
                protobuf_c_message_free_unpacked(message, &allocator);
                protobuf_c_message_free_unpacked(copy, &allocator);
        }
        g_test_message("%u messages", count);
        g_assert_cmpuint(count, >, 600);
}

static void test_unknown_fields_are_kept(void)
{
        static const uint8_t unknown[] = {0xfa, 0x3f, 2, 'h', 'i'}; // field 1023, two bytes

        for (const ProtobufCMessageDescriptor *const *desc = proto_test_messages; *desc; desc++) {
                ProtobufCMessage *message = protobuf_c_message_unpack(*desc, &allocator, sizeof unknown, unknown);
                g_autofree uint8_t *bytes = NULL;
                size_t size;

                g_assert_nonnull(message);
                bytes = pack(message, &size);
                g_assert_cmpmem(bytes, size, unknown, sizeof unknown);
                protobuf_c_message_free_unpacked(message, &allocator);
        }
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/proto/round_trip", test_round_trip);
        g_test_add_func("/proto/unknown_fields_are_kept", test_unknown_fields_are_kept);
        return g_test_run();
}
