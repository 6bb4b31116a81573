// SPDX-License-Identifier: Apache-2.0
#include "base/fd.h"
#include "io/cancel.h"
#include "io/lanes.h"
#include "io/loop.h"
#include "io/waiter.h"

#include <stdatomic.h>
#include <unistd.h>

enum { MANY = 2000 };

struct order {
        struct loop *loop;
        int next;
        bool in_order;
};

struct numbered {
        struct order *order;
        int number;
};

static void note_order(void *data)
{
        struct numbered *numbered = data;
        struct order *order = numbered->order;
        order->in_order = order->in_order && order->next == numbered->number;
        if (++order->next == MANY && order->loop != NULL)
                loop_stop(order->loop);
        g_free(numbered);
}

static struct numbered *numbered_new(struct order *order, int number)
{
        struct numbered *numbered = g_new(struct numbered, 1);
        *numbered = (struct numbered){order, number};
        return numbered;
}

static void post_many(void *data)
{
        struct order *order = data;
        for (int i = 0; i < MANY; i++)
                loop_post(order->loop, note_order, numbered_new(order, i));
}

static void loop_keeps_the_order_of_posts(void)
{
        struct order order = {.loop = loop_new(NULL), .in_order = true};
        uv_thread_t poster;
        g_assert_cmpint(uv_thread_create(&poster, post_many, &order), ==, 0);
        loop_run(order.loop);
        uv_thread_join(&poster);
        g_assert_true(order.in_order);
        g_assert_cmpint(order.next, ==, MANY);
        loop_free(order.loop);
}

static void stop_loop(void *data)
{
        loop_stop(data);
}

static void fail_loudly(void *data)
{
        g_assert_not_reached();
}

static void loop_timer_fires_once_and_stops(void)
{
        struct loop *loop = loop_new(NULL);
        struct loop_timer *never = loop_timer_start(loop, 1, fail_loudly, NULL);
        loop_timer_stop(never);
        loop_timer_start(loop, 5, stop_loop, loop);
        loop_run(loop);
        loop_free(loop);
}

struct pipe_watch {
        struct loop *loop;
        struct loop_watch *watch;
        int fd;
        char read;
};

static void on_readable(void *data, int events)
{
        struct pipe_watch *pipe_watch = data;
        g_assert_cmpint(read(pipe_watch->fd, &pipe_watch->read, 1), ==, 1);
        loop_watch_stop(pipe_watch->watch);
        loop_stop(pipe_watch->loop);
}

static void loop_watch_reports_readable(void)
{
        int fds[2];
        g_assert_cmpint(pipe(fds), ==, 0);
        struct pipe_watch pipe_watch = {.loop = loop_new(NULL), .fd = fds[0]};
        pipe_watch.watch = loop_watch_start(pipe_watch.loop, fds[0], UV_READABLE, on_readable, &pipe_watch);
        g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
        loop_run(pipe_watch.loop);
        g_assert_cmpint(pipe_watch.read, ==, 'x');
        loop_free(pipe_watch.loop);
        fd_close(&fds[0]);
        fd_close(&fds[1]);
}

static void strand_runs_one_at_a_time_in_order(void)
{
        struct lanes *lanes = lanes_new(NULL);
        struct order order = {.in_order = true}; // no lock: TSan and the order prove that none is needed
        struct strand *strand = strand_new(lanes, LANE_FAST);
        for (int i = 0; i < MANY; i++)
                strand_submit(strand, note_order, numbered_new(&order, i));
        strand_unref(strand);
        lanes_free(lanes);
        g_assert_true(order.in_order);
        g_assert_cmpint(order.next, ==, MANY);
}

struct meeting {
        struct waiter *arrived, *leave;
};

static void attend(void *data)
{
        struct meeting *meeting = data;
        waiter_signal(meeting->arrived);
        g_assert_true(waiter_wait(meeting->leave, 10000));
}

