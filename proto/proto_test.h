// SPDX-License-Identifier: Apache-2.0
// Table of all messages, written by list-descriptors; ends with NULL.
#pragma once

#include <protobuf-c/protobuf-c.h>

extern const ProtobufCMessageDescriptor *const proto_test_messages[];
