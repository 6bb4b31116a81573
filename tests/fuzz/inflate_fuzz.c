// SPDX-License-Identifier: Apache-2.0
// gzip, zstd and neither, in pieces whose size the first byte chooses.
#include "codec/inflate.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size == 0)
                return 0;
        size_t piece = data[0] + 1, offset = 1;
        const struct inflater_limits limits = {.max_ratio = 100, .free_bytes = 1024 * 1024};
        AUTO(inflater) inflater = inflater_new(false, &limits);
        uint8_t out[4096];
        for (;;) {
                size_t n = MIN(piece, size - offset);
                struct inflater_step step = {.in = data + offset,
                        .n_in = n,
                        .in_ended = offset + n == size,
                        .out = out,
                        .n_out = sizeof(out)};
                if (!inflater_step(inflater, &step, NULL))
                        break;
                g_assert_cmpuint(step.taken, <=, n);
                g_assert_cmpuint(step.written, <=, sizeof(out));
                offset += step.taken;
                // Without headway before the end it would hang whoever calls it.
                g_assert_true(step.in_ended || step.taken > 0 || step.written > 0);
                if (step.in_ended && step.taken == 0 && step.written == 0)
                        break;
        }
        return 0;
}
