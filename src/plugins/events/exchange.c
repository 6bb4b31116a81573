// SPDX-License-Identifier: Apache-2.0
//
// Two kinds of strand and no lock. The exchange's own strand holds the list of subscriptions and takes the events one
// by one, in the order of publishing; joining and leaving are jobs on it too, so "from now on" is exact. Each
// subscription has a strand of its own for its queue and its callbacks, so that one that is slow delays nobody. A queue
// past its cap ends its subscription: the exchange's strand counts what it hands over, the subscription's what it
// delivered.
#include "plugins/events/exchange.h"

#include "base/filter.h"
#include "io/lanes.h"

#include <glib.h>
#include <stdatomic.h>

enum { MAX_PENDING_EVENTS = 16384, MAX_PENDING_BYTES = 16 * 1024 * 1024 };

struct exchange {
        struct event_exchange base;
        atomic_int references;
        struct lanes *lanes;
        struct strand *strand;
        GPtrArray *subscriptions; // of struct event_subscription, a reference each; on strand
        event_record_fn record;
        void *record_data;
};

struct event_subscription {
        atomic_int references;
        struct exchange *exchange; // a reference
        struct strand *strand;
        struct filter *filter; // NULL: everything
        struct event_subscriber subscriber;
        void *data;
        atomic_bool stopped; // unsubscribed, or ended by itself
        atomic_size_t n_pending, n_pending_bytes;
        GQueue queue; // of struct event, a reference each; this and paused on strand
        bool paused;
};

// What a job carries; each pointer is a reference, or NULL.
struct job {
        struct exchange *exchange;
        struct event_subscription *subscription;
        struct event *event;
        GError *error;
};

static size_t event_bytes(const struct event *event)
{
        return sizeof *event + event->n_value;
}

static void exchange_unref(struct exchange *exchange)
{
        if (exchange == NULL || atomic_fetch_sub_explicit(&exchange->references, 1, memory_order_acq_rel) != 1)
                return;
        g_assert(exchange->subscriptions->len == 0);
        g_ptr_array_free(exchange->subscriptions, true);
        strand_unref(exchange->strand);
        g_free(exchange);
}

static struct exchange *exchange_ref(struct exchange *exchange)
{
        atomic_fetch_add_explicit(&exchange->references, 1, memory_order_relaxed);
        return exchange;
}

static struct event_subscription *subscription_ref(struct event_subscription *subscription)
{
        atomic_fetch_add_explicit(&subscription->references, 1, memory_order_relaxed);
        return subscription;
}

static void subscription_unref(struct event_subscription *subscription)
{
        if (subscription == NULL || atomic_fetch_sub_explicit(&subscription->references, 1, memory_order_acq_rel) != 1)
                return;
        g_queue_clear_full(&subscription->queue, (GDestroyNotify)event_unref);
        if (subscription->subscriber.on_free != NULL)
                subscription->subscriber.on_free(subscription->data);
        filter_free(subscription->filter);
        strand_unref(subscription->strand);
        exchange_unref(subscription->exchange);
        g_free(subscription);
}

static void job_free(struct job *job)
{
        subscription_unref(job->subscription);
        exchange_unref(job->exchange);
        event_unref(job->event);
        g_clear_error(&job->error);
        g_free(job);
}

static struct job *job_new(
        struct exchange *exchange, struct event_subscription *subscription, struct event *event, GError *error)
{
        struct job *job = g_new(struct job, 1);
        *job = (struct job){
                .exchange = exchange != NULL ? exchange_ref(exchange) : NULL,
                .subscription = subscription != NULL ? subscription_ref(subscription) : NULL,
                .event = event != NULL ? event_ref(event) : NULL,
                .error = error,
        };
        return job;
}

// ---- on a subscription's strand

static void deliver_queue(struct event_subscription *subscription)
{
        while (!subscription->paused && !g_queue_is_empty(&subscription->queue)) {
                AUTO(event) event = g_queue_pop_head(&subscription->queue);
                atomic_fetch_sub(&subscription->n_pending, 1);
                atomic_fetch_sub(&subscription->n_pending_bytes, event_bytes(event));
                if (!atomic_load(&subscription->stopped))
                        subscription->paused = !subscription->subscriber.on_event(subscription->data, event);
        }
}

static void on_deliver(void *data)
{
        struct job *job = data;
        g_queue_push_tail(&job->subscription->queue, g_steal_pointer(&job->event));
        deliver_queue(job->subscription);
        job_free(job);
}

static void on_resume(void *data)
{
        struct job *job = data;
        job->subscription->paused = false;
        deliver_queue(job->subscription);
        job_free(job);
}

static void on_overflow(void *data)
{
        struct job *job = data;
        struct event_subscription *subscription = job->subscription;
        g_queue_clear_full(&subscription->queue, (GDestroyNotify)event_unref);
        if (!atomic_exchange(&subscription->stopped, true))
                subscription->subscriber.on_end(subscription->data, g_steal_pointer(&job->error));
        job_free(job);
}

