// SPDX-License-Identifier: Apache-2.0
//
// A container's resource usage as containerd's metrics message for its cgroup mode. Threads: any.
#pragma once

#include "base/arena.h"
#include "sys/cgroup.h"

// What the kernel tells; what it does not tell is left out. The message lives in arena; its descriptor's name is the
// type URL ("io.containerd.cgroups.v1.Metrics").
const ProtobufCMessage *metrics_read(const struct cgroup *cgroup, struct arena *arena);

// One per mode; call metrics_read.
const ProtobufCMessage *metrics_read_v1(const struct cgroup *cgroup, struct arena *arena);
const ProtobufCMessage *metrics_read_v2(const struct cgroup *cgroup, struct arena *arena);

// ---- shared by the two

struct metrics_field {
        char key[28];  // in place: without relocations, all shims share the tables
        size_t offset; // of a uint64_t
};
// Fills each field whose key begins a line of text.
void metrics_fill(void *message, const struct metrics_field *fields, size_t n_fields, const char *text);
#define METRICS_NEW(arena, Type, init)                                                                                 \
        ({                                                                                                             \
                Type *new_message = arena_new0(arena, Type);                                                           \
                init(new_message);                                                                                     \
                new_message;                                                                                           \
        })
// Each huge page size that the host has, as the kernel's files name it ("2MB"), NULL-terminated.
char **metrics_huge_page_sizes(struct arena *arena);
