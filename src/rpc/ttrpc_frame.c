// SPDX-License-Identifier: Apache-2.0
//
// A frame is a header of ten bytes and a body. One that comes whole in one piece of input, as nearly all do, is handed
// on where it lies; only a body that is cut by the end of the input is collected. A body past the limit is counted
// down and dropped, and the frame is reported once its last byte has gone by, so that answers keep their order.
#include "rpc/ttrpc_frame.h"

#include <string.h>

static uint32_t read_u32(const uint8_t *p)
{
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void write_u32(uint8_t *p, uint32_t value)
{
        p[0] = (uint8_t)(value >> 24);
        p[1] = (uint8_t)(value >> 16);
        p[2] = (uint8_t)(value >> 8);
        p[3] = (uint8_t)value;
}

void ttrpc_pack_header(uint8_t header[TTRPC_HEADER_BYTES], const struct ttrpc_frame *frame)
{
        write_u32(header, (uint32_t)frame->n_data);
        write_u32(header + 4, frame->stream);
        header[8] = frame->type;
        header[9] = frame->flags;
}

void ttrpc_reader_init(struct ttrpc_reader *reader, size_t max_data_bytes)
{
        *reader = (struct ttrpc_reader){.max_data_bytes = max_data_bytes};
}

void ttrpc_reader_done(struct ttrpc_reader *reader)
{
        if (reader->body != NULL)
                g_byte_array_unref(reader->body);
        reader->body = NULL;
}

static bool deliver(struct ttrpc_reader *reader, const uint8_t *body, ttrpc_frame_fn fn, void *data)
{
        size_t n_data = read_u32(reader->header);
        struct ttrpc_frame frame = {
                .stream = read_u32(reader->header + 4),
                .type = reader->header[8],
                .flags = reader->header[9],
                .data = body,
                .n_data = n_data,
                .oversize = n_data > reader->max_data_bytes,
        };
        reader->n_header = 0;
        return fn(data, &frame);
}

// The header is complete. Returns how many of the bytes belong to the body.
static bool take_body(struct ttrpc_reader *reader, const uint8_t *bytes, size_t *n_bytes, ttrpc_frame_fn fn, void *data)
{
        size_t n_taken = MIN(*n_bytes, reader->n_missing);
        bool whole = reader->body == NULL && n_taken == read_u32(reader->header);
        *n_bytes = n_taken;
        reader->n_missing -= n_taken;
        if (read_u32(reader->header) > reader->max_data_bytes)
                return reader->n_missing > 0 || deliver(reader, NULL, fn, data);
        if (whole)
                return deliver(reader, bytes, fn, data);
        if (reader->body == NULL)
                reader->body = g_byte_array_new();
        g_byte_array_append(reader->body, bytes, (guint)n_taken);
        if (reader->n_missing > 0)
                return true;
        g_autoptr(GByteArray) body = g_steal_pointer(&reader->body);
        return deliver(reader, body->data, fn, data);
}

bool ttrpc_reader_feed(struct ttrpc_reader *reader, const uint8_t *bytes, size_t n_bytes, ttrpc_frame_fn fn, void *data)
{
        while (n_bytes > 0) {
                if (reader->n_header < TTRPC_HEADER_BYTES) {
                        size_t n_taken = MIN(n_bytes, TTRPC_HEADER_BYTES - reader->n_header);
                        memcpy(reader->header + reader->n_header, bytes, n_taken);
                        reader->n_header += n_taken;
                        bytes += n_taken;
                        n_bytes -= n_taken;
                        if (reader->n_header < TTRPC_HEADER_BYTES)
                                return true;
                        reader->n_missing = read_u32(reader->header);
                        if (reader->n_missing > 0)
                                continue;
                }
                size_t n_taken = n_bytes;
                if (!take_body(reader, bytes, &n_taken, fn, data))
                        return false;
                bytes += n_taken;
                n_bytes -= n_taken;
        }
        return true;
}
