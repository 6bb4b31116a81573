// SPDX-License-Identifier: Apache-2.0
//
// cgroup v2: one directory, files per controller; pressure ("PSI") where the kernel has it.
#include "cgroups/v2.pb-c.h"
#include "shim/metrics.h"

#include <stdio.h>
#include <string.h>

#define FIELD(key, Type, member)                                                                                       \
        {                                                                                                              \
                key, offsetof(Type, member)                                                                            \
        }
#define MEMORY(key, member) FIELD(key, CgroupsV2__MemoryStat, member)
#define CPU(key, member) FIELD(key, CgroupsV2__CPUStat, member)
#define EVENT(key, member) FIELD(key, CgroupsV2__MemoryEvents, member)

static const struct metrics_field memory_fields[] = {
        MEMORY("anon", anon),
        MEMORY("file", file),
        MEMORY("kernel_stack", kernel_stack),
        MEMORY("slab", slab),
        MEMORY("sock", sock),
        MEMORY("shmem", shmem),
        MEMORY("file_mapped", file_mapped),
        MEMORY("file_dirty", file_dirty),
        MEMORY("file_writeback", file_writeback),
        MEMORY("anon_thp", anon_thp),
        MEMORY("inactive_anon", inactive_anon),
        MEMORY("active_anon", active_anon),
        MEMORY("inactive_file", inactive_file),
        MEMORY("active_file", active_file),
        MEMORY("unevictable", unevictable),
        MEMORY("slab_reclaimable", slab_reclaimable),
        MEMORY("slab_unreclaimable", slab_unreclaimable),
        MEMORY("pgfault", pgfault),
        MEMORY("pgmajfault", pgmajfault),
        MEMORY("workingset_refault", workingset_refault),
        MEMORY("workingset_activate", workingset_activate),
        MEMORY("workingset_nodereclaim", workingset_nodereclaim),
        MEMORY("pgrefill", pgrefill),
        MEMORY("pgscan", pgscan),
        MEMORY("pgsteal", pgsteal),
        MEMORY("pgactivate", pgactivate),
        MEMORY("pgdeactivate", pgdeactivate),
        MEMORY("pglazyfree", pglazyfree),
        MEMORY("pglazyfreed", pglazyfreed),
        MEMORY("thp_fault_alloc", thp_fault_alloc),
        MEMORY("thp_collapse_alloc", thp_collapse_alloc),
};
static const struct metrics_field cpu_fields[] = {
        CPU("usage_usec", usage_usec),
        CPU("user_usec", user_usec),
        CPU("system_usec", system_usec),
        CPU("nr_periods", nr_periods),
        CPU("nr_throttled", nr_throttled),
        CPU("throttled_usec", throttled_usec),
        CPU("nr_bursts", nr_bursts),
        CPU("burst_usec", burst_usec),
};
static const struct metrics_field event_fields[] = {
        EVENT("low", low),
        EVENT("high", high),
        EVENT("max", max),
        EVENT("oom", oom),
        EVENT("oom_kill", oom_kill),
        EVENT("oom_group_kill", oom_group_kill),
};

static CgroupsV2__PSIData *parse_pressure(const char *text, const char *kind, struct arena *arena)
{
        const char *line = strstr(text, kind);
        unsigned long total;
        double values[3];
        // Numbers have a point whatever the locale, which this process never sets.
        if (line == NULL || sscanf(line + strlen(kind), " avg10=%lf avg60=%lf avg300=%lf total=%lu", &values[0],
                                    &values[1], &values[2], &total) != 4)
                return NULL;
        CgroupsV2__PSIData *data = METRICS_NEW(arena, CgroupsV2__PSIData, cgroups_v2__psidata__init);
        data->avg10 = values[0];
        data->avg60 = values[1];
        data->avg300 = values[2];
        data->total = total;
        return data;
}

static CgroupsV2__PSIStats *read_pressure(const struct cgroup *cgroup, struct arena *arena, const char *file)
{
        g_autofree char *text = cgroup_read(cgroup, "", file);
        if (text == NULL)
                return NULL;
        CgroupsV2__PSIStats *stats = METRICS_NEW(arena, CgroupsV2__PSIStats, cgroups_v2__psistats__init);
        stats->some = parse_pressure(text, "some", arena);
        stats->full = parse_pressure(text, "full", arena);
        return stats->some != NULL || stats->full != NULL ? stats : NULL;
}

static void read_memory(const struct cgroup *cgroup, struct arena *arena, CgroupsV2__Metrics *metrics)
{
        g_autofree char *stat = cgroup_read(cgroup, "memory", "memory.stat");
        g_autofree char *events = cgroup_read(cgroup, "memory", "memory.events");
        if (stat == NULL)
                return;
        CgroupsV2__MemoryStat *memory = METRICS_NEW(arena, CgroupsV2__MemoryStat, cgroups_v2__memory_stat__init);
        metrics_fill(memory, memory_fields, G_N_ELEMENTS(memory_fields), stat);
        cgroup_read_number(cgroup, "memory", "memory.current", &memory->usage);
        cgroup_read_number(cgroup, "memory", "memory.max", &memory->usage_limit);
        cgroup_read_number(cgroup, "memory", "memory.peak", &memory->max_usage);
        cgroup_read_number(cgroup, "memory", "memory.swap.current", &memory->swap_usage);
        cgroup_read_number(cgroup, "memory", "memory.swap.max", &memory->swap_limit);
        cgroup_read_number(cgroup, "memory", "memory.swap.peak", &memory->swap_max_usage);
        memory->psi = read_pressure(cgroup, arena, "memory.pressure");
        metrics->memory = memory;
        metrics->memory_events = METRICS_NEW(arena, CgroupsV2__MemoryEvents, cgroups_v2__memory_events__init);
        metrics_fill(metrics->memory_events, event_fields, G_N_ELEMENTS(event_fields), events);
}

