// SPDX-License-Identifier: Apache-2.0
//
// The process that serves one container, or the containers of one group, until it is told to shut down.
#pragma once

#include "shim/bootstrap.h"

// The socket is descriptor 3, already listening, or made at flags->socket. Ends the
// process; returns only if it cannot serve.
bool server_run(const struct shim_flags *flags, GError **error);

// For the allocator of the serving shim, which glibc takes from the environment at the start only: most shims wait for
// years, so what a request took goes back to the system at once. server_run removes it from the environment.
#define SERVER_TUNABLES                                                                                                \
        "glibc.malloc.tcache_count=0:glibc.malloc.mmap_threshold=4096:glibc.malloc.trim_threshold=4096:"               \
        "glibc.malloc.top_pad=4096"

enum { SERVER_SOCKET_FD = 3 };
