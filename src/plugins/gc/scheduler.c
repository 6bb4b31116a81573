// SPDX-License-Identifier: Apache-2.0
//
// A run is due at a time (due_ns), or not at all. Three things set it: the start, somebody who asks, and a commit that
// removed something or is one of many; the last waits for the interval, which is the average duration divided by the
// pause threshold, so that removals that come together are one run. The timer lives on the loop's thread: others post
// there when due_ns came nearer.
//
// A message that is still in the loop's mailbox when the plugin stops holds a reference.
#include "plugins/gc/scheduler.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/lanes.h"
#include "io/loop.h"

#include <uv.h>

enum { MINIMUM_MS = 5, DEFAULT_INTERVAL_MS = 1000 };

struct waiting {
        gc_done_fn done;
        void *data;
};

struct scheduler {
        struct gc gc;
        struct gc_options options;
        struct loop_timer *timer; // loop's thread

        uv_mutex_t mutex; // over the rest
        uv_cond_t ended;
        unsigned n_references;
        bool running, stopping;
        bool asked; // a waiter wants a run
        int64_t deletions, mutations;
        int64_t due_ns;      // monotonic; INT64_MAX: none
        int64_t interval_ns; // how long runs that nobody asked for wait
        int64_t sum_ns, n_runs;
        GArray *waiting; // for the next run
};

static void unref(struct scheduler *self)
{
        uv_mutex_lock(&self->mutex);
        bool last = --self->n_references == 0;
        uv_mutex_unlock(&self->mutex);
        if (!last)
                return;
        g_array_unref(self->waiting);
        uv_cond_destroy(&self->ended);
        uv_mutex_destroy(&self->mutex);
        g_free(self);
}

// ---- one run

static void answer(GArray *waiting, const GError *error)
{
        for (guint i = 0; i < waiting->len; i++) {
                const struct waiting *one = &g_array_index(waiting, struct waiting, i);
                one->done(one->data, error);
        }
}

static void post_rearm(struct scheduler *self);

// Sets when the next run is due, by what happened since the last one. Under the mutex.
static void decide(struct scheduler *self)
{
        const struct gc_options *options = &self->options;
        int64_t now = clock_monotonic_ns(), due = INT64_MAX;
        if (self->running || self->stopping)
                return;
        if (self->asked || (options->deletion_threshold > 0 && self->deletions >= options->deletion_threshold))
                due = now + options->schedule_delay_ns;
        else if (self->deletions > 0 ||
                 (options->mutation_threshold > 0 && self->mutations >= options->mutation_threshold))
                due = now + self->interval_ns;
        if (due >= self->due_ns)
                return;
        self->due_ns = due;
        post_rearm(self);
}

static void note_end(struct scheduler *self, int64_t took_ns, bool ok)
{
        self->running = false;
        self->due_ns = INT64_MAX;
        if (!ok) {
                self->interval_ns = DEFAULT_INTERVAL_MS * NS_PER_MS;
                self->deletions++; // try again
        } else if (self->options.pause_threshold > 0) {
                self->sum_ns += took_ns;
                self->n_runs++;
                double average = MAX((double)self->sum_ns / (double)self->n_runs, (double)MINIMUM_MS * NS_PER_MS);
                self->interval_ns = (int64_t)(average / self->options.pause_threshold - average);
        } else {
                self->interval_ns = DEFAULT_INTERVAL_MS * NS_PER_MS;
        }
}

static void run(void *data)
{
        struct scheduler *self = data;
        g_autoptr(GArray) waiting = NULL;
        g_autoptr(GError) error = NULL;
        uv_mutex_lock(&self->mutex);
        waiting = self->waiting;
        self->waiting = g_array_new(FALSE, FALSE, sizeof(struct waiting));
        self->asked = false;
        self->deletions = self->mutations = 0;
        uv_mutex_unlock(&self->mutex);

        int64_t start_ns = clock_monotonic_ns();
        bool ok = collector_run(&self->options.collector, &error);
        int64_t took_ns = clock_monotonic_ns() - start_ns;
        if (!ok) {
                log_error("garbage collection failed", "error", error->message);
                g_prefix_error(&error, "gc failed: ");
        }
        answer(waiting, error);

        uv_mutex_lock(&self->mutex);
        note_end(self, took_ns, ok);
        decide(self);
        uv_cond_broadcast(&self->ended);
        uv_mutex_unlock(&self->mutex);
        unref(self);
}

