// SPDX-License-Identifier: Apache-2.0
//
// Time as signed nanoseconds: since the Unix epoch (wall clock) or since an arbitrary start (monotonic). Threads: any.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define NS_PER_SECOND INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

int64_t clock_now_ns(void);       // CLOCK_REALTIME
int64_t clock_monotonic_ns(void); // CLOCK_MONOTONIC

// Whole seconds, and the nanoseconds above them, from 0 on: as protobuf's Timestamp has them.
void clock_split(int64_t ns, int64_t *ret_seconds, int32_t *ret_nanos);

// RFC 3339 in UTC with as many fractional digits as are not zero, as Go prints time.RFC3339Nano. Caller frees.
char *clock_format_rfc3339(int64_t ns);
// RFC 3339 (section 5.6), up to nine fractional digits, any offset. False: not such a time, or outside int64.
bool clock_parse_rfc3339(const char *text, int64_t *ret_ns);

// A duration as Go writes it: a sequence of numbers with units ("1h30m", "1.5s", "-300ms", "2us"), or "0".
bool clock_parse_duration(const char *text, int64_t *ret_ns);
