// SPDX-License-Identifier: Apache-2.0
// Import archives, compressed or not: the bodies are as long as announced.
#include "fuzz.h"
#include "unpack/archive_split.h"

#include <string.h>

struct input {
        const uint8_t *data;
        size_t size, offset;
        uint64_t left;
};

static ssize_t read_input(void *data, void *bytes, size_t n_bytes)
{
        struct input *input = data;
        size_t n = MIN(n_bytes, input->size - input->offset);
        if (n > 0)
                memcpy(bytes, input->data + input->offset, n);
        input->offset += n;
        return (ssize_t)n;
}

static bool on_file(void *data, const Worker__ArchiveFile *file, GError **error)
{
        struct input *input = data;
        g_assert_cmpuint(input->left, ==, 0);
        input->left = file->size;
        // Sparse files can claim any size: as if the disk were full.
        return file->size <= 16 * 1024 * 1024 || error_fail(error, ERROR_RESOURCE_EXHAUSTED, "too large");
}

static bool on_bytes(void *data, const void *bytes, size_t n_bytes, GError **error)
{
        struct input *input = data;
        g_assert_cmpuint(n_bytes, <=, input->left);
        input->left -= n_bytes;
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input input = {.data = data, .size = size};
        const struct split_options options = {
                .read = read_input,
                .on_file = on_file,
                .on_bytes = on_bytes,
                .data = &input,
                .limits = {.max_ratio = 100, .free_bytes = 1024 * 1024},
                .max_files = 1000,
        };
        AUTO(arena) arena = arena_new();
        if (archive_split(&options, arena, NULL) != NULL)
                g_assert_cmpuint(input.left, ==, 0);
        return 0;
}
