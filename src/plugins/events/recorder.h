// SPDX-License-Identifier: Apache-2.0
//
// Stores events that must not be lost, exits, before they are published: an event_record_fn of the exchange. Threads:
// any but the loop's, it waits for the disk.
#pragma once

#include "core/event.h"

bool recorder_record(void *metadata, struct event *event, GError **error);
