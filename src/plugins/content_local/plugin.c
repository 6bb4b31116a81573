// SPDX-License-Identifier: Apache-2.0
//
// The plugin around the store; apart from it, so that tests link the store without a plugin host.
#include "plugins/content_local/plugin.h"

#include "core/event.h"
#include "plugins/content_local/local.h"

static void *init(struct plugin_host *host, GError **error)
{
        struct metadata *metadata = plugin_host_get(host, PLUGIN_METADATA, "bolt");
        if (metadata == NULL) {
                error_fail(error, ERROR_FAILED_PRECONDITION, "there is no metadata store");
                return NULL;
        }
        plugin_host_export(host, "root", plugin_host_root_dir(host));
        return content_local_new(plugin_host_root_dir(host), metadata, plugin_host_get(host, PLUGIN_EVENT, "exchange"),
                metadata->shares_content, error);
}

static void stop(void *instance)
{
        content_local_free(instance);
}

static const struct plugin_requirement requires_[] = {
        {PLUGIN_METADATA, "bolt"},
        {PLUGIN_EVENT, "exchange"},
        {0},
};

const struct plugin content_local_plugin = {
        .type = PLUGIN_CONTENT,
        .id = "content",
        .requires_ = requires_,
        .init = init,
        .stop = stop,
};
