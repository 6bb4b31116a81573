// SPDX-License-Identifier: Apache-2.0
//
// The plugin around the exchange; apart from it, so that tests link the exchange without a plugin host.
#include "base/error.h"
#include "plugins/events/exchange.h"
#include "plugins/events/recorder.h"

static void *init(struct plugin_host *host, GError **error)
{
        struct metadata *metadata = plugin_host_get(host, PLUGIN_METADATA, "bolt");
        if (metadata == NULL) {
                error_fail(error, ERROR_NOT_FOUND, "no metadata store: not found");
                return NULL;
        }
        struct event_exchange *exchange = event_exchange_new(plugin_host_lanes(host));
        exchange->ops->set_recorder(exchange, recorder_record, metadata);
        return exchange;
}

static void stop(void *instance)
{
        event_exchange_free(instance);
}

const struct plugin events_exchange_plugin = {
        .type = PLUGIN_EVENT,
        .id = "exchange",
        .requires_ = (const struct plugin_requirement[]){{PLUGIN_METADATA, "bolt"}, {NULL}},
        .init = init,
        .stop = stop,
};
