// SPDX-License-Identifier: Apache-2.0
//
// A region of memory that is freed as a whole: one per received message (protobuf-c decodes into it) and per
// statement's rows. Allocation never fails (memory exhaustion aborts), so whoever decodes bytes from outside checks
// their size first. Threads: one at a time.
#pragma once

#include "base/auto.h"

#include <glib.h>
#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena *arena);
DEFINE_AUTO(arena, arena_free)

// Zeroed, aligned for any type.
void *arena_alloc(struct arena *arena, size_t size);
char *arena_strdup(struct arena *arena, const char *text);
char *arena_printf(struct arena *arena, const char *format, ...) G_GNUC_PRINTF(2, 3);
#define arena_new0(arena, type) ((type *)arena_alloc(arena, sizeof(type)))
#define arena_array(arena, type, n) ((type *)arena_alloc(arena, sizeof(type) * (n)))
size_t arena_used_bytes(const struct arena *arena);

// Takes over what lies in other, which is gone afterwards.
void arena_absorb(struct arena *arena, struct arena *other);

// For protobuf_c_message_unpack: messages live as long as the arena, free_unpacked is not called.
ProtobufCAllocator *arena_allocator(struct arena *arena);
