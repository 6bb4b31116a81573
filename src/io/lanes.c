// SPDX-License-Identifier: Apache-2.0
//
// A lane is a queue and up to N threads, started one by one when a job finds none idle. A strand holds jobs of its own
// and is itself at most one job of its lane; after a few jobs it goes to the lane's end, so that a busy strand does not
// keep a thread from the others.
#include "io/lanes.h"

#include "io/loop.h"

#include <glib.h>
#include <signal.h>
#include <stdatomic.h>
#include <uv.h>

// Sanitizers make stack frames several times as large.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_BYTES (2 * 1024 * 1024)
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STACK_BYTES (2 * 1024 * 1024)
#endif
#endif
#ifndef STACK_BYTES
#define STACK_BYTES (256 * 1024)
#endif

enum { FAST_THREADS = 4, SLOW_THREADS = 16, JOBS_PER_TURN = 8 };

struct job {
        struct job *next;
        lane_fn fn;
        void *data;
};

struct queue {
        struct job *first, **last;
};

struct worker_lane {
        uv_mutex_t mutex;
        uv_cond_t wake;
        struct queue queue; // this and the rest under mutex
        unsigned n_queued, n_idle, n_threads, max_threads;
        bool stopping;
        uv_thread_t *threads;
};

struct lanes {
        struct loop *inline_loop; // NULL: real threads
        struct worker_lane lanes[2];
};

struct strand {
        atomic_int references;
        struct lanes *lanes;
        enum lane lane;
        uv_mutex_t mutex;
        struct queue queue; // under mutex
        bool scheduled;     // under mutex
};

static void queue_push(struct queue *queue, lane_fn fn, void *data)
{
        struct job *job = g_new(struct job, 1);
        *job = (struct job){.fn = fn, .data = data};
        *queue->last = job;
        queue->last = &job->next;
}

static struct job *queue_pop(struct queue *queue)
{
        struct job *job = queue->first;
        if (job != NULL && (queue->first = job->next) == NULL)
                queue->last = &queue->first;
        return job;
}

static void run_job(struct job *job)
{
        job->fn(job->data);
        g_free(job);
}

static void work(void *data)
{
        struct worker_lane *lane = data;
        uv_mutex_lock(&lane->mutex);
        for (;;) {
                struct job *job = queue_pop(&lane->queue);
                if (job != NULL) {
                        lane->n_queued--;
                        uv_mutex_unlock(&lane->mutex);
                        run_job(job);
                        uv_mutex_lock(&lane->mutex);
                } else if (lane->stopping) {
                        break;
                } else {
                        lane->n_idle++;
                        uv_cond_wait(&lane->wake, &lane->mutex);
                        lane->n_idle--;
                }
        }
        uv_mutex_unlock(&lane->mutex);
}

// Signals are the main thread's, but for those by which the kernel tells a thread of its own fault. A new thread has
// the mask of the one that starts it.
static void start_thread(struct worker_lane *lane)
{
        static const int own_faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
        uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK_BYTES};
        sigset_t held, before;
        sigfillset(&held);
        for (size_t i = 0; i < G_N_ELEMENTS(own_faults); i++)
                sigdelset(&held, own_faults[i]);
        pthread_sigmask(SIG_SETMASK, &held, &before);
        if (uv_thread_create_ex(&lane->threads[lane->n_threads], &options, work, lane) == 0)
                lane->n_threads++;
        else
                g_assert(lane->n_threads > 0);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void lane_init(struct worker_lane *lane, unsigned max_threads)
{
        g_assert(uv_mutex_init(&lane->mutex) == 0);
        g_assert(uv_cond_init(&lane->wake) == 0);
        lane->queue.last = &lane->queue.first;
        lane->max_threads = max_threads;
        lane->threads = g_new0(uv_thread_t, max_threads);
}

