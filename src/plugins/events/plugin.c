// SPDX-License-Identifier: Apache-2.0
//
// The plugin around the exchange; apart from it, so that tests link the exchange without a plugin host.
#include "plugins/events/exchange.h"

static void *init(struct plugin_host *host, GError **error)
{
        return event_exchange_new(plugin_host_lanes(host));
}

static void stop(void *instance)
{
        event_exchange_free(instance);
}

const struct plugin events_exchange_plugin = {
        .type = PLUGIN_EVENT,
        .id = "exchange",
        .init = init,
        .stop = stop,
};
