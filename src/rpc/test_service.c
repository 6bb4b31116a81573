// SPDX-License-Identifier: Apache-2.0
//
// See test_service.h. A held call is answered from its cancel token's watcher, which owns nothing but the call's
// reference: as services keep calls for later. It says of itself that it waits for what its request names.
#include "rpc/test_service.h"

#include "google/protobuf/any.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LARGE = 64 * 1024 * 1024 };

static const Google__Protobuf__Any *any_of(const ProtobufCMessage *message)
{
        return (const Google__Protobuf__Any *)message;
}

static Google__Protobuf__Any any(const char *text, const void *bytes, size_t length)
{
        Google__Protobuf__Any message = GOOGLE__PROTOBUF__ANY__INIT;
        message.type_url = (char *)text;
        message.value.data = (uint8_t *)bytes;
        message.value.len = length;
        return message;
}

// ---- unary

static void on_echo(struct rpc_call *call, void *object)
{
        rpc_call_reply(call, rpc_call_request(call));
}

static void on_fail(struct rpc_call *call, void *object)
{
        const Google__Protobuf__Any *request = any_of(rpc_call_request(call));
        g_autofree char *digits = g_strdup_printf("%.*s", (int)request->value.len, request->value.data);
        int code = CLAMP(atoi(digits), ERROR_CANCELED, ERROR_UNAUTHENTICATED);
        rpc_call_fail(call, g_error_new(SKIFF_ERROR, code, "%s", request->type_url));
}

static void on_detail(struct rpc_call *call, void *object)
{
        Google__Protobuf__Any *details[] = {(Google__Protobuf__Any *)rpc_call_request(call)};
        rpc_call_fail_with_details(call, g_error_new_literal(SKIFF_ERROR, ERROR_ABORTED, "see details"), details, 1);
}

struct held {
        struct rpc_call *call;
        struct cancel_note note;
};

static void on_held_cancelled(void *data)
{
        struct held *held = data;
        cancel_note_clear(&held->note);
        rpc_call_fail(held->call, g_error_new_literal(SKIFF_ERROR, ERROR_CANCELED, "context canceled"));
}

static void on_hold(struct rpc_call *call, void *object)
{
        struct test_service *service = object;
        const char *what = any_of(rpc_call_request(call))->type_url;
        AUTO(cancel) cancel = cancel_ref(rpc_call_cancel(call));
        struct held *held = arena_new0(rpc_call_arena(call), struct held);
        held->call = call;
        if (*what != 0)
                cancel_note_set(&held->note, cancel, "%s", what);
        atomic_fetch_add(&service->n_held, 1);
        cancel_watch(cancel, on_held_cancelled, held);
}

static void on_keep(struct rpc_call *call, void *object)
{
        atomic_store(&((struct test_service *)object)->kept, call);
}

static void on_large(struct rpc_call *call, void *object)
{
        size_t length = MIN(strtoul(any_of(rpc_call_request(call))->type_url, NULL, 10), MAX_LARGE);
        g_autofree char *bytes = g_malloc0(length);
        Google__Protobuf__Any response = any("", bytes, length);
        rpc_call_reply(call, &response.base);
}

static void on_metadata(struct rpc_call *call, void *object)
{
        const char *value = rpc_call_metadata(call, any_of(rpc_call_request(call))->type_url);
        Google__Protobuf__Any response = any("", value, value == NULL ? 0 : strlen(value));
        rpc_call_reply(call, &response.base);
}

// ---- streams

struct state {
        struct test_service *service;
        struct rpc_stream *stream;
        unsigned long left, n_messages, n_bytes;
        char *bytes;
        size_t length;
};

static void *on_open(struct rpc_stream *stream, void *object)
{
        struct state *state = g_new0(struct state, 1);
        state->service = object;
        state->stream = stream;
        atomic_fetch_add(&state->service->n_opened, 1);
        return state;
}

static void on_cancel(void *data, struct rpc_stream *stream)
{
        struct state *state = data;
        atomic_fetch_add(&state->service->n_cancelled, 1);
}

static void on_close(void *data)
{
        struct state *state = data;
        atomic_fetch_add(&state->service->n_closed, 1);
        g_free(state->bytes);
        g_free(state);
}

