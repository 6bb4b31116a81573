// SPDX-License-Identifier: Apache-2.0
//
// The event exchange: PLUGIN_EVENT "exchange", a struct event_exchange (core/event.h). Threads: any.
#pragma once

#include "core/event.h"
#include "core/plugin.h"

struct lanes;

extern const struct plugin events_exchange_plugin;

// Without a plugin host, for tests and tools. Freeing does not end subscriptions: unsubscribe them first.
struct event_exchange *event_exchange_new(struct lanes *lanes);
void event_exchange_free(struct event_exchange *exchange);
