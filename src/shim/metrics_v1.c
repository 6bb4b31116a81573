// SPDX-License-Identifier: Apache-2.0
//
// cgroup v1: one directory per controller. CPU times come in clock ticks and nanoseconds, block I/O as one line per
// device and operation.
#include "cgroups/v1.pb-c.h"
#include "shim/metrics.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FIELD(key, Type, member)                                                                                       \
        {                                                                                                              \
                key, offsetof(Type, member)                                                                            \
        }
#define MEMORY(key, member) FIELD(key, CgroupsV1__MemoryStat, member)

static const struct metrics_field memory_fields[] = {
        MEMORY("cache", cache),
        MEMORY("rss", rss),
        MEMORY("rss_huge", rss_huge),
        MEMORY("mapped_file", mapped_file),
        MEMORY("dirty", dirty),
        MEMORY("writeback", writeback),
        MEMORY("pgpgin", pg_pg_in),
        MEMORY("pgpgout", pg_pg_out),
        MEMORY("pgfault", pg_fault),
        MEMORY("pgmajfault", pg_maj_fault),
        MEMORY("inactive_anon", inactive_anon),
        MEMORY("active_anon", active_anon),
        MEMORY("inactive_file", inactive_file),
        MEMORY("active_file", active_file),
        MEMORY("unevictable", unevictable),
        MEMORY("hierarchical_memory_limit", hierarchical_memory_limit),
        MEMORY("hierarchical_memsw_limit", hierarchical_swap_limit),
        MEMORY("total_cache", total_cache),
        MEMORY("total_rss", total_rss),
        MEMORY("total_rss_huge", total_rss_huge),
        MEMORY("total_mapped_file", total_mapped_file),
        MEMORY("total_dirty", total_dirty),
        MEMORY("total_writeback", total_writeback),
        MEMORY("total_pgpgin", total_pg_pg_in),
        MEMORY("total_pgpgout", total_pg_pg_out),
        MEMORY("total_pgfault", total_pg_fault),
        MEMORY("total_pgmajfault", total_pg_maj_fault),
        MEMORY("total_inactive_anon", total_inactive_anon),
        MEMORY("total_active_anon", total_active_anon),
        MEMORY("total_inactive_file", total_inactive_file),
        MEMORY("total_active_file", total_active_file),
        MEMORY("total_unevictable", total_unevictable),
};
static const struct metrics_field oom_fields[] = {
        FIELD("oom_kill_disable", CgroupsV1__MemoryOomControl, oom_kill_disable),
        FIELD("under_oom", CgroupsV1__MemoryOomControl, under_oom),
        FIELD("oom_kill", CgroupsV1__MemoryOomControl, oom_kill),
};
static const struct metrics_field throttle_fields[] = {
        FIELD("nr_periods", CgroupsV1__Throttle, periods),
        FIELD("nr_throttled", CgroupsV1__Throttle, throttled_periods),
        FIELD("throttled_time", CgroupsV1__Throttle, throttled_time),
};

static CgroupsV1__MemoryEntry *read_memory_entry(const struct cgroup *cgroup, struct arena *arena, const char *prefix)
{
        CgroupsV1__MemoryEntry *entry = METRICS_NEW(arena, CgroupsV1__MemoryEntry, cgroups_v1__memory_entry__init);
        static const struct metrics_field files[] = {
                FIELD("usage_in_bytes", CgroupsV1__MemoryEntry, usage),
                FIELD("max_usage_in_bytes", CgroupsV1__MemoryEntry, max),
                FIELD("failcnt", CgroupsV1__MemoryEntry, failcnt),
                FIELD("limit_in_bytes", CgroupsV1__MemoryEntry, limit),
        };
        for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
                const char *file = arena_printf(arena, "%s.%s", prefix, files[i].key);
                if (!cgroup_read_number(cgroup, "memory", file, (uint64_t *)((char *)entry + files[i].offset)))
                        return NULL;
        }
        return entry;
}

