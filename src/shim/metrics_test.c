// SPDX-License-Identifier: Apache-2.0
//
// Metrics and OOM kills of cgroup v2, from directories with files as Linux writes them.
#include "cgroups/v2.pb-c.h"
#include "shim/metrics.h"
#include "shim/oom.h"
#include "sys/cgroup.h"
#include "sys/tree.h"

struct fixture {
        char *directory;
        struct cgroup *cgroup;
        struct arena *arena;
};

static void set_up(struct fixture *f, gconstpointer data)
{
        f->directory = g_dir_make_tmp("skiff-cgroup-XXXXXX", NULL);
        f->cgroup = cgroup_at(f->directory);
        f->arena = arena_new();
}

static void tear_down(struct fixture *f, gconstpointer data)
{
        arena_free(f->arena);
        cgroup_free(f->cgroup);
        g_assert_true(tree_remove(f->directory, NULL));
        g_free(f->directory);
}

static void put(struct fixture *f, const char *name, const char *text)
{
        g_autofree char *path = g_build_filename(f->directory, name, NULL);
        g_assert_true(g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
}

static const CgroupsV2__Metrics *read_metrics(struct fixture *f)
{
        return (const CgroupsV2__Metrics *)metrics_read_v2(f->cgroup, f->arena);
}

static void test_reads_memory(struct fixture *f, gconstpointer data)
{
        put(f, "memory.stat", "anon 4096\nfile 8192\nanon_thp 7\npgfault 12\nworkingset_refault_anon 1\n");
        put(f, "memory.events", "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 0\n");
        put(f, "memory.current", "123456\n");
        put(f, "memory.max", "max\n");
        put(f, "memory.pressure",
                "some avg10=1.50 avg60=0.25 avg300=0.00 total=99\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n");
        const CgroupsV2__Metrics *metrics = read_metrics(f);
        g_assert_cmpuint(metrics->memory->anon, ==, 4096);
        g_assert_cmpuint(metrics->memory->file, ==, 8192);
        g_assert_cmpuint(metrics->memory->anon_thp, ==, 7);
        g_assert_cmpuint(metrics->memory->pgfault, ==, 12);
        g_assert_cmpuint(metrics->memory->usage, ==, 123456);
        g_assert_cmpuint(metrics->memory->usage_limit, ==, UINT64_MAX);
        g_assert_cmpfloat(metrics->memory->psi->some->avg10, ==, 1.5);
        g_assert_cmpuint(metrics->memory->psi->some->total, ==, 99);
        g_assert_cmpuint(metrics->memory->psi->full->total, ==, 7);
        g_assert_cmpuint(metrics->memory_events->high, ==, 1);
        g_assert_cmpuint(metrics->memory_events->oom_kill, ==, 4);
}

static void test_reads_cpu_pids_and_devices(struct fixture *f, gconstpointer data)
{
        put(f, "cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 1\nthrottled_usec 5\n");
        put(f, "pids.current", "3\n");
        put(f, "pids.max", "max\n");
        put(f, "io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:1 rbytes=7\nnonsense\n");
        const CgroupsV2__Metrics *metrics = read_metrics(f);
        g_assert_cmpuint(metrics->cpu->usage_usec, ==, 30);
        g_assert_cmpuint(metrics->cpu->throttled_usec, ==, 5);
        g_assert_null(metrics->cpu->psi);
        g_assert_cmpuint(metrics->pids->current, ==, 3);
        g_assert_cmpuint(metrics->pids->limit, ==, UINT64_MAX);
        g_assert_cmpuint(metrics->io->n_usage, ==, 2);
        g_assert_cmpuint(metrics->io->usage[0]->wios, ==, 4);
        g_assert_cmpuint(metrics->io->usage[1]->major, ==, 253);
        g_assert_cmpuint(metrics->io->usage[1]->rbytes, ==, 7);
}

// Controllers that are not delegated, and a container that is gone.
static void test_leaves_out_what_is_not_there(struct fixture *f, gconstpointer data)
{
        put(f, "memory.stat", "anon 1\n"); // without memory.events
        const CgroupsV2__Metrics *metrics = read_metrics(f);
        g_assert_cmpuint(metrics->memory->anon, ==, 1);
        g_assert_null(metrics->cpu);
        g_assert_null(metrics->pids);
        g_assert_null(metrics->io);
        g_assert_cmpuint(metrics->n_hugetlb, ==, 0);
}

static void count(void *data)
{
        ++*(int *)data;
}

static void test_tells_of_oom_kills_alone(struct fixture *f, gconstpointer data)
{
        struct loop *loop = loop_new(NULL);
        int n_kills = 0;
        put(f, "memory.events", "low 0\noom 0\noom_kill 0\n");
        struct oom *oom = oom_watch(loop, f->cgroup, count, &n_kills);
        put(f, "memory.events", "low 0\noom 5\noom_kill 0\n");
        oom_check(oom);
        g_assert_cmpint(n_kills, ==, 0);
        put(f, "memory.events", "low 0\noom 5\noom_kill 1\n");
        oom_check(oom);
        g_assert_cmpint(n_kills, ==, 1);
        oom_check(oom);
        g_assert_cmpint(n_kills, ==, 1);
        oom_free(oom);
        loop_free(loop);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add("/metrics_v2/" name, struct fixture, NULL, set_up, fn, tear_down)
        ADD("reads_memory", test_reads_memory);
        ADD("reads_cpu_pids_and_devices", test_reads_cpu_pids_and_devices);
        ADD("leaves_out_what_is_not_there", test_leaves_out_what_is_not_there);
        ADD("tells_of_oom_kills_alone", test_tells_of_oom_kills_alone);
        return g_test_run();
}
