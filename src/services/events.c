// SPDX-License-Identifier: Apache-2.0
//
// Events over gRPC (Publish, Forward, Subscribe) and, for shims, over ttrpc (Forward). A Subscribe stream is a
// subscription of the exchange: while the stream's queue is full the subscription rests, and its queue in the exchange
// is what is capped.
#include "base/clock.h"
#include "core/event.h"
#include "rpc/server.h"
#include "services/service.h"
#include "services/services.h"

#include "containerd/events_api.pb-c.h"
#include "containerd/events_ttrpc.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

struct events_service {
        struct event_exchange *exchange;
        struct plugin_service grpc, ttrpc;
};

static void on_publish(struct rpc_call *call, void *object)
{
        struct events_service *service = object;
        const EventsApi__PublishRequest *request = (const EventsApi__PublishRequest *)rpc_call_request(call);
        GError *error = NULL;
        const char *namespace_ = service_namespace(call, &error);
        if (namespace_ == NULL) {
                g_prefix_error(&error, "failed publishing event: ");
                rpc_call_fail(call, error);
                return;
        }
        const Google__Protobuf__Any *any = request->event;
        AUTO(event)
        event = event_new(namespace_, request->topic, clock_now_ns(), any != NULL ? any->type_url : "",
                any != NULL ? any->value.data : NULL, any != NULL ? any->value.len : 0);
        service->exchange->ops->publish(service->exchange, event, &error);
        service_reply_empty(call, error);
}

static bool forward(struct event_exchange *exchange, const Types__Envelope *envelope, GError **error)
{
        if (envelope == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "event envelope is missing: invalid argument");
        const Google__Protobuf__Timestamp *time = envelope->timestamp;
        const Google__Protobuf__Any *any = envelope->event;
        int64_t timestamp_ns = 0;
        if (time != NULL && (__builtin_mul_overflow(time->seconds, NS_PER_SECOND, &timestamp_ns) ||
                                    __builtin_add_overflow(timestamp_ns, time->nanos, &timestamp_ns)))
                return error_fail(error, ERROR_INVALID_ARGUMENT, "timestamp is out of range: invalid argument");
        AUTO(event)
        event = event_new(envelope->namespace_, envelope->topic, timestamp_ns, any != NULL ? any->type_url : "",
                any != NULL ? any->value.data : NULL, any != NULL ? any->value.len : 0);
        if (!event_check(event, error))
                return false;
        if (time == NULL)
                return error_fail(
                        error, ERROR_INVALID_ARGUMENT, "timestamp must be set on forwarded event: invalid argument");
        return exchange->ops->publish(exchange, event, error);
}

static void on_forward(struct rpc_call *call, void *object)
{
        struct events_service *service = object;
        const EventsApi__ForwardRequest *request = (const EventsApi__ForwardRequest *)rpc_call_request(call);
        GError *error = NULL;
        forward(service->exchange, request->envelope, &error);
        service_reply_empty(call, error);
}

static void on_ttrpc_forward(struct rpc_call *call, void *object)
{
        struct events_service *service = object;
        const EventsTtrpc__ForwardRequest *request = (const EventsTtrpc__ForwardRequest *)rpc_call_request(call);
        GError *error = NULL;
        forward(service->exchange, request->envelope, &error);
        service_reply_empty(call, error);
}

// ---- Subscribe

// One reference is the stream's handler, the other, for data of the subscription, the exchange's.
struct subscriber {
        int references;
        struct rpc_stream *stream;
        struct event_exchange *exchange;
        struct event_subscription *subscription; // the stream's callbacks alone
};

static void subscriber_unref(void *data)
{
        struct subscriber *subscriber = data;
        if (__atomic_sub_fetch(&subscriber->references, 1, __ATOMIC_ACQ_REL) != 0)
                return;
        rpc_stream_unref(subscriber->stream);
        g_free(subscriber);
}

static bool on_event(void *data, struct event *event)
{
        struct subscriber *subscriber = data;
        Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
        clock_split(event->timestamp_ns, &time.seconds, &time.nanos);
        Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
        any.type_url = event->type_url;
        any.value.data = event->value;
        any.value.len = event->n_value;
        Types__Envelope envelope = TYPES__ENVELOPE__INIT;
        envelope.timestamp = &time;
        envelope.namespace_ = event->namespace_;
        envelope.topic = event->topic;
        envelope.event = &any;
        return rpc_stream_send(subscriber->stream, &envelope.base);
}

