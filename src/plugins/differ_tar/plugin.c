// SPDX-License-Identifier: Apache-2.0
#include "plugins/differ_tar/plugin.h"

#include "base/log.h"
#include "core/content.h"
#include "plugins/differ_tar/differ.h"
#include "sys/mounts.h"

#include <unistd.h>

static const struct differ_ops ops = {
        .apply = differ_tar_apply,
        .advance = differ_tar_advance,
        .abort = differ_tar_abort,
        .unref = differ_tar_unref,
        .settle = differ_tar_settle,
        .compare = differ_tar_compare,
};

// What a daemon that was killed had mounted for the time being.
static void clear_mounts(const char *path)
{
        g_autoptr(GError) error = NULL;
        if (!unmount_below(path, &error)) {
                log_warn("temporary mounts of an earlier run stay", "path", path, "error", error->message);
                return;
        }
        g_autoptr(GDir) directory = g_dir_open(path, 0, NULL);
        const char *name;
        while (directory != NULL && (name = g_dir_read_name(directory)) != NULL) {
                g_autofree char *below = g_build_filename(path, name, NULL);
                rmdir(below);
        }
}

static void *init(struct plugin_host *host, GError **error)
{
        const char *program = plugin_host_program(host, "skiff-unpack", error);
        if (program == NULL)
                return NULL;
        struct unpacker_options options = {
                .loop = plugin_host_loop(host),
                .lanes = plugin_host_lanes(host),
                .program = program,
                .worker_uid = (uint32_t)plugin_host_config_int(host, "worker_uid"),
                .max_ratio = (uint64_t)plugin_host_config_int(host, "max_inflation"),
                .max_entries = (uint64_t)plugin_host_config_int(host, "max_entries"),
        };
        struct differ_tar *differ = g_new0(struct differ_tar, 1);
        differ->differ.ops = &ops;
        differ->differ.unpacker = unpacker_new(&options);
        differ->lanes = options.lanes;
        differ->content = plugin_host_get(host, PLUGIN_CONTENT, "content");
        differ->mounts_dir = g_strdup(plugin_host_state_dir(host));
        clear_mounts(differ->mounts_dir);
        return differ;
}

static void stop(void *instance)
{
        struct differ_tar *differ = instance;
        unpacker_unref(differ->differ.unpacker);
        g_free(differ->mounts_dir);
        g_free(differ);
}

// worker_uid 0: the user _skiff; the limits' 0: what core/unpacker.h says.
static const struct plugin_setting settings[] = {
        {"worker_uid", "0"},
        {"max_inflation", "0"},
        {"max_entries", "0"},
        {0},
};

static const struct plugin_requirement requires_[] = {
        {PLUGIN_CONTENT, "content"},
        {0},
};

const struct plugin differ_tar_plugin = {
        .type = PLUGIN_DIFFER,
        .id = "walking",
        .settings = settings,
        .requires_ = requires_,
        .init = init,
        .stop = stop,
        .platforms = true,
};
