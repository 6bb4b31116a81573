// SPDX-License-Identifier: Apache-2.0
//
// The three short commands of a shim: start, delete, and -info. Their forms are containerd's, of all its versions.
#pragma once

#include <glib.h>
#include <stdbool.h>

struct shim_flags {
        char *namespace_, *id, *address, *publish_binary, *bundle, *socket;
        bool debug, info, version;
        const char *action; // "start", "delete"; NULL: serve
};

// Starts the process that serves, or finds the one that serves the same group, and says on stdout where. What is on
// stdin, and the environment, decide the form of the answer: a BootstrapResult for a BootstrapParams; JSON where
// MAX_SHIM_VERSION is set; else the address as one line.
bool bootstrap_start(const struct shim_flags *flags, GError **error);
// For a container whose shim is dead: ends it, unmounts, and writes a DeleteResponse to stdout.
bool bootstrap_delete(const struct shim_flags *flags, GError **error);
// Writes a RuntimeInfo for the runtime options on stdin to stdout.
bool bootstrap_info(GError **error);