// ---- on the exchange's strand

// False: its queue is full.
static bool hand_over(struct event_subscription *subscription, struct event *event)
{
        size_t n_pending = atomic_fetch_add(&subscription->n_pending, 1) + 1;
        size_t n_bytes = atomic_fetch_add(&subscription->n_pending_bytes, event_bytes(event)) + event_bytes(event);
        if (n_pending > MAX_PENDING_EVENTS || n_bytes > MAX_PENDING_BYTES)
                return false;
        strand_submit(subscription->strand, on_deliver, job_new(NULL, subscription, event, NULL));
        return true;
}

static void on_publish(void *data)
{
        struct job *job = data;
        struct exchange *exchange = job->exchange;
        struct event_fields fields;
        event_fields_init(&fields, job->event);
        for (guint i = 0; i < exchange->subscriptions->len;) {
                struct event_subscription *subscription = exchange->subscriptions->pdata[i];
                bool wanted =
                        !atomic_load(&subscription->stopped) &&
                        (subscription->filter == NULL || filter_match(subscription->filter, event_fields_get, &fields));
                if (wanted && !hand_over(subscription, job->event)) {
                        GError *error = g_error_new(SKIFF_ERROR, ERROR_RESOURCE_EXHAUSTED,
                                "subscriber is too slow: more than %zu events wait for it: resource exhausted",
                                atomic_load(&subscription->n_pending) - 1);
                        strand_submit(subscription->strand, on_overflow, job_new(NULL, subscription, NULL, error));
                        g_ptr_array_remove_index(exchange->subscriptions, i);
                } else {
                        i++;
                }
        }
        event_fields_done(&fields);
        job_free(job);
}

static void on_join(void *data)
{
        struct job *job = data;
        g_ptr_array_add(job->exchange->subscriptions, g_steal_pointer(&job->subscription));
        job_free(job);
}

static void on_leave(void *data)
{
        struct job *job = data;
        g_ptr_array_remove(job->exchange->subscriptions, job->subscription);
        job_free(job);
}

// ---- the interface

static bool exchange_publish(struct event_exchange *base, struct event *event, GError **error)
{
        struct exchange *exchange = (struct exchange *)base;
        if (!event_check(event, error))
                return false;
        if (exchange->record != NULL && !exchange->record(exchange->record_data, event, error))
                return false;
        strand_submit(exchange->strand, on_publish, job_new(exchange, NULL, event, NULL));
        return true;
}

static struct event_subscription *exchange_subscribe(struct event_exchange *base, const char *const *filters,
        size_t n_filters, const struct event_subscriber *subscriber, void *data, GError **error)
{
        struct exchange *exchange = (struct exchange *)base;
        struct filter *filter = NULL;
        if (n_filters > 0 && (filter = filter_parse((char *const *)filters, n_filters, error)) == NULL) {
                g_prefix_error(error, "failed parsing subscription filters: ");
                return NULL;
        }
        struct event_subscription *subscription = g_new0(struct event_subscription, 1);
        atomic_init(&subscription->references, 1);
        subscription->exchange = exchange_ref(exchange);
        subscription->strand = strand_new(exchange->lanes, LANE_FAST);
        subscription->filter = filter;
        subscription->subscriber = *subscriber;
        subscription->data = data;
        g_queue_init(&subscription->queue);
        strand_submit(exchange->strand, on_join, job_new(exchange, subscription, NULL, NULL));
        return subscription;
}

static void exchange_unsubscribe(struct event_exchange *base, struct event_subscription *subscription)
{
        struct exchange *exchange = (struct exchange *)base;
        atomic_store(&subscription->stopped, true);
        strand_submit(exchange->strand, on_leave, job_new(exchange, subscription, NULL, NULL));
        subscription_unref(subscription);
}

static void exchange_set_recorder(struct event_exchange *base, event_record_fn record, void *data)
{
        struct exchange *exchange = (struct exchange *)base;
        exchange->record = record;
        exchange->record_data = data;
}

void event_subscription_resume(struct event_subscription *subscription)
{
        strand_submit(subscription->strand, on_resume, job_new(NULL, subscription, NULL, NULL));
}

struct event_exchange *event_exchange_new(struct lanes *lanes)
{
        static const struct event_exchange_ops ops = {
                .publish = exchange_publish,
                .subscribe = exchange_subscribe,
                .unsubscribe = exchange_unsubscribe,
                .set_recorder = exchange_set_recorder,
        };
        struct exchange *exchange = g_new0(struct exchange, 1);
        exchange->base.ops = &ops;
        atomic_init(&exchange->references, 1);
        exchange->lanes = lanes;
        exchange->strand = strand_new(lanes, LANE_FAST);
        exchange->subscriptions = g_ptr_array_new_with_free_func((GDestroyNotify)subscription_unref);
        return &exchange->base;
}

void event_exchange_free(struct event_exchange *exchange)
{
        exchange_unref((struct exchange *)exchange);
}
