// SPDX-License-Identifier: Apache-2.0
//
// Loop devices. Threads: worker.
#pragma once

#include <glib.h>
#include <stdbool.h>

struct loop_device_options {
        bool read_only, autoclear, direct_io;
};

// Attaches file to a free loop device. Returns the device's path (caller frees) and an open descriptor on it, which
// keeps an autoclear device until it is mounted.
char *loop_device_attach(const char *file, const struct loop_device_options *options, int *ret_fd, GError **error);