static void lane_done(struct worker_lane *lane)
{
        uv_mutex_lock(&lane->mutex);
        lane->stopping = true;
        uv_cond_broadcast(&lane->wake);
        // A last job may still start a thread, so the count is read again each time.
        for (unsigned i = 0; i < lane->n_threads; i++) {
                uv_thread_t thread = lane->threads[i];
                uv_mutex_unlock(&lane->mutex);
                uv_thread_join(&thread);
                uv_mutex_lock(&lane->mutex);
        }
        uv_mutex_unlock(&lane->mutex);
        g_assert(lane->queue.first == NULL);
        g_free(lane->threads);
        uv_cond_destroy(&lane->wake);
        uv_mutex_destroy(&lane->mutex);
}

struct lanes *lanes_new(const struct lanes_options *options)
{
        struct lanes *lanes = g_new0(struct lanes, 1);
        unsigned fast = options != NULL ? options->fast_threads : 0;
        unsigned slow = options != NULL ? options->slow_threads : 0;
        lane_init(&lanes->lanes[LANE_FAST], fast != 0 ? fast : FAST_THREADS);
        lane_init(&lanes->lanes[LANE_SLOW], slow != 0 ? slow : SLOW_THREADS);
        return lanes;
}

struct lanes *lanes_new_inline(struct loop *loop)
{
        struct lanes *lanes = g_new0(struct lanes, 1);
        lanes->inline_loop = loop;
        return lanes;
}

void lanes_join(struct lanes *lanes, struct loop *loop)
{
        if (lanes == NULL || lanes->inline_loop != NULL)
                return;
        // SLOW jobs may leave something for FAST, so that one ends last.
        lane_done(&lanes->lanes[LANE_SLOW]);
        lane_done(&lanes->lanes[LANE_FAST]);
        lanes->inline_loop = loop;
}

void lanes_free(struct lanes *lanes)
{
        if (lanes == NULL)
                return;
        if (lanes->inline_loop == NULL)
                lanes_join(lanes, NULL);
        g_free(lanes);
}

void lanes_submit(struct lanes *lanes, enum lane which, lane_fn fn, void *data)
{
        if (lanes->inline_loop != NULL) {
                loop_post(lanes->inline_loop, fn, data);
                return;
        }
        struct worker_lane *lane = &lanes->lanes[which];
        uv_mutex_lock(&lane->mutex);
        queue_push(&lane->queue, fn, data);
        lane->n_queued++;
        if (lane->n_queued > lane->n_idle && lane->n_threads < lane->max_threads)
                start_thread(lane);
        uv_cond_signal(&lane->wake);
        uv_mutex_unlock(&lane->mutex);
}

struct strand *strand_new(struct lanes *lanes, enum lane lane)
{
        struct strand *strand = g_new0(struct strand, 1);
        atomic_init(&strand->references, 1);
        strand->lanes = lanes;
        strand->lane = lane;
        strand->queue.last = &strand->queue.first;
        g_assert(uv_mutex_init(&strand->mutex) == 0);
        return strand;
}

struct strand *strand_ref(struct strand *strand)
{
        atomic_fetch_add_explicit(&strand->references, 1, memory_order_relaxed);
        return strand;
}

void strand_unref(struct strand *strand)
{
        if (strand == NULL || atomic_fetch_sub_explicit(&strand->references, 1, memory_order_acq_rel) != 1)
                return;
        g_assert(strand->queue.first == NULL);
        uv_mutex_destroy(&strand->mutex);
        g_free(strand);
}

// Runs with the reference that strand_submit took when it scheduled the strand.
static void run_strand(void *data)
{
        struct strand *strand = data;
        for (int i = 0; i < JOBS_PER_TURN; i++) {
                uv_mutex_lock(&strand->mutex);
                struct job *job = queue_pop(&strand->queue);
                if (job == NULL)
                        strand->scheduled = false;
                uv_mutex_unlock(&strand->mutex);
                if (job == NULL) {
                        strand_unref(strand);
                        return;
                }
                run_job(job);
        }
        lanes_submit(strand->lanes, strand->lane, run_strand, strand);
}

void strand_submit(struct strand *strand, lane_fn fn, void *data)
{
        uv_mutex_lock(&strand->mutex);
        queue_push(&strand->queue, fn, data);
        bool schedule = !strand->scheduled;
        strand->scheduled = true;
        uv_mutex_unlock(&strand->mutex);
        if (schedule)
                lanes_submit(strand->lanes, strand->lane, run_strand, strand_ref(strand));
}
