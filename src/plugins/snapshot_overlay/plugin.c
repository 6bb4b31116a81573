// SPDX-License-Identifier: Apache-2.0
#include "plugins/snapshot_overlay/overlay.h"

static void *init(struct plugin_host *host, GError **error)
{
        const char *root = plugin_host_config_string(host, "root_path");
        if (root[0] == '\0')
                root = plugin_host_root_dir(host);
        plugin_host_export(host, "root", root);
        const struct overlay_options options = {
                .root = root,
                .mount_options = plugin_host_config_strings(host, "mount_options"),
                .upperdir_label = plugin_host_config_bool(host, "upperdir_label"),
                .sync_remove = plugin_host_config_bool(host, "sync_remove"),
        };
        return overlay_new(&options, error);
}

static void stop(void *instance)
{
        overlay_free(instance);
}

const struct plugin snapshot_overlay_plugin = {
        .type = PLUGIN_SNAPSHOTTER,
        .id = "overlayfs",
        .settings = (const struct plugin_setting[]){{"root_path", "''"}, {"upperdir_label", "false"},
                {"sync_remove", "false"}, {"slow_chown", "false"}, {"mount_options", "[]"}, {NULL, NULL}},
        .init = init,
        .stop = stop,
        .platforms = true,
        .capabilities = (const char *const[]){"only-remap-ids", "rebase", NULL},
};
