// SPDX-License-Identifier: Apache-2.0
//
// What the services share: who calls, and short answers. Threads: any.
#pragma once

#include "core/scope.h"
#include "rpc/rpc.h"

// The namespace of the call (metadata containerd-namespace, over ttrpc containerd-namespace-ttrpc), checked.
// FAILED_PRECONDITION "namespace is required: failed precondition", INVALID_ARGUMENT. It lives as long as the call.
const char *service_namespace(const struct rpc_call *call, GError **error);

// The same with the lease (containerd-lease).
bool service_scope(const struct rpc_call *call, struct scope *ret_scope, GError **error);
bool service_stream_scope(const struct rpc_stream *stream, struct scope *ret_scope, GError **error);

// Answers with an Empty, or with the error if it is set (taken).
void service_reply_empty(struct rpc_call *call, GError *error);
