// SPDX-License-Identifier: Apache-2.0
//
// Sends events to the daemon (containerd.services.events.ttrpc.v1.Events), in order, each until the daemon took it: an
// exit that happens while it is down is reported when it is back. Threads: the loop's.
#pragma once

#include "base/auto.h"
#include "io/loop.h"

#include <protobuf-c/protobuf-c.h>

struct publisher;
// address "": events are dropped.
struct publisher *publisher_new(struct loop *loop, const char *address, const char *namespace_);
void publisher_free(struct publisher *publisher);
DEFINE_AUTO(publisher, publisher_free)

// Packed at once, with the time of now.
void publisher_send(struct publisher *publisher, const char *topic, const ProtobufCMessage *event);
// Calls done once, later: when all is sent, or after timeout_ms.
void publisher_flush(struct publisher *publisher, unsigned timeout_ms, loop_fn done, void *data);
