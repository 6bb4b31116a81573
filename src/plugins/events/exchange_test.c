// SPDX-License-Identifier: Apache-2.0
#include "io/lanes.h"
#include "plugins/events/exchange.h"

#include "containerd/events.pb-c.h"

#include <stdatomic.h>
#include <uv.h>

// A subscriber that keeps what it gets; it rests after pause_after events (0: never).
struct listener {
        uv_mutex_t mutex;
        uv_cond_t changed;
        GPtrArray *events; // under mutex, as the rest
        GError *end;
        bool freed;
        guint pause_after;
};

static bool listener_on_event(void *data, struct event *event)
{
        struct listener *listener = data;
        uv_mutex_lock(&listener->mutex);
        g_ptr_array_add(listener->events, event_ref(event));
        bool more = listener->pause_after == 0 || listener->events->len % listener->pause_after != 0;
        uv_cond_broadcast(&listener->changed);
        uv_mutex_unlock(&listener->mutex);
        return more;
}

static void listener_on_end(void *data, GError *error)
{
        struct listener *listener = data;
        uv_mutex_lock(&listener->mutex);
        listener->end = error;
        uv_cond_broadcast(&listener->changed);
        uv_mutex_unlock(&listener->mutex);
}

static void listener_on_free(void *data)
{
        struct listener *listener = data;
        uv_mutex_lock(&listener->mutex);
        listener->freed = true;
        uv_cond_broadcast(&listener->changed);
        uv_mutex_unlock(&listener->mutex);
}

static const struct event_subscriber listener_callbacks = {
        .on_event = listener_on_event, .on_end = listener_on_end, .on_free = listener_on_free};

static void listener_init(struct listener *listener, guint pause_after)
{
        *listener = (struct listener){.pause_after = pause_after};
        uv_mutex_init(&listener->mutex);
        uv_cond_init(&listener->changed);
        listener->events = g_ptr_array_new_with_free_func((GDestroyNotify)event_unref);
}

static void listener_done(struct listener *listener)
{
        g_ptr_array_free(listener->events, true);
        g_clear_error(&listener->end);
        uv_cond_destroy(&listener->changed);
        uv_mutex_destroy(&listener->mutex);
}

static void listener_wait_events(struct listener *listener, guint n)
{
        uv_mutex_lock(&listener->mutex);
        while (listener->events->len < n)
                uv_cond_wait(&listener->changed, &listener->mutex);
        uv_mutex_unlock(&listener->mutex);
}

static void listener_wait_freed(struct listener *listener)
{
        uv_mutex_lock(&listener->mutex);
        while (!listener->freed)
                uv_cond_wait(&listener->changed, &listener->mutex);
        uv_mutex_unlock(&listener->mutex);
}

static const struct event *listener_event(struct listener *listener, guint i)
{
        return listener->events->pdata[i];
}

struct fixture {
        struct lanes *lanes;
        struct event_exchange *exchange;
};

static void set_up(struct fixture *fixture, gconstpointer data)
{
        fixture->lanes = lanes_new(NULL);
        fixture->exchange = event_exchange_new(fixture->lanes);
}

static void tear_down(struct fixture *fixture, gconstpointer data)
{
        event_exchange_free(fixture->exchange);
        lanes_free(fixture->lanes);
}

static struct event_subscription *subscribe(struct fixture *fixture, struct listener *listener, const char *filter)
{
        g_autoptr(GError) error = NULL;
        struct event_subscription *subscription = fixture->exchange->ops->subscribe(
                fixture->exchange, &filter, filter != NULL, &listener_callbacks, listener, &error);
        g_assert_no_error(error);
        return subscription;
}

static void leave(struct fixture *fixture, struct listener *listener, struct event_subscription *subscription)
{
        fixture->exchange->ops->unsubscribe(fixture->exchange, subscription);
        listener_wait_freed(listener);
        listener_done(listener);
}

static void publish_exit(struct fixture *fixture, const char *namespace_, const char *container, unsigned status)
{
        Events__TaskExit exit = EVENTS__TASK_EXIT__INIT;
        exit.container_id = (char *)container;
        exit.id = (char *)container;
        exit.exit_status = status;
        event_publish(fixture->exchange, namespace_, "/tasks/exit", &exit.base);
}

