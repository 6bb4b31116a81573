// SPDX-License-Identifier: Apache-2.0
//
// curl_multi_poll waits for curl's own sockets and for ours in one call. Callbacks may add and remove anything, so what
// is removed during a round is only marked, and freed after it.
#include "remote/reactor.h"

#include "base/clock.h"
#include "base/error.h"

#define MAX_CONNECTIONS_PER_HOST 8
#define IDLE_POLL_MS 60000

struct reactor_watch {
        struct reactor *reactor;
        int fd;
        short events;
        reactor_fn fn;
        void *data;
        bool stopped;
};

struct reactor_timer {
        struct reactor *reactor;
        int64_t due_ns;
        reactor_fn fn;
        void *data;
};

struct transfer {
        CURL *easy;
        reactor_done_fn done;
        void *data;
};

struct reactor {
        CURLM *multi;
        GHashTable *transfers; // CURL * → struct transfer *
        GPtrArray *watches;
        GList *timers; // by due_ns
        bool stopped;
};

static void watch_free(void *watch)
{
        g_free(watch);
}

struct reactor *reactor_new(GError **error)
{
        CURLM *multi = curl_multi_init();
        if (multi == NULL) {
                error_fail(error, ERROR_INTERNAL, "curl cannot be initialised");
                return NULL;
        }
        curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
        curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)MAX_CONNECTIONS_PER_HOST);
        struct reactor *reactor = g_new0(struct reactor, 1);
        reactor->multi = multi;
        reactor->transfers = g_hash_table_new_full(NULL, NULL, NULL, g_free);
        reactor->watches = g_ptr_array_new_with_free_func(watch_free);
        return reactor;
}

void reactor_free(struct reactor *reactor)
{
        g_hash_table_unref(reactor->transfers);
        g_ptr_array_unref(reactor->watches);
        g_list_free_full(reactor->timers, g_free);
        curl_multi_cleanup(reactor->multi);
        g_free(reactor);
}

void reactor_stop(struct reactor *reactor)
{
        reactor->stopped = true;
}

void reactor_add(struct reactor *reactor, CURL *easy, reactor_done_fn done, void *data)
{
        struct transfer *transfer = g_new0(struct transfer, 1);
        *transfer = (struct transfer){easy, done, data};
        g_hash_table_insert(reactor->transfers, easy, transfer);
        curl_multi_add_handle(reactor->multi, easy);
}

void reactor_remove(struct reactor *reactor, CURL *easy)
{
        if (g_hash_table_remove(reactor->transfers, easy))
                curl_multi_remove_handle(reactor->multi, easy);
}

struct reactor_watch *reactor_watch_start(struct reactor *reactor, int fd, short events, reactor_fn fn, void *data)
{
        struct reactor_watch *watch = g_new0(struct reactor_watch, 1);
        *watch = (struct reactor_watch){reactor, fd, events, fn, data, false};
        g_ptr_array_add(reactor->watches, watch);
        return watch;
}

void reactor_watch_change(struct reactor_watch *watch, short events)
{
        watch->events = events;
}

void reactor_watch_stop(struct reactor_watch *watch)
{
        watch->stopped = true;
}

static gint by_due(gconstpointer a, gconstpointer b)
{
        const struct reactor_timer *left = a, *right = b;
        return left->due_ns < right->due_ns ? -1 : left->due_ns > right->due_ns;
}

struct reactor_timer *reactor_timer_start(struct reactor *reactor, int64_t delay_ms, reactor_fn fn, void *data)
{
        struct reactor_timer *timer = g_new0(struct reactor_timer, 1);
        *timer = (struct reactor_timer){reactor, clock_monotonic_ns() + delay_ms * NS_PER_MS, fn, data};
        reactor->timers = g_list_insert_sorted(reactor->timers, timer, by_due);
        return timer;
}

void reactor_timer_stop(struct reactor_timer *timer)
{
        timer->reactor->timers = g_list_remove(timer->reactor->timers, timer);
        g_free(timer);
}

static int next_timeout_ms(const struct reactor *reactor)
{
        if (reactor->timers == NULL)
                return IDLE_POLL_MS;
        const struct reactor_timer *first = reactor->timers->data;
        int64_t left_ms = (first->due_ns - clock_monotonic_ns() + NS_PER_MS - 1) / NS_PER_MS;
        return (int)CLAMP(left_ms, 0, IDLE_POLL_MS);
}

static void fire_timers(struct reactor *reactor)
{
        int64_t now_ns = clock_monotonic_ns();
        while (reactor->timers != NULL) {
                struct reactor_timer *first = reactor->timers->data;
                if (first->due_ns > now_ns)
                        return;
                reactor->timers = g_list_delete_link(reactor->timers, reactor->timers);
                reactor_fn fn = first->fn;
                void *data = first->data;
                g_free(first);
                fn(data);
        }
}

static void finish_transfers(struct reactor *reactor)
{
        CURLMsg *message;
        int left;
        while ((message = curl_multi_info_read(reactor->multi, &left)) != NULL) {
                if (message->msg != CURLMSG_DONE)
                        continue;
                CURL *easy = message->easy_handle;
                CURLcode result = message->data.result;
                struct transfer *found = g_hash_table_lookup(reactor->transfers, easy);
                if (found == NULL)
                        continue;
                struct transfer transfer = *found;
                reactor_remove(reactor, easy);
                transfer.done(transfer.data, result);
        }
}

static void poll_once(struct reactor *reactor)
{
        size_t n = reactor->watches->len;
        g_autofree struct curl_waitfd *waits = g_new0(struct curl_waitfd, MAX(n, 1));
        g_autofree struct reactor_watch **watches = g_new0(struct reactor_watch *, MAX(n, 1));
        unsigned n_waits = 0;
        for (size_t i = 0; i < n; i++) {
                struct reactor_watch *watch = reactor->watches->pdata[i];
                if (watch->stopped || watch->events == 0)
                        continue;
                waits[n_waits] = (struct curl_waitfd){.fd = watch->fd, .events = watch->events};
                watches[n_waits++] = watch;
        }
        curl_multi_poll(reactor->multi, waits, n_waits, next_timeout_ms(reactor), NULL);
        for (unsigned i = 0; i < n_waits; i++)
                if (waits[i].revents != 0 && !watches[i]->stopped)
                        watches[i]->fn(watches[i]->data);
}

void reactor_run(struct reactor *reactor)
{
        reactor->stopped = false;
        while (!reactor->stopped) {
                int running;
                curl_multi_perform(reactor->multi, &running);
                finish_transfers(reactor);
                fire_timers(reactor);
                if (reactor->stopped)
                        break;
                poll_once(reactor);
                for (size_t i = reactor->watches->len; i-- > 0;)
                        if (((struct reactor_watch *)reactor->watches->pdata[i])->stopped)
                                g_ptr_array_remove_index(reactor->watches, (guint)i);
        }
}
