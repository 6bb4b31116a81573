// SPDX-License-Identifier: Apache-2.0
//
// The plugins io.containerd.server.v1 grpc and ttrpc: the listening sockets. Their instance is a struct listener; the
// daemon serves them once every plugin has started. Threads: main.
#pragma once

#include "core/plugin.h"
#include "rpc/server.h"

#include <sys/types.h>

struct listener {
        enum rpc_protocol protocol;
        char *address;
        int fd; // taken by whoever serves it
        size_t max_message_bytes;
        uid_t uid; // the socket's owner
};

extern const struct plugin grpc_listener_plugin, ttrpc_listener_plugin;
