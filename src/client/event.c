// SPDX-License-Identifier: Apache-2.0
//
// Subscribe: the loop's thread queues what comes, the caller's takes it, so that a slow consumer delays no other call.
// A subscriber that falls behind by more than a bound stops the stream's flow until it has caught up.
#include "client/event_json.h"
#include "client/internal.h"

#include <skiff/event.h>

#include "containerd/events_api.pb-c.h"

enum { HIGH_MARK = 1000, LOW_MARK = 100 };

struct subscription {
        struct rpc_client_stream *stream;
        uv_mutex_t mutex;
        uv_cond_t changed;
        GQueue events; // under mutex, as all below: GBytes, packed envelopes
        bool paused, ended;
        GError *error;
};

static void on_message(void *data, struct rpc_client_stream *stream, const ProtobufCMessage *message)
{
        struct subscription *subscription = data;
        size_t n = protobuf_c_message_get_packed_size(message);
        uint8_t *bytes = g_malloc(n + 1);
        protobuf_c_message_pack(message, bytes);
        uv_mutex_lock(&subscription->mutex);
        g_queue_push_tail(&subscription->events, g_bytes_new_take(bytes, n));
        bool pause = !subscription->paused && subscription->events.length >= HIGH_MARK;
        subscription->paused |= pause;
        uv_cond_broadcast(&subscription->changed);
        uv_mutex_unlock(&subscription->mutex);
        if (pause)
                rpc_client_stream_pause(stream);
}

static void on_end(void *data, struct rpc_client_stream *stream, const GError *error)
{
        struct subscription *subscription = data;
        uv_mutex_lock(&subscription->mutex);
        subscription->ended = true;
        if (error != NULL)
                subscription->error = g_error_copy(error);
        uv_cond_broadcast(&subscription->changed);
        uv_mutex_unlock(&subscription->mutex);
}

static const struct rpc_client_stream_handler handler = {
        .on_message = on_message,
        .on_end = on_end,
};

// NULL: the stream has ended.
static GBytes *next_event(struct subscription *subscription)
{
        uv_mutex_lock(&subscription->mutex);
        while (g_queue_is_empty(&subscription->events) && !subscription->ended)
                uv_cond_wait(&subscription->changed, &subscription->mutex);
        GBytes *event = g_queue_pop_head(&subscription->events);
        bool resume = subscription->paused && subscription->events.length <= LOW_MARK;
        subscription->paused &= !resume;
        uv_mutex_unlock(&subscription->mutex);
        if (resume)
                rpc_client_stream_resume(subscription->stream);
        return event;
}

static bool deliver(GBytes *bytes, skiff_event_fn on_event, void *data)
{
        AUTO(arena) arena = arena_new();
        size_t n;
        const uint8_t *packed = g_bytes_get_data(bytes, &n);
        const Types__Envelope *envelope = types__envelope__unpack(arena_allocator(arena), n, packed);
        if (envelope == NULL)
                return true;
        static const Google__Protobuf__Any none = GOOGLE__PROTOBUF__ANY__INIT;
        const Google__Protobuf__Any *any = envelope->event != NULL ? envelope->event : &none;
        g_autofree char *json = event_to_json(any);
        struct skiff_event event = {
                .at_ns = client_time_ns(envelope->timestamp),
                .name_space = envelope->namespace_,
                .topic = envelope->topic,
                .type = any->type_url,
                .json = json,
                .data = any->value.data,
                .data_bytes = any->value.len,
        };
        return on_event(data, &event);
}

bool skiff_events_subscribe(struct skiff_client *client, const char *const *filters, skiff_event_fn on_event,
        void *data, struct skiff_error **error)
{
        EventsApi__SubscribeRequest message = EVENTS_API__SUBSCRIBE_REQUEST__INIT;
        message.filters = (char **)filters;
        message.n_filters = filters != NULL ? g_strv_length((char **)filters) : 0;
        const char *metadata[5];
        struct rpc_request request = client_request(client,
                CLIENT_METHOD("containerd.services.events.v1.Events", "Subscribe", types__envelope), metadata, NULL);
        request.message = &message.base;
        struct subscription subscription = {.events = G_QUEUE_INIT};
        g_assert(uv_mutex_init(&subscription.mutex) == 0);
        g_assert(uv_cond_init(&subscription.changed) == 0);
        subscription.stream = rpc_client_stream_open(client->rpc, &request, RPC_SERVER_STREAM, &handler, &subscription);

        bool enough = false;
        GBytes *event;
        while (!enough && (event = next_event(&subscription)) != NULL) {
                enough = !deliver(event, on_event, data);
                g_bytes_unref(event);
        }
        rpc_client_stream_cancel(subscription.stream);
        uv_mutex_lock(&subscription.mutex);
        while (!subscription.ended)
                uv_cond_wait(&subscription.changed, &subscription.mutex);
        uv_mutex_unlock(&subscription.mutex);
        rpc_client_stream_unref(subscription.stream);

        g_queue_clear_full(&subscription.events, (GDestroyNotify)g_bytes_unref);
        uv_cond_destroy(&subscription.changed);
        uv_mutex_destroy(&subscription.mutex);
        if (enough)
                g_clear_error(&subscription.error);
        else if (subscription.error != NULL)
                g_propagate_error(inner(error), subscription.error);
        else
                error_fail(inner(error), ERROR_UNAVAILABLE, "the daemon ended the stream of events");
        return enough;
}