static void read_cpu(const struct cgroup *cgroup, struct arena *arena, CgroupsV2__Metrics *metrics)
{
        g_autofree char *stat = cgroup_read(cgroup, "cpu", "cpu.stat");
        if (stat == NULL)
                return;
        metrics->cpu = METRICS_NEW(arena, CgroupsV2__CPUStat, cgroups_v2__cpustat__init);
        metrics_fill(metrics->cpu, cpu_fields, G_N_ELEMENTS(cpu_fields), stat);
        metrics->cpu->psi = read_pressure(cgroup, arena, "cpu.pressure");
}

static void read_pids(const struct cgroup *cgroup, struct arena *arena, CgroupsV2__Metrics *metrics)
{
        uint64_t current, limit = 0;
        if (!cgroup_read_number(cgroup, "pids", "pids.current", &current))
                return;
        cgroup_read_number(cgroup, "pids", "pids.max", &limit);
        metrics->pids = METRICS_NEW(arena, CgroupsV2__PidsStat, cgroups_v2__pids_stat__init);
        metrics->pids->current = current;
        metrics->pids->limit = limit;
}

static void parse_device(char **words, CgroupsV2__IOEntry *entry)
{
        for (; *words != NULL; words++) {
                sscanf(*words, "rbytes=%lu", &entry->rbytes);
                sscanf(*words, "wbytes=%lu", &entry->wbytes);
                sscanf(*words, "rios=%lu", &entry->rios);
                sscanf(*words, "wios=%lu", &entry->wios);
        }
}

static void read_io(const struct cgroup *cgroup, struct arena *arena, CgroupsV2__Metrics *metrics)
{
        g_autofree char *text = cgroup_read(cgroup, "io", "io.stat");
        if (text == NULL)
                return;
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        CgroupsV2__IOStat *io = METRICS_NEW(arena, CgroupsV2__IOStat, cgroups_v2__iostat__init);
        io->usage = arena_array(arena, CgroupsV2__IOEntry *, g_strv_length(lines) + 1);
        for (char **line = lines; *line != NULL; line++) {
                CgroupsV2__IOEntry *entry = METRICS_NEW(arena, CgroupsV2__IOEntry, cgroups_v2__ioentry__init);
                g_auto(GStrv) words = g_strsplit(*line, " ", -1);
                if (*words == NULL || sscanf(*words, "%lu:%lu", &entry->major, &entry->minor) != 2)
                        continue;
                parse_device(words + 1, entry);
                io->usage[io->n_usage++] = entry;
        }
        io->psi = read_pressure(cgroup, arena, "io.pressure");
        metrics->io = io;
}

static void read_hugetlb(const struct cgroup *cgroup, struct arena *arena, CgroupsV2__Metrics *metrics)
{
        char **sizes = metrics_huge_page_sizes(arena);
        metrics->hugetlb = arena_array(arena, CgroupsV2__HugeTlbStat *, g_strv_length(sizes) + 1);
        for (; *sizes != NULL; sizes++) {
                CgroupsV2__HugeTlbStat *stat =
                        METRICS_NEW(arena, CgroupsV2__HugeTlbStat, cgroups_v2__huge_tlb_stat__init);
                stat->pagesize = *sizes;
                const char *current = arena_printf(arena, "hugetlb.%s.current", *sizes);
                if (!cgroup_read_number(cgroup, "hugetlb", current, &stat->current))
                        continue;
                const char *max = arena_printf(arena, "hugetlb.%s.max", *sizes);
                const char *events = arena_printf(arena, "hugetlb.%s.events", *sizes);
                cgroup_read_number(cgroup, "hugetlb", max, &stat->max);
                g_autofree char *text = cgroup_read(cgroup, "hugetlb", events);
                if (text != NULL)
                        cgroup_find_number(text, "max", &stat->failcnt);
                metrics->hugetlb[metrics->n_hugetlb++] = stat;
        }
}

const ProtobufCMessage *metrics_read_v2(const struct cgroup *cgroup, struct arena *arena)
{
        CgroupsV2__Metrics *metrics = METRICS_NEW(arena, CgroupsV2__Metrics, cgroups_v2__metrics__init);
        read_memory(cgroup, arena, metrics);
        read_cpu(cgroup, arena, metrics);
        read_pids(cgroup, arena, metrics);
        read_io(cgroup, arena, metrics);
        read_hugetlb(cgroup, arena, metrics);
        return &metrics->base;
}