static void read_memory(const struct cgroup *cgroup, struct arena *arena, CgroupsV1__Metrics *metrics)
{
        g_autofree char *stat = cgroup_read(cgroup, "memory", "memory.stat");
        g_autofree char *oom = cgroup_read(cgroup, "memory", "memory.oom_control");
        if (stat == NULL)
                return;
        metrics->memory = METRICS_NEW(arena, CgroupsV1__MemoryStat, cgroups_v1__memory_stat__init);
        metrics_fill(metrics->memory, memory_fields, G_N_ELEMENTS(memory_fields), stat);
        metrics->memory->usage = read_memory_entry(cgroup, arena, "memory");
        metrics->memory->swap = read_memory_entry(cgroup, arena, "memory.memsw");
        metrics->memory->kernel = read_memory_entry(cgroup, arena, "memory.kmem");
        metrics->memory->kernel_tcp = read_memory_entry(cgroup, arena, "memory.kmem.tcp");
        metrics->memory_oom_control =
                METRICS_NEW(arena, CgroupsV1__MemoryOomControl, cgroups_v1__memory_oom_control__init);
        metrics_fill(metrics->memory_oom_control, oom_fields, G_N_ELEMENTS(oom_fields), oom);
}

static void read_per_cpu(const char *text, struct arena *arena, CgroupsV1__CPUUsage *usage)
{
        size_t n = 0, max = strlen(text) / 2 + 1;
        usage->per_cpu = arena_array(arena, uint64_t, max);
        for (char *end; n < max; text = end) {
                uint64_t value = g_ascii_strtoull(text, &end, 10);
                if (end == text)
                        break;
                usage->per_cpu[n++] = value;
        }
        usage->n_per_cpu = n;
}

static void read_cpu(const struct cgroup *cgroup, struct arena *arena, CgroupsV1__Metrics *metrics)
{
        g_autofree char *throttling = cgroup_read(cgroup, "cpu", "cpu.stat");
        g_autofree char *stat = cgroup_read(cgroup, "cpuacct", "cpuacct.stat");
        g_autofree char *per_cpu = cgroup_read(cgroup, "cpuacct", "cpuacct.usage_percpu");
        CgroupsV1__CPUStat *cpu = METRICS_NEW(arena, CgroupsV1__CPUStat, cgroups_v1__cpustat__init);
        cpu->usage = METRICS_NEW(arena, CgroupsV1__CPUUsage, cgroups_v1__cpuusage__init);
        cpu->throttling = METRICS_NEW(arena, CgroupsV1__Throttle, cgroups_v1__throttle__init);
        if (throttling != NULL)
                metrics_fill(cpu->throttling, throttle_fields, G_N_ELEMENTS(throttle_fields), throttling);
        cgroup_read_number(cgroup, "cpuacct", "cpuacct.usage", &cpu->usage->total);
        uint64_t tick_ns = 1000000000 / (uint64_t)sysconf(_SC_CLK_TCK);
        if (stat != NULL && cgroup_find_number(stat, "user", &cpu->usage->user))
                cpu->usage->user *= tick_ns;
        if (stat != NULL && cgroup_find_number(stat, "system", &cpu->usage->kernel))
                cpu->usage->kernel *= tick_ns;
        if (per_cpu != NULL)
                read_per_cpu(per_cpu, arena, cpu->usage);
        metrics->cpu = cpu;
}

static void read_pids(const struct cgroup *cgroup, struct arena *arena, CgroupsV1__Metrics *metrics)
{
        uint64_t current, limit = 0;
        if (!cgroup_read_number(cgroup, "pids", "pids.current", &current))
                return;
        cgroup_read_number(cgroup, "pids", "pids.max", &limit);
        metrics->pids = METRICS_NEW(arena, CgroupsV1__PidsStat, cgroups_v1__pids_stat__init);
        metrics->pids->current = current;
        metrics->pids->limit = limit == UINT64_MAX ? 0 : limit;
}

