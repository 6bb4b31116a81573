// SPDX-License-Identifier: Apache-2.0
//
// gRPC's length-prefixed messages in DATA frames. Receiving: what came in one piece is handed on, the rest is gathered.
// Windows: the bytes of a small message are given back when its handler is done with it, so a slow handler stops its
// client. A message of more than half a window could then never be completed (nghttp2 asks for more at half), so a
// large one reserves its length in the budgets, once all before it were handled, and from then on its bytes are given
// back as they come.
#include "rpc/h2.h"

#include <string.h>

enum { LARGE_MESSAGE_BYTES = H2_STREAM_WINDOW_BYTES / 2, FIRST_BUFFER_BYTES = 2048 };

// ---- receiving

bool h2_message_is_incomplete(const struct h2_stream *stream)
{
        return stream->prefix_filled > 0;
}

static void hold_partial(struct h2_stream *stream, size_t bytes)
{
        rpc_connection_hold_partial(&stream->connection->base, bytes);
}

static void release_partial(struct h2_stream *stream)
{
        if (stream->reserved)
                rpc_connection_release(&stream->connection->base, stream->length);
        else
                rpc_connection_release_partial(&stream->connection->base, stream->message_filled);
}

// Forgets the message that is being gathered.
void h2_message_drop(struct h2_stream *stream)
{
        release_partial(stream);
        if (stream->waiting)
                stream->connection->n_waiting--;
        g_clear_pointer(&stream->message, g_free);
        stream->message_filled = stream->message_allocated = 0;
        stream->prefix_filled = 0;
        stream->waiting = stream->reserved = false;
}

static void consume(struct h2_stream *stream, size_t bytes)
{
        if (bytes > 0)
                nghttp2_session_consume_stream(stream->connection->session, stream->id, bytes);
}

static void refuse(struct h2_stream *stream, GError *error)
{
        h2_message_drop(stream);
        rpc_exchange_abort(stream->exchange, error);
        stream->deaf = true;
}

static bool check_prefix(struct h2_stream *stream, GError **error)
{
        const struct h2_connection *connection = stream->connection;
        uint8_t format = stream->prefix[0];
        size_t max = connection->base.max_message_bytes;
        if (stream->length > max)
                return error_fail(error, ERROR_RESOURCE_EXHAUSTED,
                        "grpc: received message larger than max (%u vs. %zu)", stream->length, max);
        if (format == 1)
                return error_fail(error, ERROR_INTERNAL, "grpc: compressed flag set with identity or empty encoding");
        if (format > 1)
                return error_fail(error, ERROR_INTERNAL, "grpc: received unexpected payload format %u", format);
        return true;
}

// True: the large message may go on.
static bool try_reserve(struct h2_stream *stream)
{
        if (stream->unhandled_bytes > 0 || !rpc_connection_reserve(&stream->connection->base, stream->length))
                return false;
        rpc_connection_release_partial(&stream->connection->base, stream->message_filled);
        stream->reserved = true;
        stream->waiting = false;
        stream->connection->n_waiting--;
        consume(stream, H2_PREFIX_BYTES + stream->message_filled);
        return true;
}

// bytes: the whole message; NULL: it was gathered.
static void deliver(struct h2_stream *stream, const uint8_t *bytes)
{
        size_t wire_bytes = H2_PREFIX_BYTES + stream->length;
        stream->unhandled_bytes += wire_bytes;
        if (stream->reserved)
                stream->prepaid_bytes += wire_bytes;
        struct rpc_in *message = g_steal_pointer(&stream->message);
        h2_message_drop(stream);
        if (bytes != NULL) {
                rpc_exchange_receive(stream->exchange, bytes, stream->length, wire_bytes);
        } else {
                message->length = stream->length;
                rpc_exchange_receive_gathered(stream->exchange, message, wire_bytes);
        }
}

static size_t take_prefix(struct h2_stream *stream, const uint8_t *bytes, size_t length)
{
        size_t taken = MIN(length, H2_PREFIX_BYTES - stream->prefix_filled);
        memcpy(stream->prefix + stream->prefix_filled, bytes, taken);
        stream->prefix_filled += (unsigned)taken;
        if (stream->prefix_filled < H2_PREFIX_BYTES)
                return taken;
        const uint8_t *prefix = stream->prefix;
        stream->length = (uint32_t)prefix[1] << 24 | (uint32_t)prefix[2] << 16 | (uint32_t)prefix[3] << 8 | prefix[4];
        GError *error = NULL;
        if (!check_prefix(stream, &error)) {
                refuse(stream, error);
        } else if (stream->length > LARGE_MESSAGE_BYTES) {
                stream->waiting = true;
                stream->connection->n_waiting++;
                try_reserve(stream);
        }
        return taken;
}

