// SPDX-License-Identifier: Apache-2.0
//
// Named streams of the Streaming service. The first message names the stream, the daemon's first answer says that it is
// registered; only then may a Transfer refer to it. After byte_stream_free the callback is never called again: the end
// of the stream, which the cancellation brings, is waited for.
#include "client/internal.h"

#include "base/identifier.h"

#include "containerd/streaming.pb-c.h"

struct byte_stream {
        struct rpc_client_stream *rpc;
        byte_stream_fn fn;
        void *data;
        char *id;
        bool registered;       // loop
        struct waiter *opened; // registered, or ended
        struct waiter *ended;
        GError *error; // valid once ended
};

static void on_message(void *data, struct rpc_client_stream *rpc, const ProtobufCMessage *message)
{
        struct byte_stream *stream = data;
        if (stream->registered) {
                stream->fn(stream->data, (const Google__Protobuf__Any *)message);
                return;
        }
        stream->registered = true;
        waiter_signal(stream->opened);
}

static void on_end(void *data, struct rpc_client_stream *rpc, const GError *error)
{
        struct byte_stream *stream = data;
        if (error != NULL)
                stream->error = g_error_copy(error);
        if (stream->registered)
                stream->fn(stream->data, NULL);
        waiter_signal(stream->opened);
        waiter_signal(stream->ended);
}

static const struct rpc_client_stream_handler handler = {
        .on_message = on_message,
        .on_end = on_end,
};

struct byte_stream *byte_stream_open(
        struct skiff_client *client, const char *prefix, byte_stream_fn fn, void *data, GError **error)
{
        AUTO(arena) arena = arena_new();
        g_autofree char *random = identifier_random_hex(8);
        struct byte_stream *stream = g_new0(struct byte_stream, 1);
        stream->fn = fn;
        stream->data = data;
        stream->id = g_strdup_printf("%s-%s", prefix, random);
        stream->opened = waiter_new();
        stream->ended = waiter_new();

        Streaming__StreamInit init = STREAMING__STREAM_INIT__INIT;
        init.id = stream->id;
        const char *metadata[5];
        struct rpc_request request = client_request(client,
                CLIENT_METHOD("containerd.services.streaming.v1.Streaming", "Stream", google__protobuf__any), metadata,
                NULL);
        request.message = &client_pack_any(&init.base, arena)->base;
        stream->rpc = rpc_client_stream_open(client->rpc, &request, RPC_BIDI_STREAM, &handler, stream);
        waiter_wait(stream->opened, -1);
        // registered was written before the signal, and is not written again.
        if (stream->registered)
                return stream;
        if (stream->error != NULL)
                g_propagate_prefixed_error(error, g_steal_pointer(&stream->error), "open stream: ");
        else
                error_fail(error, ERROR_UNAVAILABLE, "open stream: the daemon ended it");
        byte_stream_free(stream);
        return NULL;
}

const char *byte_stream_id(const struct byte_stream *stream)
{
        return stream->id;
}

bool byte_stream_send(struct byte_stream *stream, const ProtobufCMessage *message)
{
        AUTO(arena) arena = arena_new();
        rpc_client_stream_send(stream->rpc, &client_pack_any(message, arena)->base);
        return !waiter_wait(stream->ended, 0);
}

void byte_stream_half_close(struct byte_stream *stream)
{
        rpc_client_stream_half_close(stream->rpc);
}

bool byte_stream_wait(struct byte_stream *stream, int timeout_ms)
{
        return waiter_wait(stream->ended, timeout_ms);
}

void byte_stream_free(struct byte_stream *stream)
{
        if (stream == NULL)
                return;
        if (!waiter_wait(stream->ended, 0))
                rpc_client_stream_cancel(stream->rpc);
        waiter_wait(stream->ended, -1);
        rpc_client_stream_unref(stream->rpc);
        waiter_free(stream->opened);
        waiter_free(stream->ended);
        g_clear_error(&stream->error);
        g_free(stream->id);
        g_free(stream);
}