static void lane_starts_a_thread_while_others_are_busy(void)
{
        struct lanes *lanes = lanes_new(NULL);
        struct waiter *leave = waiter_new();
        struct meeting meetings[4];
        for (int i = 0; i < 4; i++) {
                meetings[i] = (struct meeting){waiter_new(), leave};
                lanes_submit(lanes, LANE_SLOW, attend, &meetings[i]);
        }
        for (int i = 0; i < 4; i++)
                g_assert_true(waiter_wait(meetings[i].arrived, 10000));
        waiter_signal(leave);
        lanes_free(lanes);
        for (int i = 0; i < 4; i++)
                waiter_free(meetings[i].arrived);
        waiter_free(leave);
}

static void waiter_times_out(void)
{
        struct waiter *waiter = waiter_new();
        g_assert_false(waiter_wait(waiter, 1));
        waiter_free(waiter);
}

static void count_up(void *data)
{
        (*(int *)data)++;
}

static void cancel_calls_each_watcher_once(void)
{
        AUTO(cancel) cancel = cancel_new();
        int calls = 0, never = 0;
        cancel_watch(cancel, count_up, &calls);
        unsigned long id = cancel_watch(cancel, count_up, &never);
        g_assert_true(cancel_unwatch(cancel, id));
        g_assert_true(cancel_check(cancel, NULL));
        cancel_trigger(cancel, ERROR_CANCELED, "context canceled");
        cancel_trigger(cancel, ERROR_DEADLINE_EXCEEDED, "too late");
        cancel_watch(cancel, count_up, &calls);
        g_assert_cmpint(calls, ==, 2);
        g_assert_cmpint(never, ==, 0);
        g_autoptr(GError) error = NULL;
        g_assert_false(cancel_check(cancel, &error));
        g_assert_true(error_is(error, ERROR_CANCELED));
}

static void cancel_says_what_is_waited_for(void)
{
        AUTO(cancel) cancel = cancel_new();
        struct cancel_note first = {0}, second = {0};
        int64_t first_ns = 0, since_ns = 0;
        g_assert_null(cancel_waits_for(cancel, &since_ns));
        cancel_note_set(&first, cancel, "shim %d", 1);
        cancel_note_set(&second, cancel, "shim %d", 2);
        g_autofree char *both = cancel_waits_for(cancel, &first_ns);
        g_assert_cmpstr(both, ==, "shim 1, and 1 more");
        cancel_note_set(&first, cancel, "its end"); // anew: it waits less long than the other
        cancel_note_clear(&first);
        cancel_note_clear(&first);
        g_autofree char *one = cancel_waits_for(cancel, &since_ns);
        g_assert_cmpstr(one, ==, "shim 2");
        g_assert_cmpint(first_ns, <=, since_ns);
        cancel_note_clear(&second);
        g_assert_null(cancel_waits_for(cancel, &since_ns));
        AUTO(cancel) part = cancel_new_part(cancel);
        cancel_note_set(&first, part, "a part");
        g_autofree char *of_part = cancel_waits_for(cancel, &since_ns);
        g_assert_cmpstr(of_part, ==, "a part");
        cancel_trigger(part, ERROR_CANCELED, "alone");
        g_assert_false(cancel_is_set(cancel));
        cancel_note_set(&first, NULL, "nobody asks");
        cancel_note_clear(&first);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/loop/keeps_the_order_of_posts", loop_keeps_the_order_of_posts);
        g_test_add_func("/loop/timer_fires_once_and_stops", loop_timer_fires_once_and_stops);
        g_test_add_func("/loop/watch_reports_readable", loop_watch_reports_readable);
        g_test_add_func("/strand/runs_one_at_a_time_in_order", strand_runs_one_at_a_time_in_order);
        g_test_add_func("/lane/starts_a_thread_while_others_are_busy", lane_starts_a_thread_while_others_are_busy);
        g_test_add_func("/waiter/times_out", waiter_times_out);
        g_test_add_func("/cancel/calls_each_watcher_once", cancel_calls_each_watcher_once);
        g_test_add_func("/cancel/says_what_is_waited_for", cancel_says_what_is_waited_for);
        return g_test_run();
}
