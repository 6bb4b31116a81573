// SPDX-License-Identifier: Apache-2.0
//
// What the services share: who calls, and short answers. Threads: any.
#pragma once

#include "rpc/rpc.h"

// The namespace of the call (metadata containerd-namespace, over ttrpc containerd-namespace-ttrpc), checked.
// FAILED_PRECONDITION "namespace is required: failed precondition", INVALID_ARGUMENT. It lives as long as the call.
const char *service_namespace(const struct rpc_call *call, GError **error);

// Answers with an Empty, or with the error if it is set (taken).
void service_reply_empty(struct rpc_call *call, GError *error);
