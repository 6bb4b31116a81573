// SPDX-License-Identifier: Apache-2.0
//
// The process that serves one container, or the containers of one group, until it is told to shut down.
#pragma once

#include "shim/bootstrap.h"

// The socket is descriptor 3, already listening, or made at flags->socket. Ends the
// process; returns only if it cannot serve.
bool server_run(const struct shim_flags *flags, GError **error);

enum { SERVER_SOCKET_FD = 3 };