static void count_on(void *data, struct rpc_stream *stream)
{
        struct state *state = data;
        Google__Protobuf__Any response = any("", state->bytes, state->length);
        bool room = true;
        while (state->left > 0 && room) {
                state->left--;
                atomic_fetch_add(&state->service->n_sent, 1);
                room = rpc_stream_send(stream, &response.base);
        }
        if (state->left == 0)
                rpc_stream_finish(stream, NULL);
}

static void on_count_message(void *data, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        struct state *state = data;
        const Google__Protobuf__Any *request = any_of(message);
        state->left = strtoul(request->type_url, NULL, 10);
        state->length = request->value.len;
        state->bytes = g_memdup2(request->value.data, request->value.len);
        count_on(state, stream);
}

static void on_sum_message(void *data, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        struct state *state = data;
        state->n_messages++;
        state->n_bytes += any_of(message)->value.len;
}

static void on_sum_half_close(void *data, struct rpc_stream *stream)
{
        struct state *state = data;
        g_autofree char *text = g_strdup_printf("%lu %lu", state->n_messages, state->n_bytes);
        Google__Protobuf__Any response = any(text, NULL, 0);
        rpc_stream_send(stream, &response.base);
        rpc_stream_finish(stream, NULL);
}

static void *on_chat_open(struct rpc_stream *stream, void *object)
{
        struct state *state = on_open(stream, object);
        if (atomic_load(&state->service->refuse))
                rpc_stream_finish(stream, g_error_new_literal(SKIFF_ERROR, ERROR_PERMISSION_DENIED, "refused"));
        return state;
}

static void on_chat_message(void *data, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        if (strcmp(any_of(message)->type_url, "bad") == 0)
                rpc_stream_finish(stream, g_error_new_literal(SKIFF_ERROR, ERROR_ABORTED, "bad message"));
        else if (!rpc_stream_send(stream, message))
                rpc_stream_pause(stream);
}

static void on_chat_writable(void *data, struct rpc_stream *stream)
{
        rpc_stream_resume(stream);
}

static void on_chat_half_close(void *data, struct rpc_stream *stream)
{
        rpc_stream_finish(stream, NULL);
}

static void *on_stuck_open(struct rpc_stream *stream, void *object)
{
        rpc_stream_pause(stream);
        return on_open(stream, object);
}

static const struct rpc_stream_handler count = {
        .open = on_open,
        .on_message = on_count_message,
        .on_writable = count_on,
        .on_cancel = on_cancel,
        .close = on_close,
};
static const struct rpc_stream_handler sum = {
        .open = on_open,
        .on_message = on_sum_message,
        .on_half_close = on_sum_half_close,
        .on_cancel = on_cancel,
        .close = on_close,
};
static const struct rpc_stream_handler chat = {
        .open = on_chat_open,
        .on_message = on_chat_message,
        .on_half_close = on_chat_half_close,
        .on_writable = on_chat_writable,
        .on_cancel = on_cancel,
        .close = on_close,
};
static const struct rpc_stream_handler stuck = {
        .open = on_stuck_open,
        .on_message = on_sum_message,
        .on_cancel = on_cancel,
        .close = on_close,
};

#define UNARY(name, ...) RPC_METHOD_UNARY(name, LANE_FAST, google__protobuf__any, google__protobuf__any, __VA_ARGS__)
#define STREAM(name, kind, handler)                                                                                    \
        RPC_METHOD_STREAM(name, kind, LANE_FAST, google__protobuf__any, google__protobuf__any, handler)
static const struct rpc_method methods[] = {
        UNARY("Echo", on_echo),
        UNARY("Fail", on_fail),
        UNARY("Detail", on_detail),
        UNARY("Hold", on_hold),
        UNARY("Brief", on_hold, .limit_ms = TEST_SERVICE_BRIEF_MS),
        UNARY("Keep", on_keep),
        UNARY("Large", on_large, .limit_ms = 60000),
        UNARY("Metadata", on_metadata),
        STREAM("Count", RPC_SERVER_STREAM, &count),
        STREAM("Sum", RPC_CLIENT_STREAM, &sum),
        STREAM("Chat", RPC_BIDI_STREAM, &chat),
        STREAM("Stuck", RPC_CLIENT_STREAM, &stuck),
};
const struct rpc_service test_service = {"skiff.test.Service", methods, G_N_ELEMENTS(methods)};
