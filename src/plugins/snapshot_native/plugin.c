// SPDX-License-Identifier: Apache-2.0
#include "plugins/snapshot_native/native.h"

static void *init(struct plugin_host *host, GError **error)
{
        const char *root = plugin_host_config_string(host, "root_path");
        if (root[0] == '\0')
                root = plugin_host_root_dir(host);
        plugin_host_export(host, "root", root);
        return native_new(root, error);
}

static void stop(void *instance)
{
        native_free(instance);
}

const struct plugin snapshot_native_plugin = {
        .type = PLUGIN_SNAPSHOTTER,
        .id = "native",
        .settings = (const struct plugin_setting[]){{"root_path", "''"}, {NULL, NULL}},
        .init = init,
        .stop = stop,
        .platforms = true,
};
