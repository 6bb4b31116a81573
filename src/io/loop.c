// SPDX-License-Identifier: Apache-2.0
//
// One libuv loop per thread that wants one. Other threads put letters into the mailbox, a list under a mutex, and ring
// an async handle; the loop takes the whole list at once, so that a burst costs one wake-up. The handle is the only
// thing that keeps an idle loop alive; it goes in loop_free.
#include "io/loop.h"

#include "base/error.h"

struct letter {
        struct letter *next;
        loop_fn fn;
        void *data;
};

struct loop {
        uv_loop_t uv;
        uv_async_t bell;
        uv_mutex_t mutex;
        struct letter *first, **last; // under mutex
        bool stopping;                // loop thread
};

struct loop_timer {
        uv_timer_t uv;
        loop_fn fn;
        void *data;
};

struct loop_watch {
        uv_poll_t uv;
        loop_watch_fn fn;
        void *data;
};

static void deliver(struct loop *loop)
{
        uv_mutex_lock(&loop->mutex);
        struct letter *letter = loop->first;
        loop->first = NULL;
        loop->last = &loop->first;
        uv_mutex_unlock(&loop->mutex);
        while (letter != NULL) {
                struct letter *next = letter->next;
                letter->fn(letter->data);
                g_free(letter);
                letter = next;
        }
}

static void on_bell(uv_async_t *bell)
{
        deliver(bell->data);
}

struct loop *loop_new(GError **error)
{
        struct loop *loop = g_new0(struct loop, 1);
        int failed = uv_loop_init(&loop->uv);
        if (failed == 0 && (failed = uv_async_init(&loop->uv, &loop->bell, on_bell)) != 0)
                uv_loop_close(&loop->uv);
        if (failed != 0) {
                error_fail(error, ERROR_UNKNOWN, "start event loop: %s", uv_strerror(failed));
                g_free(loop);
                return NULL;
        }
        loop->bell.data = loop;
        loop->last = &loop->first;
        g_assert(uv_mutex_init(&loop->mutex) == 0);
        return loop;
}

void loop_drain(struct loop *loop)
{
        uv_unref((uv_handle_t *)&loop->bell); // it alone keeps no loop going
        do {
                deliver(loop);
                uv_run(&loop->uv, UV_RUN_DEFAULT);
        } while (loop->first != NULL);
        uv_ref((uv_handle_t *)&loop->bell);
}

void loop_free(struct loop *loop)
{
        if (loop == NULL)
                return;
        while (loop->first != NULL)
                deliver(loop);
        uv_close((uv_handle_t *)&loop->bell, NULL);
        uv_run(&loop->uv, UV_RUN_DEFAULT);
        g_assert(uv_loop_close(&loop->uv) == 0);
        uv_mutex_destroy(&loop->mutex);
        g_free(loop);
}

void loop_run(struct loop *loop)
{
        loop->stopping = false;
        while (!loop->stopping)
                uv_run(&loop->uv, UV_RUN_ONCE);
}

static void stop(void *data)
{
        struct loop *loop = data;
        loop->stopping = true;
}

void loop_stop(struct loop *loop)
{
        loop_post(loop, stop, loop);
}

uv_loop_t *loop_uv(struct loop *loop)
{
        return &loop->uv;
}

void loop_post(struct loop *loop, loop_fn fn, void *data)
{
        struct letter *letter = g_new(struct letter, 1);
        *letter = (struct letter){.fn = fn, .data = data};
        // Rung under the lock: once the loop has taken the letter it may be freed, bell and all.
        uv_mutex_lock(&loop->mutex);
        bool was_empty = loop->first == NULL;
        *loop->last = letter;
        loop->last = &letter->next;
        if (was_empty)
                uv_async_send(&loop->bell);
        uv_mutex_unlock(&loop->mutex);
}

static void free_handle(uv_handle_t *handle)
{
        g_free(handle->data);
}

static void on_timer(uv_timer_t *uv)
{
        struct loop_timer *timer = uv->data;
        loop_fn fn = timer->fn;
        void *data = timer->data;
        loop_timer_stop(timer);
        fn(data);
}

struct loop_timer *loop_timer_start(struct loop *loop, uint64_t delay_ms, loop_fn fn, void *data)
{
        struct loop_timer *timer = g_new0(struct loop_timer, 1);
        timer->fn = fn;
        timer->data = data;
        g_assert(uv_timer_init(&loop->uv, &timer->uv) == 0);
        timer->uv.data = timer;
        uv_update_time(&loop->uv);
        g_assert(uv_timer_start(&timer->uv, on_timer, delay_ms, 0) == 0);
        return timer;
}

void loop_timer_stop(struct loop_timer *timer)
{
        if (timer != NULL)
                uv_close((uv_handle_t *)&timer->uv, free_handle);
}

static void on_poll(uv_poll_t *uv, int status, int events)
{
        struct loop_watch *watch = uv->data;
        // An error condition on the descriptor: let the reader find it.
        watch->fn(watch->data, status < 0 ? UV_READABLE | UV_WRITABLE | UV_DISCONNECT : events);
}

struct loop_watch *loop_watch_start(struct loop *loop, int fd, int events, loop_watch_fn fn, void *data)
{
        struct loop_watch *watch = g_new0(struct loop_watch, 1);
        watch->fn = fn;
        watch->data = data;
        g_assert(uv_poll_init(&loop->uv, &watch->uv, fd) == 0);
        watch->uv.data = watch;
        loop_watch_change(watch, events);
        return watch;
}

void loop_watch_change(struct loop_watch *watch, int events)
{
        if (events == 0)
                uv_poll_stop(&watch->uv);
        else
                g_assert(uv_poll_start(&watch->uv, events, on_poll) == 0);
}

void loop_watch_stop(struct loop_watch *watch)
{
        if (watch != NULL)
                uv_close((uv_handle_t *)&watch->uv, free_handle);
}