static void gather(struct h2_stream *stream, const uint8_t *bytes, size_t length)
{
        size_t needed = stream->message_filled + length;
        if (needed > stream->message_allocated) {
                size_t grown = MAX(MAX(needed, FIRST_BUFFER_BYTES), 2 * stream->message_allocated);
                stream->message_allocated = MIN(grown, stream->length);
                stream->message = g_realloc(stream->message, sizeof *stream->message + stream->message_allocated);
        }
        memcpy(stream->message->bytes + stream->message_filled, bytes, length);
        stream->message_filled += length;
        if (stream->reserved) {
                consume(stream, length);
                return;
        }
        hold_partial(stream, length);
        if (rpc_connection_is_partial_full(&stream->connection->base)) {
                GError *error = NULL;
                error_fail(&error, ERROR_RESOURCE_EXHAUSTED, "grpc: too many incomplete messages");
                refuse(stream, error);
        }
}

void h2_message_receive(struct h2_stream *stream, const uint8_t *bytes, size_t length)
{
        while (length > 0 || (stream->prefix_filled == H2_PREFIX_BYTES && stream->length == 0)) {
                if (stream->exchange == NULL || stream->deaf) {
                        consume(stream, length);
                        return;
                }
                if (stream->prefix_filled < H2_PREFIX_BYTES) {
                        size_t taken = take_prefix(stream, bytes, length);
                        bytes += taken;
                        length -= taken;
                        continue;
                }
                size_t missing = stream->length - stream->message_filled;
                size_t taken = MIN(length, missing);
                if (stream->message_filled == 0 && taken == missing) {
                        if (stream->reserved)
                                consume(stream, taken);
                        deliver(stream, bytes);
                } else {
                        gather(stream, bytes, taken);
                        if (!stream->deaf && stream->message_filled == stream->length && taken == missing)
                                deliver(stream, NULL);
                }
                bytes += taken;
                length -= taken;
        }
}

void h2_message_give_back(struct h2_stream *stream)
{
        size_t handled = rpc_exchange_take_handled(stream->exchange);
        stream->unhandled_bytes -= MIN(handled, stream->unhandled_bytes);
        size_t prepaid = MIN(handled, stream->prepaid_bytes);
        stream->prepaid_bytes -= prepaid;
        consume(stream, handled - prepaid);
        if (stream->waiting && !stream->deaf)
                try_reserve(stream);
}

void h2_message_retry_waiting(struct h2_connection *connection)
{
        for (struct h2_stream *stream = connection->streams; stream != NULL && connection->n_waiting > 0;
                stream = stream->next)
                if (stream->waiting && stream->exchange != NULL && !try_reserve(stream) && stream->unhandled_bytes == 0)
                        return; // no budget: nor for the others
}

// ---- sending

static void write_prefix(struct rpc_out *out)
{
        uint8_t *prefix = out->bytes + RPC_HEADER_ROOM - H2_PREFIX_BYTES;
        uint32_t length = (uint32_t)out->length;
        prefix[0] = 0;
        prefix[1] = (uint8_t)(length >> 24);
        prefix[2] = (uint8_t)(length >> 16);
        prefix[3] = (uint8_t)(length >> 8);
        prefix[4] = (uint8_t)length;
}

// Fills one DATA frame, with several messages if they are small.
static ssize_t read_messages(nghttp2_session *session, int32_t stream_id, uint8_t *buffer, size_t size, uint32_t *flags,
        nghttp2_data_source *source, void *user_data)
{
        struct h2_stream *stream = source->ptr;
        size_t filled = 0;
        while (filled < size) {
                if (stream->out == NULL && stream->exchange != NULL) {
                        stream->out = rpc_exchange_take_out(stream->exchange);
                        stream->out_offset = 0;
                        if (stream->out != NULL)
                                write_prefix(stream->out);
                }
                struct rpc_out *out = stream->out;
                if (out == NULL)
                        break;
                size_t taken = MIN(size - filled, H2_PREFIX_BYTES + out->length - stream->out_offset);
                memcpy(buffer + filled, out->bytes + RPC_HEADER_ROOM - H2_PREFIX_BYTES + stream->out_offset, taken);
                filled += taken;
                stream->out_offset += taken;
                if (stream->out_offset == H2_PREFIX_BYTES + out->length)
                        g_clear_pointer(&stream->out, g_free);
        }
        if (stream->out == NULL && (stream->exchange == NULL || rpc_exchange_is_sent(stream->exchange))) {
                if (stream->connection->side->on_sent(stream, flags) != 0)
                        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
                return (ssize_t)filled;
        }
        return filled == 0 ? NGHTTP2_ERR_DEFERRED : (ssize_t)filled;
}

nghttp2_data_provider h2_message_provider(struct h2_stream *stream)
{
        return (nghttp2_data_provider){.source.ptr = stream, .read_callback = read_messages};
}
