// SPDX-License-Identifier: Apache-2.0
//
// Where a registry's content may be had: containerd's hosts.toml and docker's certificate directories, read by the
// daemon for skiff-fetch. Threads: workers (reads files).
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include "skiff/fetch.pb-c.h"

#include <stdbool.h>

struct hosts_request {
        const char *host;           // of the reference
        const char *directory;      // with a directory per host, or several with colons; "": none
        const char *default_scheme; // "": as the host asks for
};

// Sets setup's hosts, in arena. A hosts.toml that cannot be used is logged and left aside, as containerd does.
bool hosts_configure(const struct hosts_request *request, Fetch__Setup *setup, struct arena *arena, GError **error);
