// SPDX-License-Identifier: Apache-2.0
//
// Blocks of growing size in a list; an allocation larger than a block gets one of its own. Nothing is given back before
// the end, which is what makes protobuf-c's many small pieces cheap.
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>

enum { FIRST_BLOCK_BYTES = 1024, LARGEST_BLOCK_BYTES = 64 * 1024 };

struct block {
        struct block *next;
        size_t size, used;
        _Alignas(max_align_t) unsigned char bytes[];
};

struct arena {
        struct block *blocks;
        size_t used_bytes;
        ProtobufCAllocator allocator;
};

static void *allocator_alloc(void *data, size_t size)
{
        return arena_alloc(data, size);
}

static void allocator_free(void *data, void *pointer)
{
}

struct arena *arena_new(void)
{
        struct arena *arena = g_new0(struct arena, 1);
        arena->allocator = (ProtobufCAllocator){allocator_alloc, allocator_free, arena};
        return arena;
}

void arena_free(struct arena *arena)
{
        if (arena == NULL)
                return;
        for (struct block *block = arena->blocks, *next; block != NULL; block = next) {
                next = block->next;
                g_free(block);
        }
        g_free(arena);
}

static struct block *add_block(struct arena *arena, size_t size)
{
        size_t block_size =
                arena->blocks == NULL ? FIRST_BLOCK_BYTES : MIN(arena->blocks->size * 2, LARGEST_BLOCK_BYTES);
        block_size = MAX(block_size, size);
        struct block *block = g_malloc0(sizeof *block + block_size);
        block->size = block_size;
        block->next = arena->blocks;
        arena->blocks = block;
        return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
        const size_t align = _Alignof(max_align_t);
        g_assert(size <= SIZE_MAX - align);
        size = (size + align - 1) & ~(align - 1);
        struct block *block = arena->blocks;
        if (block == NULL || block->size - block->used < size)
                block = add_block(arena, size);
        void *pointer = block->bytes + block->used;
        block->used += size;
        arena->used_bytes += size;
        return pointer;
}

char *arena_strdup(struct arena *arena, const char *text)
{
        if (text == NULL)
                return NULL;
        size_t size = strlen(text) + 1;
        return memcpy(arena_alloc(arena, size), text, size);
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        g_autofree char *text = g_strdup_vprintf(format, args);
        va_end(args);
        return arena_strdup(arena, text);
}

void arena_absorb(struct arena *arena, struct arena *other)
{
        struct block **last = &arena->blocks; // behind the block that is being filled
        while (*last != NULL)
                last = &(*last)->next;
        *last = g_steal_pointer(&other->blocks);
        arena->used_bytes += other->used_bytes;
        arena_free(other);
}

size_t arena_used_bytes(const struct arena *arena)
{
        return arena->used_bytes;
}

ProtobufCAllocator *arena_allocator(struct arena *arena)
{
        return &arena->allocator;
}
