// SPDX-License-Identifier: Apache-2.0
//
// One event is under way at a time, so their order holds over retries and reconnections. A daemon that is not there is
// tried again for ever, at most every few seconds; one that answers with an error gets the event a few times more, then
// it is dropped, as it would block all others.
#include "shim/publisher.h"

#include "base/clock.h"
#include "base/log.h"
#include "containerd/events_ttrpc.pb-c.h"
#include "rpc/client.h"

enum {
        MAX_QUEUED = 2048,
        CONNECT_TIMEOUT_MS = 1000,
        CALL_TIMEOUT_S = 5,
        MAX_REFUSALS = 5,
        FIRST_PAUSE_MS = 100,
        LONGEST_PAUSE_MS = 5000
};

struct item {
        struct item *next;
        char *topic, *type_url;
        int64_t time_ns;
        size_t n_value;
        unsigned n_refusals;
        uint8_t value[];
};

struct publisher {
        struct loop *loop;
        char *address, *namespace_;
        struct rpc_client *client; // NULL: not connected
        struct item *first, **last;
        unsigned n_queued;
        bool sending;
        unsigned pause_ms;
        struct loop_timer *pause, *flush_timer;
        loop_fn flushed;
        void *flushed_data;
};

struct publisher *publisher_new(struct loop *loop, const char *address, const char *namespace_)
{
        struct publisher *publisher = g_new0(struct publisher, 1);
        publisher->loop = loop;
        publisher->address = g_strdup(address);
        publisher->namespace_ = g_strdup(namespace_);
        publisher->last = &publisher->first;
        publisher->pause_ms = FIRST_PAUSE_MS;
        return publisher;
}

static void pop(struct publisher *publisher)
{
        struct item *item = publisher->first;
        publisher->first = item->next;
        if (publisher->first == NULL)
                publisher->last = &publisher->first;
        publisher->n_queued--;
        g_free(item->topic);
        g_free(item->type_url);
        g_free(item);
}

void publisher_free(struct publisher *publisher)
{
        if (publisher == NULL)
                return;
        g_assert(!publisher->sending); // flush first
        while (publisher->first != NULL)
                pop(publisher);
        loop_timer_stop(publisher->pause);
        loop_timer_stop(publisher->flush_timer);
        rpc_client_unref(publisher->client);
        g_free(publisher->address);
        g_free(publisher->namespace_);
        g_free(publisher);
}

static void finish_flush(struct publisher *publisher)
{
        if (publisher->flushed == NULL || publisher->first != NULL)
                return;
        loop_timer_stop(g_steal_pointer(&publisher->flush_timer));
        loop_fn flushed = publisher->flushed;
        publisher->flushed = NULL;
        loop_post(publisher->loop, flushed, publisher->flushed_data);
}

static void send_next(struct publisher *publisher);

static void on_pause_end(void *data)
{
        struct publisher *publisher = data;
        publisher->pause = NULL;
        send_next(publisher);
}

static void pause_sending(struct publisher *publisher)
{
        publisher->pause = loop_timer_start(publisher->loop, publisher->pause_ms, on_pause_end, publisher);
        publisher->pause_ms = MIN(publisher->pause_ms * 2, LONGEST_PAUSE_MS);
}

static void on_sent(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct publisher *publisher = data;
        struct item *item = publisher->first;
        publisher->sending = false;
        if (error == NULL) {
                publisher->pause_ms = FIRST_PAUSE_MS;
                pop(publisher);
                send_next(publisher);
                return;
        }
        if (publisher->flushed != NULL && publisher->flush_timer == NULL) { // its time is over
                while (publisher->first != NULL)
                        pop(publisher);
                finish_flush(publisher);
                return;
        }
        bool refused = !error_is(error, ERROR_UNAVAILABLE) && !error_is(error, ERROR_DEADLINE_EXCEEDED);
        if (refused && ++item->n_refusals > MAX_REFUSALS) {
                log_error("event is dropped", "topic", item->topic, "error", error->message);
                pop(publisher);
        }
        if (!refused) {
                rpc_client_unref(publisher->client);
                publisher->client = NULL;
        }
        pause_sending(publisher);
}

