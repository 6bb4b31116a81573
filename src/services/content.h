// SPDX-License-Identifier: Apache-2.0
//
// The parts of the Content service: content.c answers the unary calls, content_read.c the streams to the client,
// content_write.c the stream Write.
#pragma once

#include "core/content.h"
#include "rpc/rpc.h"

#include "containerd/content.pb-c.h"

Content__Info *content_info_to_proto(const struct blob *blob, struct arena *arena);

// Their service object is the struct content_store.
extern const struct rpc_stream_handler content_list_handler;
extern const struct rpc_stream_handler content_read_handler;
extern const struct rpc_stream_handler content_write_handler;
