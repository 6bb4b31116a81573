// SPDX-License-Identifier: Apache-2.0
//
// Protobuf messages from bytes that somebody else wrote: a client, a shim, a worker that a hostile image may have taken
// over. Threads: any.
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <stdint.h>

// The message lives in arena. NULL: INTERNAL with Go's texts ("proto: cannot parse invalid wire-format data", "string
// field contains invalid UTF-8"); RESOURCE_EXHAUSTED if it would grow to many times its size.
const ProtobufCMessage *message_decode(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes,
        size_t length, struct arena *arena, GError **error);
