// SPDX-License-Identifier: Apache-2.0
#include "core/metadata.h"
#include "plugins/mounts/manager.h"

static void *init(struct plugin_host *host, GError **error)
{
        struct metadata *metadata = plugin_host_get(host, PLUGIN_METADATA, "bolt");
        if (metadata == NULL) {
                error_fail(error, ERROR_NOT_FOUND, "no metadata store: not found");
                return NULL;
        }
        g_autofree char *targets = g_build_filename(plugin_host_state_dir(host), "t", NULL);
        return mount_manager_new(metadata, targets, plugin_host_daemon_root(host), error);
}

static void stop(void *instance)
{
        mount_manager_free(instance);
}

const struct plugin mount_manager_plugin = {
        .type = PLUGIN_MOUNT_MANAGER,
        .id = "bolt",
        .requires_ = (const struct plugin_requirement[]){{PLUGIN_METADATA, "bolt"}, {NULL, NULL}},
        .init = init,
        .stop = stop,
};
