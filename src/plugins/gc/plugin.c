// SPDX-License-Identifier: Apache-2.0
//
// Garbage collection under containerd's name and settings.
#include "plugins/gc/plugin.h"

#include "plugins/gc/scheduler.h"

#include <stdlib.h>

static void export_settings(struct plugin_host *host)
{
        char text[G_ASCII_DTOSTR_BUF_SIZE];
        g_snprintf(text, sizeof text, "%" G_GINT64_FORMAT, plugin_host_config_int(host, "deletion_threshold"));
        plugin_host_export(host, "DeletionThreshold", text);
        g_snprintf(text, sizeof text, "%" G_GINT64_FORMAT, plugin_host_config_int(host, "mutation_threshold"));
        plugin_host_export(host, "MutationThreshold", text);
        g_ascii_formatd(text, sizeof text, "%g", plugin_host_config_double(host, "pause_threshold"));
        plugin_host_export(host, "PauseThreshold", text);
        plugin_host_export(host, "ScheduleDelay", plugin_host_config_string(host, "schedule_delay"));
}

static void *init(struct plugin_host *host, GError **error)
{
        struct metadata *metadata = plugin_host_get(host, PLUGIN_METADATA, "bolt");
        if (metadata == NULL) {
                error_fail(error, ERROR_FAILED_PRECONDITION, "the metadata store did not start");
                return NULL;
        }
        export_settings(host);
        const struct gc_options options = {
                .pause_threshold = plugin_host_config_double(host, "pause_threshold"),
                .deletion_threshold = plugin_host_config_int(host, "deletion_threshold"),
                .mutation_threshold = plugin_host_config_int(host, "mutation_threshold"),
                .schedule_delay_ns = plugin_host_config_duration_ns(host, "schedule_delay"),
                .startup_delay_ns = plugin_host_config_duration_ns(host, "startup_delay"),
                .loop = plugin_host_loop(host),
                .lanes = plugin_host_lanes(host),
                .collector =
                        {
                                .metadata = metadata,
                                .content = plugin_host_get(host, PLUGIN_CONTENT, "content"),
                                .snapshotters = plugin_host_get(host, PLUGIN_SERVICE, "snapshots-service"),
                                .mounts = plugin_host_get(host, PLUGIN_MOUNT_MANAGER, "bolt"),
                                .events = plugin_host_get(host, PLUGIN_EVENT, "exchange"),
                        },
        };
        return gc_scheduler_new(&options);
}

static void stop(void *instance)
{
        gc_scheduler_stop(instance);
}

static const struct plugin_setting settings[] = {
        {"pause_threshold", "0.02"},
        {"deletion_threshold", "0"},
        {"mutation_threshold", "100"},
        {"schedule_delay", "'0s'"},
        {"startup_delay", "'100ms'"},
        {0},
};

static const struct plugin_requirement requires_[] = {
        {PLUGIN_METADATA, "bolt"},
        {PLUGIN_CONTENT, "content"},
        {PLUGIN_SERVICE, "snapshots-service"},
        {PLUGIN_MOUNT_MANAGER, "bolt"},
        {PLUGIN_EVENT, "exchange"},
        {0},
};

const struct plugin gc_plugin = {
        .type = PLUGIN_GC,
        .id = "scheduler",
        .settings = settings,
        .requires_ = requires_,
        .init = init,
        .stop = stop,
};