static void every_subscriber_gets_each_event_in_order(struct fixture *fixture, gconstpointer data)
{
        struct listener listeners[3];
        struct event_subscription *subscriptions[3];
        for (size_t i = 0; i < 3; i++) {
                listener_init(&listeners[i], 0);
                subscriptions[i] = subscribe(fixture, &listeners[i], NULL);
        }
        for (unsigned i = 0; i < 100; i++)
                publish_exit(fixture, "default", "c", i);
        for (size_t i = 0; i < 3; i++) {
                listener_wait_events(&listeners[i], 100);
                for (unsigned k = 0; k < 100; k++) {
                        const struct event *event = listener_event(&listeners[i], k);
                        g_assert_cmpstr(event->topic, ==, "/tasks/exit");
                        g_assert_cmpstr(event->type_url, ==, "containerd.events.TaskExit");
                        Events__TaskExit *exit = events__task_exit__unpack(NULL, event->n_value, event->value);
                        g_assert_cmpuint(exit->exit_status, ==, k);
                        events__task_exit__free_unpacked(exit, NULL);
                }
                leave(fixture, &listeners[i], subscriptions[i]);
        }
}

static void only_matching_events_arrive(struct fixture *fixture, gconstpointer data)
{
        struct listener listener;
        listener_init(&listener, 0);
        struct event_subscription *subscription =
                subscribe(fixture, &listener, "topic~=|^/tasks/|,event.container_id!=a,namespace==default");
        publish_exit(fixture, "default", "a", 0);
        publish_exit(fixture, "other", "b", 1);
        publish_exit(fixture, "default", "b", 2);
        Events__ContainerDelete removed = EVENTS__CONTAINER_DELETE__INIT;
        event_publish(fixture->exchange, "default", "/containers/delete", &removed.base);
        publish_exit(fixture, "default", "last", 3);
        listener_wait_events(&listener, 2);
        Events__TaskExit *exit = events__task_exit__unpack(
                NULL, listener_event(&listener, 0)->n_value, listener_event(&listener, 0)->value);
        g_assert_cmpuint(exit->exit_status, ==, 2);
        events__task_exit__free_unpacked(exit, NULL);
        leave(fixture, &listener, subscription);
}

static void broken_filter_is_refused(struct fixture *fixture, gconstpointer data)
{
        struct listener listener;
        listener_init(&listener, 0);
        g_autoptr(GError) error = NULL;
        g_assert_null(fixture->exchange->ops->subscribe(
                fixture->exchange, &(const char *){"topic=="}, 1, &listener_callbacks, &listener, &error));
        g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        g_assert_true(g_str_has_prefix(error->message, "failed parsing subscription filters: "));
        g_assert_false(listener.freed);
        listener_done(&listener);
}

static void malformed_envelopes_are_refused(struct fixture *fixture, gconstpointer data)
{
        static const struct {
                const char *namespace_, *topic, *message;
        } cases[] = {
                {"default", "", "envelope topic \"\": must not be empty: invalid argument"},
                {"default", "tasks", "envelope topic \"tasks\": must start with '/': invalid argument"},
                {"default", "/", "envelope topic \"/\": must have at least one component: invalid argument"},
                {"default", "/a//b", "envelope topic \"/a//b\": failed validation on component \"\": "},
                {"a/b", "/tasks", "event envelope has invalid namespace: "},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                AUTO(event) event = event_new(cases[i].namespace_, cases[i].topic, 1, "x", NULL, 0);
                g_autoptr(GError) error = NULL;
                g_assert_false(fixture->exchange->ops->publish(fixture->exchange, event, &error));
                g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
                g_assert_true(g_str_has_prefix(error->message, cases[i].message));
        }
}

static void resting_subscriber_misses_nothing(struct fixture *fixture, gconstpointer data)
{
        struct listener listener;
        listener_init(&listener, 10);
        struct event_subscription *subscription = subscribe(fixture, &listener, NULL);
        for (unsigned i = 0; i < 100; i++)
                publish_exit(fixture, "default", "c", i);
        for (guint n = 10; n <= 100; n += 10) {
                listener_wait_events(&listener, n);
                g_assert_cmpuint(listener.events->len, ==, n);
                event_subscription_resume(subscription);
        }
        leave(fixture, &listener, subscription);
}

