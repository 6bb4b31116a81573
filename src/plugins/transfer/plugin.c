// SPDX-License-Identifier: Apache-2.0
//
// The plugin: its settings, and which kind of transfer two ends ask for.
#include "plugins/transfer/plugin.h"

#include "base/log.h"
#include "codec/platform.h"
#include "core/event.h"
#include "plugins/transfer/kinds.h"

#include <string.h>

static operation_fn choose(const struct transfer_request *request)
{
        static const struct {
                enum transfer_kind source, destination;
                operation_fn begin;
        } kinds[] = {
                {TRANSFER_REGISTRY, TRANSFER_IMAGE_STORE, pull_begin},
                {TRANSFER_IMPORT_STREAM, TRANSFER_IMAGE_STORE, import_begin},
                {TRANSFER_IMAGE_STORE, TRANSFER_EXPORT_STREAM, export_begin},
                {TRANSFER_IMAGE_STORE, TRANSFER_IMAGE_STORE, tag_begin},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
                if (kinds[i].source == request->source.kind && kinds[i].destination == request->destination.kind)
                        return kinds[i].begin;
        return NULL;
}

static void refuse(struct operation *operation)
{
        static const char *const names[] = {
                [TRANSFER_REGISTRY] = "OCI Registry",
                [TRANSFER_IMAGE_STORE] = "Local Image Store",
                [TRANSFER_IMPORT_STREAM] = "*archive.ImageImportStream",
                [TRANSFER_EXPORT_STREAM] = "*archive.ImageExportStream",
        };
        GError *error = NULL;
        error_fail(&error, ERROR_UNIMPLEMENTED, "unable to transfer from %s to %s: not implemented",
                names[operation->request->source.kind], names[operation->request->destination.kind]);
        operation_fail(operation, error);
}

static void transfer(
        struct transferrer *transferrer, const struct transfer_request *request, transfer_done_fn done, void *data)
{
        operation_fn begin = choose(request);
        operation_start((struct transfer_service *)transferrer, request, begin != NULL ? begin : refuse, done, data);
}

static void target_free(void *data)
{
        g_free(((struct unpack_target *)data)->snapshotter);
        g_free(data);
}

static bool is_differ(const char *name)
{
        return name[0] == '\0' || strcmp(name, "walking") == 0;
}

// One table of unpack_config: the platform, the snapshotter and the differ that images are unpacked with.
static bool add_target(struct plugin_host *host, struct transfer_service *service, size_t index, GError **error)
{
        const char *name = plugin_host_config_table_string(host, "unpack_config", index, "snapshotter");
        const char *differ = plugin_host_config_table_string(host, "unpack_config", index, "differ");
        const char *platform_text = plugin_host_config_table_string(host, "unpack_config", index, "platform");
        bool optional = plugin_host_config_table_bool(host, "unpack_config", index, "optional");
        struct platform platform;
        if (!platform_parse(platform_text, &platform, NULL))
                return error_fail(error, ERROR_INVALID_ARGUMENT, PLUGIN_TRANSFER ": platform configuration %s invalid",
                        platform_text);
        bool found = name[0] != '\0' && snapshotters_get(service->snapshotters, name, NULL) != NULL;
        if (optional && (!found || !is_differ(differ)))
                return true;
        if (!found)
                return error_fail(error, ERROR_NOT_FOUND, "snapshotter \"%s\" not found: not found", name);
        if (!is_differ(differ))
                return error_fail(error, ERROR_NOT_FOUND,
                        "failed to get instance for diff plugin \"%s\": no plugins registered: not found", differ);
        struct unpack_target *target = g_new0(struct unpack_target, 1);
        target->platform = platform;
        target->any_architecture = !plugin_host_config_bool(host, "check_platform_supported");
        target->snapshotter = g_strdup(name);
        g_ptr_array_add(service->targets, target);
        return true;
}

static bool add_targets(struct plugin_host *host, struct transfer_service *service, GError **error)
{
        size_t n = plugin_host_config_n_tables(host, "unpack_config");
        for (size_t i = 0; i < n; i++)
                if (!add_target(host, service, i, error))
                        return false;
        return true;
}

static void stop(void *instance)
{
        struct transfer_service *service = instance;
        locks_free(service->locks);
        g_ptr_array_unref(service->targets);
        g_free(service->fetch_program);
        g_free(service->config_path);
        g_free(service);
}

static void *init(struct plugin_host *host, GError **error)
{
        static const struct transferrer_ops ops = {transfer};
        struct transfer_service *service = g_new0(struct transfer_service, 1);
        service->base.ops = &ops;
        service->loop = plugin_host_loop(host);
        service->lanes = plugin_host_lanes(host);
        service->locks = locks_new();
        service->targets = g_ptr_array_new_with_free_func(target_free);
        service->metadata = plugin_host_get(host, PLUGIN_METADATA, "bolt");
        service->content = plugin_host_get(host, PLUGIN_CONTENT, "content");
        service->snapshotters = plugin_host_get(host, PLUGIN_SERVICE, "snapshots-service");
        service->differ = plugin_host_get(host, PLUGIN_DIFFER, "walking");
        service->images = (struct image_store){service->metadata, plugin_host_get(host, PLUGIN_EVENT, "exchange")};
        service->fetch_program = g_strdup(plugin_host_program(host, "skiff-fetch", error));
        service->config_path = g_strdup(plugin_host_config_string(host, "config_path"));
        service->max_downloads = (unsigned)MAX(plugin_host_config_int(host, "max_concurrent_downloads"), 0);
        service->max_unpacks = (unsigned)MAX(plugin_host_config_int(host, "max_concurrent_unpacks"), 1);
        bool complete = service->metadata != NULL && service->content != NULL && service->snapshotters != NULL &&
                        service->differ != NULL;
        if (!complete)
                g_clear_error(error);
        if (!complete)
                error_fail(error, ERROR_FAILED_PRECONDITION, "content, snapshots or the differ are not running");
        if (!complete || service->fetch_program == NULL || !add_targets(host, service, error)) {
                stop(service);
                return NULL;
        }
        return service;
}

static const struct plugin_setting settings[] = {
        {"max_concurrent_downloads", "3"},
        {"concurrent_layer_fetch_buffer", "0"},
        {"max_concurrent_uploaded_layers", "3"},
        {"check_platform_supported", "false"},
        {"config_path", "''"},
        {"max_concurrent_unpacks", "3"},
        {"unpack_config", "[{platform = 'linux', snapshotter = 'overlayfs', differ = 'walking', optional = true}, "
                          "{platform = 'linux', snapshotter = 'native', differ = 'walking', optional = true}]"},
        {0},
};

static const struct plugin_requirement requires_[] = {
        {PLUGIN_METADATA, "bolt"},
        {PLUGIN_CONTENT, "content"},
        {PLUGIN_EVENT, "exchange"},
        {PLUGIN_SERVICE, "snapshots-service"},
        {PLUGIN_DIFFER, "walking"},
        {0},
};

const struct plugin transfer_local_plugin = {
        .type = PLUGIN_TRANSFER,
        .id = "local",
        .settings = settings,
        .requires_ = requires_,
        .init = init,
        .stop = stop,
};
