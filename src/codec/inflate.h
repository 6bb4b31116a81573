// SPDX-License-Identifier: Apache-2.0
//
// Decompression of what comes in pieces: gzip (RFC 1952, any number of members), zstd (RFC 8878, any number of frames),
// or neither, told apart by the first bytes. Does no I/O. Threads: one at a time.
#pragma once

#include "base/auto.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inflater;

struct inflater_limits {
        uint64_t max_ratio;  // plain bytes per compressed byte; 0: none
        uint64_t free_bytes; // plain bytes before the ratio counts
};

// plain: look for no compression. limits may be NULL.
struct inflater *inflater_new(bool plain, const struct inflater_limits *limits);
void inflater_free(struct inflater *inflater);
DEFINE_AUTO(inflater, inflater_free)

// Takes from in and fills out, as much of both as it can; *ret_in and *ret_out say how much. in_ended: nothing comes
// after these bytes. With in_ended and nothing taken nor written, the stream is at its end.
// DATA_LOSS for a damaged or truncated stream, RESOURCE_EXHAUSTED past the limits.
struct inflater_step {
        const uint8_t *in;
        size_t n_in;
        bool in_ended;
        uint8_t *out;
        size_t n_out;
        size_t taken, written; // results
};
bool inflater_step(struct inflater *inflater, struct inflater_step *step, GError **error);

// "gzip", "zstd" or "" once the first bytes were seen.
const char *inflater_format(const struct inflater *inflater);
uint64_t inflater_taken_bytes(const struct inflater *inflater);
uint64_t inflater_written_bytes(const struct inflater *inflater);

// "gzip", "zstd" or "": what bytes at the start of a file look like.
const char *inflate_sniff(const uint8_t *bytes, size_t n_bytes);
