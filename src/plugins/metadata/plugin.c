// SPDX-License-Identifier: Apache-2.0
//
// The metadata store under containerd's name and settings. What bolt is there is SQLite here; clients see the name in
// the list of plugins.
#include "plugins/metadata/plugin.h"

#include "core/metadata.h"
#include "store/store.h"

#include <string.h>

static void *init(struct plugin_host *host, GError **error)
{
        const char *policy = plugin_host_config_string(host, "content_sharing_policy");
        if (strcmp(policy, "shared") != 0 && strcmp(policy, "isolated") != 0) {
                error_fail(error, ERROR_INVALID_ARGUMENT,
                        "content_sharing_policy is \"%s\", must be \"shared\" or \"isolated\"", policy);
                return NULL;
        }
        g_autofree char *path = g_build_filename(plugin_host_root_dir(host), "metadata.sqlite", NULL);
        plugin_host_export(host, "policy", policy);
        plugin_host_export(host, "path", path);
        struct metadata *metadata = store_open(path, error);
        if (metadata != NULL)
                metadata->shares_content = strcmp(policy, "shared") == 0;
        return metadata;
}

static void stop(void *instance)
{
        store_close(instance);
}

static const struct plugin_setting settings[] = {
        {"content_sharing_policy", "'shared'"},
        {0},
};

const struct plugin metadata_plugin = {
        .type = PLUGIN_METADATA,
        .id = "bolt",
        .settings = settings,
        .init = init,
        .stop = stop,
};
