// SPDX-License-Identifier: Apache-2.0
//
// FIFOs of which the other end may not be open yet. Threads: any.
#pragma once

#include <glib.h>
#include <stdbool.h>

bool fifo_is(const char *path);
// The writing end, non-blocking, whether anybody reads or not. -1: *error, UNKNOWN.
int fifo_open_writer(const char *path, GError **error);
// Somebody has the reading end open, or waits in open(2) for a writer.
bool fifo_has_reader(int writer);
// The reading end of the same FIFO. -1 on failure, with errno.
int fifo_open_reader_of(int writer);