static void on_end(void *data, GError *error)
{
        struct subscriber *subscriber = data;
        g_prefix_error(&error, "subscription error: ");
        rpc_stream_finish(subscriber->stream, error);
}

static void *subscribe_open(struct rpc_stream *stream, void *object)
{
        struct events_service *service = object;
        struct subscriber *subscriber = g_new(struct subscriber, 1);
        *subscriber = (struct subscriber){
                .references = 1,
                .stream = rpc_stream_ref(stream),
                .exchange = service->exchange,
        };
        return subscriber;
}

static void subscribe_on_message(void *state, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        static const struct event_subscriber callbacks = {
                .on_event = on_event,
                .on_end = on_end,
                .on_free = subscriber_unref,
        };
        struct subscriber *subscriber = state;
        const EventsApi__SubscribeRequest *request = (const EventsApi__SubscribeRequest *)message;
        GError *error = NULL;
        __atomic_add_fetch(&subscriber->references, 1, __ATOMIC_RELAXED);
        subscriber->subscription = subscriber->exchange->ops->subscribe(subscriber->exchange,
                (const char *const *)request->filters, request->n_filters, &callbacks, subscriber, &error);
        if (subscriber->subscription == NULL) {
                subscriber_unref(subscriber);
                g_prefix_error(&error, "subscription error: ");
                rpc_stream_finish(stream, error);
        }
}

static void subscribe_on_writable(void *state, struct rpc_stream *stream)
{
        struct subscriber *subscriber = state;
        if (subscriber->subscription != NULL)
                event_subscription_resume(subscriber->subscription);
}

static void subscribe_on_cancel(void *state, struct rpc_stream *stream)
{
        struct subscriber *subscriber = state;
        if (subscriber->subscription != NULL)
                subscriber->exchange->ops->unsubscribe(
                        subscriber->exchange, g_steal_pointer(&subscriber->subscription));
}

static void subscribe_close(void *state)
{
        subscribe_on_cancel(state, NULL);
        subscriber_unref(state);
}

static const struct rpc_stream_handler subscribe_handler = {
        .open = subscribe_open,
        .on_message = subscribe_on_message,
        .on_writable = subscribe_on_writable,
        .on_cancel = subscribe_on_cancel,
        .close = subscribe_close,
};

static const struct rpc_method grpc_methods[] = {
        RPC_METHOD_UNARY("Publish", LANE_FAST, events_api__publish_request, google__protobuf__empty, on_publish,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Forward", LANE_FAST, events_api__forward_request, google__protobuf__empty, on_forward,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_STREAM("Subscribe", RPC_SERVER_STREAM, LANE_FAST, events_api__subscribe_request, types__envelope,
                &subscribe_handler),
};

static const struct rpc_service grpc_service = {
        .name = "containerd.services.events.v1.Events",
        .methods = grpc_methods,
        .n_methods = G_N_ELEMENTS(grpc_methods),
};

static const struct rpc_method ttrpc_methods[] = {
        RPC_METHOD_UNARY("Forward", LANE_FAST, events_ttrpc__forward_request, google__protobuf__empty, on_ttrpc_forward,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
};

static const struct rpc_service ttrpc_service = {
        .name = "containerd.services.events.ttrpc.v1.Events",
        .methods = ttrpc_methods,
        .n_methods = G_N_ELEMENTS(ttrpc_methods),
};

static void *plugin_init(struct plugin_host *host, GError **error)
{
        struct event_exchange *exchange = plugin_host_get(host, PLUGIN_EVENT, "exchange");
        if (exchange == NULL) {
                error_fail(error, ERROR_NOT_FOUND, "no event exchange: not found");
                return NULL;
        }
        struct events_service *service = g_new0(struct events_service, 1);
        service->exchange = exchange;
        service->ttrpc = (struct plugin_service){.service = &ttrpc_service, .object = service, .protocols = RPC_TTRPC};
        service->grpc = (struct plugin_service){
                .service = &grpc_service, .object = service, .protocols = RPC_GRPC, .next = &service->ttrpc};
        return &service->grpc;
}

const struct plugin events_service_plugin = {
        .type = PLUGIN_GRPC,
        .id = "events",
        .requires_ = (const struct plugin_requirement[]){{PLUGIN_EVENT, "exchange"}, {NULL}},
        .init = plugin_init,
        .stop = service_free_object,
};