static void subscriber_that_never_reads_ends_and_delays_nobody(struct fixture *fixture, gconstpointer data)
{
        struct listener slow, quick;
        listener_init(&slow, 1);
        listener_init(&quick, 0);
        struct event_subscription *slow_one = subscribe(fixture, &slow, NULL);
        struct event_subscription *quick_one = subscribe(fixture, &quick, NULL);
        guint n = 0;
        uv_mutex_lock(&slow.mutex);
        while (slow.end == NULL) {
                uv_mutex_unlock(&slow.mutex);
                for (unsigned i = 0; i < 1000; i++, n++)
                        publish_exit(fixture, "default", "c", n);
                listener_wait_events(&quick, n);
                g_assert_cmpuint(n, <, 100000);
                uv_mutex_lock(&slow.mutex);
        }
        g_assert_true(error_is(slow.end, ERROR_RESOURCE_EXHAUSTED));
        g_assert_cmpuint(slow.events->len, ==, 1);
        uv_mutex_unlock(&slow.mutex);
        leave(fixture, &slow, slow_one);
        leave(fixture, &quick, quick_one);
}

struct recorder {
        atomic_uint n_seen;
        bool refuse;
};

static bool record(void *data, struct event *event, GError **error)
{
        struct recorder *recorder = data;
        recorder->n_seen++;
        return !recorder->refuse || error_fail(error, ERROR_UNAVAILABLE, "disk is full: unavailable");
}

static void refused_by_the_recorder_is_not_published(struct fixture *fixture, gconstpointer data)
{
        struct recorder recorder = {.refuse = true};
        fixture->exchange->ops->set_recorder(fixture->exchange, record, &recorder);
        struct listener listener;
        listener_init(&listener, 0);
        struct event_subscription *subscription = subscribe(fixture, &listener, NULL);
        AUTO(event) event = event_new("default", "/tasks/exit", 1, "x", NULL, 0);
        g_autoptr(GError) error = NULL;
        g_assert_false(fixture->exchange->ops->publish(fixture->exchange, event, &error));
        g_assert_true(error_is(error, ERROR_UNAVAILABLE));
        recorder.refuse = false;
        g_assert_true(fixture->exchange->ops->publish(fixture->exchange, event, NULL));
        listener_wait_events(&listener, 1);
        g_assert_cmpuint(recorder.n_seen, ==, 2);
        g_assert_cmpuint(listener.events->len, ==, 1);
        leave(fixture, &listener, subscription);
}

struct publisher {
        struct fixture *fixture;
        unsigned id;
};

static void publish_many(void *data)
{
        struct publisher *publisher = data;
        for (unsigned i = 0; i < 500; i++)
                publish_exit(publisher->fixture, "default", "c", publisher->id * 1000 + i);
}

static void come_and_go(void *data)
{
        struct publisher *publisher = data;
        for (unsigned i = 0; i < 100; i++) {
                struct listener listener;
                listener_init(&listener, 3);
                leave(publisher->fixture, &listener,
                        subscribe(publisher->fixture, &listener, "topic==\"/tasks/exit\""));
        }
}

static void many_threads_at_once_keep_each_ones_order(struct fixture *fixture, gconstpointer data)
{
        struct listener listener;
        listener_init(&listener, 0);
        struct event_subscription *subscription = subscribe(fixture, &listener, NULL);
        struct publisher publishers[4];
        uv_thread_t threads[5];
        for (unsigned i = 0; i < 4; i++) {
                publishers[i] = (struct publisher){fixture, i};
                g_assert_cmpint(uv_thread_create(&threads[i], publish_many, &publishers[i]), ==, 0);
        }
        g_assert_cmpint(uv_thread_create(&threads[4], come_and_go, &publishers[0]), ==, 0);
        for (unsigned i = 0; i < 5; i++)
                uv_thread_join(&threads[i]);
        listener_wait_events(&listener, 2000);
        unsigned next[4] = {0};
        for (guint i = 0; i < 2000; i++) {
                const struct event *event = listener_event(&listener, i);
                Events__TaskExit *exit = events__task_exit__unpack(NULL, event->n_value, event->value);
                g_assert_cmpuint(exit->exit_status % 1000, ==, next[exit->exit_status / 1000]++);
                events__task_exit__free_unpacked(exit, NULL);
        }
        leave(fixture, &listener, subscription);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(function) g_test_add("/exchange/" #function, struct fixture, NULL, set_up, function, tear_down)
        ADD(every_subscriber_gets_each_event_in_order);
        ADD(only_matching_events_arrive);
        ADD(broken_filter_is_refused);
        ADD(malformed_envelopes_are_refused);
        ADD(resting_subscriber_misses_nothing);
        ADD(subscriber_that_never_reads_ends_and_delays_nobody);
        ADD(refused_by_the_recorder_is_not_published);
        ADD(many_threads_at_once_keep_each_ones_order);
        return g_test_run();
}
