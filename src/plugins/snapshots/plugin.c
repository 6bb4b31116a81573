// SPDX-License-Identifier: Apache-2.0
#include "plugins/snapshots/plugin.h"

#include "base/log.h"
#include "core/snapshotter.h"

struct collect {
        struct snapshotters *snapshotters;
        struct snapshotter_options options;
};

// A snapshotter whose rows cannot be read is left out; the others work.
static void add(void *data, const char *id, void *instance)
{
        struct collect *collect = data;
        collect->options.name = id;
        collect->options.driver = instance;
        g_autoptr(GError) error = NULL;
        struct snapshotter *snapshotter = snapshotter_new(&collect->options, &error);
        if (snapshotter != NULL)
                snapshotters_add(collect->snapshotters, snapshotter);
        else
                log_error("snapshotter cannot be used", "snapshotter", id, "error", error->message);
}

static void *init(struct plugin_host *host, GError **error)
{
        const char *sync = plugin_host_config_string(host, "commit_sync");
        bool lazy = g_str_equal(sync, "lazy");
        struct metadata *metadata = plugin_host_get(host, PLUGIN_METADATA, "bolt");
        if (!lazy && !g_str_equal(sync, "full")) {
                error_fail(error, ERROR_INVALID_ARGUMENT, "commit_sync is \"%s\", must be \"full\" or \"lazy\"", sync);
                return NULL;
        }
        if (metadata == NULL) {
                error_fail(error, ERROR_NOT_FOUND, "no metadata store: not found");
                return NULL;
        }
        struct collect collect = {
                .snapshotters = snapshotters_new(),
                .options =
                        {
                                .metadata = metadata,
                                .exchange = plugin_host_get(host, PLUGIN_EVENT, "exchange"),
                                .lanes = plugin_host_lanes(host),
                                .lazy_sync = lazy,
                        },
        };
        plugin_host_each(host, PLUGIN_SNAPSHOTTER, add, &collect);
        return collect.snapshotters;
}

static void stop(void *instance)
{
        snapshotters_free(instance);
}

const struct plugin snapshots_plugin = {
        .type = PLUGIN_SERVICE,
        .id = "snapshots-service",
        .settings = (const struct plugin_setting[]){{"commit_sync", "'full'"}, {NULL, NULL}},
        .requires_ = (const struct plugin_requirement[]){{PLUGIN_METADATA, "bolt"}, {PLUGIN_SNAPSHOTTER, NULL},
                {PLUGIN_EVENT, "exchange"}, {NULL, NULL}},
        .init = init,
        .stop = stop,
};
