// SPDX-License-Identifier: Apache-2.0
#include "gc_fixture.h"

#include "base/clock.h"
#include "io/lanes.h"
#include "io/loop.h"
#include "plugins/content_local/local.h"
#include "plugins/gc/scheduler.h"

struct scheduled {
        struct gc_fixture *fixture;
        struct loop *loop;
        struct lanes *lanes;
        struct gc *gc;
        const char *digest;
        int n;
        bool failed;
};

static void stop_loop(void *data, const GError *error)
{
        struct scheduled *scheduled = data;
        scheduled->n++;
        scheduled->failed = error != NULL;
        loop_stop(scheduled->loop);
}

static void start_scheduler(struct scheduled *scheduled, struct gc_fixture *fixture, int64_t startup_delay_ns)
{
        scheduled->fixture = fixture;
        scheduled->loop = loop_new(NULL);
        scheduled->lanes = lanes_new(NULL);
        const struct gc_options options = {
                .pause_threshold = 0.5,
                .mutation_threshold = 100,
                .startup_delay_ns = startup_delay_ns,
                .loop = scheduled->loop,
                .lanes = scheduled->lanes,
                .collector = fixture->collector,
        };
        scheduled->gc = gc_scheduler_new(&options);
}

static void stop_scheduler(struct scheduled *scheduled)
{
        gc_scheduler_stop(scheduled->gc);
        lanes_free(scheduled->lanes);
        loop_free(scheduled->loop);
}

static void answers_after_a_run(struct gc_fixture *fixture, const void *data)
{
        struct scheduled scheduled = {0};
        const char *stray = gc_add_blob(fixture, &gc_scope, "stray", NULL);
        start_scheduler(&scheduled, fixture, 0);
        scheduled.gc->ops->collect(scheduled.gc, stop_loop, &scheduled);
        loop_run(scheduled.loop);
        g_assert_cmpint(scheduled.n, ==, 1);
        g_assert_false(scheduled.failed);
        g_assert_false(gc_has_blob(fixture, stray));
        stop_scheduler(&scheduled);
}

static void look(void *data)
{
        struct scheduled *scheduled = data;
        int64_t size;
        struct content_local *local = (struct content_local *)scheduled->fixture->content;
        if (content_local_blob_size(local, scheduled->digest, &size, NULL))
                loop_timer_start(scheduled->loop, 2, look, scheduled);
        else
                loop_stop(scheduled->loop);
}

static bool mark_removed(struct tx *tx, void *data, GError **error)
{
        struct gc_fixture *fixture = data;
        fixture->metadata->ops->mark_removed(tx);
        const struct lease lease = {.id = "changes something"};
        return fixture->metadata->leases->insert(tx, NS, &lease, error);
}

static void removals_start_a_run(struct gc_fixture *fixture, const void *data)
{
        struct scheduled scheduled = {0};
        start_scheduler(&scheduled, fixture, 0);
        scheduled.digest = gc_add_blob(fixture, &gc_scope, "stray", NULL);
        g_assert_true(metadata_write(fixture->metadata, TX_RELAXED, mark_removed, fixture, NULL));
        loop_timer_start(scheduled.loop, 1, look, &scheduled);
        loop_run(scheduled.loop);
        stop_scheduler(&scheduled);
}

static void runs_after_the_start(struct gc_fixture *fixture, const void *data)
{
        struct scheduled scheduled = {0};
        scheduled.digest = gc_add_blob(fixture, &gc_scope, "stray", NULL);
        start_scheduler(&scheduled, fixture, NS_PER_MS);
        loop_timer_start(scheduled.loop, 1, look, &scheduled);
        loop_run(scheduled.loop);
        stop_scheduler(&scheduled);
}

static void stop_answers_who_waits(struct gc_fixture *fixture, const void *data)
{
        struct scheduled scheduled = {0};
        start_scheduler(&scheduled, fixture, 0);
        scheduled.gc->ops->collect(scheduled.gc, stop_loop, &scheduled); // the loop never runs
        stop_scheduler(&scheduled);
        g_assert_cmpint(scheduled.n, ==, 1);
        g_assert_true(scheduled.failed);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/gc/scheduler/" #name, struct gc_fixture, NULL, gc_set_up, name, gc_tear_down)
        ADD(answers_after_a_run);
        ADD(removals_start_a_run);
        ADD(runs_after_the_start);
        ADD(stop_answers_who_waits);
        return g_test_run();
}