// ---- the timer, on the loop's thread

static void on_timer(void *data)
{
        struct scheduler *self = data;
        self->timer = NULL;
        uv_mutex_lock(&self->mutex);
        bool start = !self->running && !self->stopping;
        if (start) {
                self->running = true;
                self->n_references++;
        }
        uv_mutex_unlock(&self->mutex);
        if (start)
                lanes_submit(self->options.lanes, LANE_SLOW, run, self);
}

static void rearm(void *data)
{
        struct scheduler *self = data;
        uv_mutex_lock(&self->mutex);
        int64_t due_ns = self->stopping || self->running ? INT64_MAX : self->due_ns;
        uv_mutex_unlock(&self->mutex);
        if (due_ns != INT64_MAX) {
                int64_t delay_ns = MAX(due_ns - clock_monotonic_ns(), 0);
                if (self->timer != NULL)
                        loop_timer_stop(self->timer);
                self->timer = loop_timer_start(
                        self->options.loop, (uint64_t)((delay_ns + NS_PER_MS - 1) / NS_PER_MS), on_timer, self);
        }
        unref(self);
}

// Under the mutex.
static void post_rearm(struct scheduler *self)
{
        self->n_references++;
        loop_post(self->options.loop, rearm, self);
}

// ---- what others do

static void on_commit(void *data, bool removed)
{
        struct scheduler *self = data;
        uv_mutex_lock(&self->mutex);
        self->mutations++;
        self->deletions += removed;
        decide(self);
        uv_mutex_unlock(&self->mutex);
}

static void on_collect(struct gc *gc, gc_done_fn done, void *data)
{
        struct scheduler *self = (struct scheduler *)gc;
        const struct waiting waiting = {done, data};
        uv_mutex_lock(&self->mutex);
        bool stopping = self->stopping;
        if (!stopping) {
                g_array_append_val(self->waiting, waiting);
                self->asked = true;
                decide(self);
        }
        uv_mutex_unlock(&self->mutex);
        if (stopping) {
                g_autoptr(GError) error = g_error_new(SKIFF_ERROR, ERROR_CANCELED, "the daemon is stopping");
                done(data, error);
        }
}

static const struct gc_ops ops = {.collect = on_collect};

struct gc *gc_scheduler_new(const struct gc_options *options)
{
        struct scheduler *self = g_new0(struct scheduler, 1);
        self->gc.ops = &ops;
        self->options = *options;
        self->options.pause_threshold = CLAMP(options->pause_threshold, 0.0, 0.5);
        self->n_references = 1;
        self->due_ns = INT64_MAX;
        self->interval_ns = DEFAULT_INTERVAL_MS * NS_PER_MS;
        self->waiting = g_array_new(FALSE, FALSE, sizeof(struct waiting));
        g_assert(uv_mutex_init(&self->mutex) == 0);
        g_assert(uv_cond_init(&self->ended) == 0);
        struct metadata *metadata = options->collector.metadata;
        metadata->ops->observe(metadata, on_commit, self);
        if (options->startup_delay_ns > 0) {
                uv_mutex_lock(&self->mutex);
                self->due_ns = clock_monotonic_ns() + options->startup_delay_ns;
                post_rearm(self);
                uv_mutex_unlock(&self->mutex);
        }
        return &self->gc;
}

void gc_scheduler_stop(struct gc *gc)
{
        struct scheduler *self = (struct scheduler *)gc;
        struct metadata *metadata = self->options.collector.metadata;
        metadata->ops->observe(metadata, NULL, NULL);
        uv_mutex_lock(&self->mutex);
        self->stopping = true;
        while (self->running)
                uv_cond_wait(&self->ended, &self->mutex);
        g_autoptr(GArray) waiting = self->waiting;
        self->waiting = g_array_new(FALSE, FALSE, sizeof(struct waiting));
        uv_mutex_unlock(&self->mutex);
        if (self->timer != NULL)
                loop_timer_stop(g_steal_pointer(&self->timer));
        g_autoptr(GError) error = g_error_new(SKIFF_ERROR, ERROR_CANCELED, "the daemon is stopping");
        answer(waiting, error);
        unref(self);
}
