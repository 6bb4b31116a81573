// SPDX-License-Identifier: Apache-2.0
//
// What a fuzz target NAME_fuzz.c has: one function that takes any bytes and neither crashes, leaks, hangs nor grows
// without bound. libFuzzer calls it millions of times; replay.c once for each file of the corpus.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Always returns 0. data is not terminated.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
