// SPDX-License-Identifier: Apache-2.0
//
// The socket by which an OCI runtime hands over the master of the terminal that it made for a process. Threads: any.
#pragma once

#include "base/auto.h"

#include <glib.h>

struct console;
// A listening socket in directory, which must be short enough for a socket address.
struct console *console_new(const char *directory, GError **error);
void console_free(struct console *console);
DEFINE_AUTO(console, console_free)
const char *console_path(const struct console *console);
// Once the runtime has ended with success: what it sent. -1 and *error set if it did not.
int console_receive(struct console *console, GError **error);
