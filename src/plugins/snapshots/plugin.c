// SPDX-License-Identifier: Apache-2.0
#include "plugins/snapshots/plugin.h"

#include "base/log.h"
#include "core/snapshot_repair.h"
#include "core/snapshotter.h"
#include "io/loop.h"

struct collect {
        struct snapshotters *snapshotters;
        struct snapshotter_options options;
        struct loop *loop;
        struct content_store *content;
        struct differ *differ;
        unsigned n_repairs; // under way
};

static void on_repaired_here(void *data)
{
        struct collect *collect = data;
        if (--collect->n_repairs == 0)
                loop_stop(collect->loop);
}

static void on_repaired(void *data)
{
        loop_post(((struct collect *)data)->loop, on_repaired_here, data);
}

static void repair(struct collect *collect, struct snapshotter *snapshotter)
{
        const struct snapshot_repair_options options = {
                .snapshotter = snapshotter,
                .content = collect->content,
                .differ = collect->differ,
                .done = on_repaired,
                .data = collect,
        };
        if (collect->content != NULL && collect->differ != NULL && snapshot_repair_start(&options))
                collect->n_repairs++;
}

// A snapshotter whose rows cannot be read is left out; the others work.
static void add(void *data, const char *id, void *instance)
{
        struct collect *collect = data;
        collect->options.name = id;
        collect->options.driver = instance;
        g_autoptr(GError) error = NULL;
        struct snapshotter *snapshotter = snapshotter_new(&collect->options, &error);
        if (snapshotter == NULL) {
                log_error("snapshotter cannot be used", "snapshotter", id, "error", error->message);
                return;
        }
        snapshotters_add(collect->snapshotters, snapshotter);
        repair(collect, snapshotter);
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
                .loop = plugin_host_loop(host),
                .content = plugin_host_get(host, PLUGIN_CONTENT, "content"),
                .differ = plugin_host_get(host, PLUGIN_DIFFER, "walking"),
        };
        plugin_host_each(host, PLUGIN_SNAPSHOTTER, add, &collect);
        // Nobody may see a snapshot that is being unpacked again: nothing is served yet.
        if (collect.n_repairs > 0)
                loop_run(collect.loop);
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
                {PLUGIN_EVENT, "exchange"}, {PLUGIN_CONTENT, "content"}, {PLUGIN_DIFFER, "walking"}, {NULL, NULL}},
        .init = init,
        .stop = stop,
};