static void read_hugetlb(const struct cgroup *cgroup, struct arena *arena, CgroupsV1__Metrics *metrics)
{
        char **sizes = metrics_huge_page_sizes(arena);
        metrics->hugetlb = arena_array(arena, CgroupsV1__HugetlbStat *, g_strv_length(sizes) + 1);
        for (; *sizes != NULL; sizes++) {
                CgroupsV1__HugetlbStat *stat =
                        METRICS_NEW(arena, CgroupsV1__HugetlbStat, cgroups_v1__hugetlb_stat__init);
                stat->pagesize = *sizes;
                const char *usage = arena_printf(arena, "hugetlb.%s.usage_in_bytes", *sizes);
                if (!cgroup_read_number(cgroup, "hugetlb", usage, &stat->usage))
                        continue;
                const char *max = arena_printf(arena, "hugetlb.%s.max_usage_in_bytes", *sizes);
                const char *failcnt = arena_printf(arena, "hugetlb.%s.failcnt", *sizes);
                cgroup_read_number(cgroup, "hugetlb", max, &stat->max);
                cgroup_read_number(cgroup, "hugetlb", failcnt, &stat->failcnt);
                metrics->hugetlb[metrics->n_hugetlb++] = stat;
        }
}

// "8:0 Read 4096", or without an operation "8:0 12"; a last line "Total …" is left out.
static CgroupsV1__BlkIOEntry **read_block_file(
        const struct cgroup *cgroup, struct arena *arena, const char *file, size_t *ret_n)
{
        g_autofree char *text = cgroup_read(cgroup, "blkio", file);
        if (text == NULL)
                return NULL;
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        CgroupsV1__BlkIOEntry **entries = arena_array(arena, CgroupsV1__BlkIOEntry *, g_strv_length(lines) + 1);
        size_t n = 0;
        for (char **line = lines; *line != NULL; line++) {
                unsigned long major, minor, value;
                char operation[16] = "";
                if (sscanf(*line, "%lu:%lu %15[A-Za-z] %lu", &major, &minor, operation, &value) != 4 &&
                        (operation[0] = '\0', sscanf(*line, "%lu:%lu %lu", &major, &minor, &value) != 3))
                        continue;
                CgroupsV1__BlkIOEntry *entry = METRICS_NEW(arena, CgroupsV1__BlkIOEntry, cgroups_v1__blk_ioentry__init);
                entry->major = major;
                entry->minor = minor;
                entry->op = arena_strdup(arena, operation);
                entry->value = value;
                entries[n++] = entry;
        }
        *ret_n = n;
        return entries;
}

static void read_block(const struct cgroup *cgroup, struct arena *arena, CgroupsV1__Metrics *metrics)
{
        if (cgroup_directory(cgroup, "blkio") == NULL)
                return;
        CgroupsV1__BlkIOStat *stat = METRICS_NEW(arena, CgroupsV1__BlkIOStat, cgroups_v1__blk_iostat__init);
        stat->io_service_bytes_recursive = read_block_file(
                cgroup, arena, "blkio.throttle.io_service_bytes_recursive", &stat->n_io_service_bytes_recursive);
        if (stat->io_service_bytes_recursive == NULL)
                stat->io_service_bytes_recursive = read_block_file(
                        cgroup, arena, "blkio.throttle.io_service_bytes", &stat->n_io_service_bytes_recursive);
        stat->io_serviced_recursive =
                read_block_file(cgroup, arena, "blkio.throttle.io_serviced_recursive", &stat->n_io_serviced_recursive);
        if (stat->io_serviced_recursive == NULL)
                stat->io_serviced_recursive =
                        read_block_file(cgroup, arena, "blkio.throttle.io_serviced", &stat->n_io_serviced_recursive);
        metrics->blkio = stat;
}

const ProtobufCMessage *metrics_read_v1(const struct cgroup *cgroup, struct arena *arena)
{
        CgroupsV1__Metrics *metrics = METRICS_NEW(arena, CgroupsV1__Metrics, cgroups_v1__metrics__init);
        read_memory(cgroup, arena, metrics);
        read_cpu(cgroup, arena, metrics);
        read_pids(cgroup, arena, metrics);
        read_hugetlb(cgroup, arena, metrics);
        read_block(cgroup, arena, metrics);
        return &metrics->base;
}