static bool connect_to_daemon(struct publisher *publisher)
{
        if (publisher->client != NULL && rpc_client_is_closed(publisher->client)) {
                rpc_client_unref(publisher->client);
                publisher->client = NULL;
        }
        if (publisher->client != NULL)
                return true;
        g_autoptr(GError) error = NULL;
        int fd = rpc_connect_unix(publisher->address, CONNECT_TIMEOUT_MS, &error);
        if (fd < 0) {
                log_debug("no way to send events", "address", publisher->address, "error", error->message);
                return false;
        }
        publisher->client = rpc_client_new(publisher->loop, RPC_TTRPC, fd, NULL);
        return true;
}

static void send_first(struct publisher *publisher)
{
        struct item *item = publisher->first;
        Google__Protobuf__Timestamp timestamp = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
        clock_split(item->time_ns, &timestamp.seconds, &timestamp.nanos);
        Google__Protobuf__Any event = GOOGLE__PROTOBUF__ANY__INIT;
        event.type_url = item->type_url;
        event.value = (ProtobufCBinaryData){item->n_value, item->value};
        Types__Envelope envelope = TYPES__ENVELOPE__INIT;
        envelope.timestamp = &timestamp;
        envelope.namespace_ = publisher->namespace_;
        envelope.topic = item->topic;
        envelope.event = &event;
        EventsTtrpc__ForwardRequest message = EVENTS_TTRPC__FORWARD_REQUEST__INIT;
        message.envelope = &envelope;
        const char *metadata[] = {"containerd-namespace-ttrpc", publisher->namespace_, NULL};
        struct rpc_request request = {
                .service = "containerd.services.events.ttrpc.v1.Events",
                .method = "Forward",
                .message = &message.base,
                .response = &google__protobuf__empty__descriptor,
                .metadata = metadata,
                .timeout_ns = CALL_TIMEOUT_S * NS_PER_SECOND,
        };
        publisher->sending = true;
        rpc_client_call(publisher->client, &request, on_sent, publisher);
}

static void send_next(struct publisher *publisher)
{
        if (publisher->first == NULL)
                finish_flush(publisher);
        else if (publisher->sending || publisher->pause != NULL)
                return;
        else if (connect_to_daemon(publisher))
                send_first(publisher);
        else
                pause_sending(publisher);
}

void publisher_send(struct publisher *publisher, const char *topic, const ProtobufCMessage *event)
{
        if (*publisher->address == '\0')
                return;
        if (publisher->n_queued == MAX_QUEUED) {
                log_error("too many events are waiting, one is dropped", "topic", topic);
                return;
        }
        size_t n_value = protobuf_c_message_get_packed_size(event);
        struct item *item = g_malloc0(sizeof *item + n_value);
        item->topic = g_strdup(topic);
        item->type_url = g_strdup(event->descriptor->name);
        item->time_ns = clock_now_ns();
        item->n_value = protobuf_c_message_pack(event, item->value);
        *publisher->last = item;
        publisher->last = &item->next;
        publisher->n_queued++;
        send_next(publisher);
}

static void on_flush_timeout(void *data)
{
        struct publisher *publisher = data;
        publisher->flush_timer = NULL;
        log_error("events are lost, the daemon does not take them");
        loop_timer_stop(g_steal_pointer(&publisher->pause));
        if (publisher->sending)
                return; // its end comes soon, by its own timeout at the latest
        while (publisher->first != NULL)
                pop(publisher);
        finish_flush(publisher);
}

void publisher_flush(struct publisher *publisher, unsigned timeout_ms, loop_fn done, void *data)
{
        publisher->flushed = done;
        publisher->flushed_data = data;
        publisher->flush_timer = loop_timer_start(publisher->loop, timeout_ms, on_flush_timeout, publisher);
        send_next(publisher);
}
