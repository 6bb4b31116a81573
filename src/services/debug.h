// SPDX-License-Identifier: Apache-2.0
//
// skiff.v1.Debug: what the daemon is doing. No plugin, since it is about the server, which comes after them. Threads:
// any.
#pragma once

#include "rpc/server.h"

// What the table's methods are given.
struct debug_service {
        struct rpc_server *server;
        unsigned owner; // the user who may ask, besides root
};

extern const struct rpc_service debug_service_table;
