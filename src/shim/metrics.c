// SPDX-License-Identifier: Apache-2.0
//
// The kernel's files are lists of "key value" lines; a table per message says which key goes into which field.
#include "shim/metrics.h"

#include <dirent.h>
#include <string.h>

const ProtobufCMessage *metrics_read(const struct cgroup *cgroup, struct arena *arena)
{
        return cgroup_mode(cgroup) == CGROUP_UNIFIED ? metrics_read_v2(cgroup, arena) : metrics_read_v1(cgroup, arena);
}

void metrics_fill(void *message, const struct metrics_field *fields, size_t n_fields, const char *text)
{
        for (size_t i = 0; text != NULL && i < n_fields; i++)
                cgroup_find_number(text, fields[i].key, (uint64_t *)((char *)message + fields[i].offset));
}

char **metrics_huge_page_sizes(struct arena *arena)
{
        enum { MAX_SIZES = 16 };
        static const char prefix[] = "hugepages-";
        char **sizes = arena_array(arena, char *, MAX_SIZES + 1);
        DIR *dir = opendir("/sys/kernel/mm/hugepages");
        if (dir == NULL)
                return sizes;
        size_t n = 0;
        for (struct dirent *entry; n < MAX_SIZES && (entry = readdir(dir)) != NULL;) {
                if (!g_str_has_prefix(entry->d_name, prefix))
                        continue;
                uint64_t kb = g_ascii_strtoull(entry->d_name + strlen(prefix), NULL, 10);
                if (kb >= 1024 * 1024)
                        sizes[n++] = arena_printf(arena, "%luGB", (unsigned long)(kb / (1024 * 1024)));
                else if (kb >= 1024)
                        sizes[n++] = arena_printf(arena, "%luMB", (unsigned long)(kb / 1024));
                else
                        sizes[n++] = arena_printf(arena, "%luKB", (unsigned long)kb);
        }
        closedir(dir);
        return sizes;
}
