// SPDX-License-Identifier: Apache-2.0
//
// The life of the daemon: directories, lock, plugins, sockets, signals, and the way back. Threads: main.
#pragma once

#include "daemon/config.h"

// Serves until SIGTERM or SIGINT. False: it could not start.
bool daemon_run(struct config *config, GError **error);
