// SPDX-License-Identifier: Apache-2.0
//
// The mount manager: PLUGIN_MOUNT_MANAGER "bolt", a struct mount_manager (core/mount_manager.h). Threads: workers.
#pragma once

#include "core/mount_manager.h"
#include "core/plugin.h"

struct metadata;

extern const struct plugin mount_manager_plugin;

// targets: where mounts are made, a directory of its own in the daemon's state; root: below which mkdir and mkfs may
// write. Takes up what an earlier daemon of this boot left there.
struct mount_manager *mount_manager_new(
        struct metadata *metadata, const char *targets, const char *root, GError **error);
// Leaves the mounts as they are.
void mount_manager_free(struct mount_manager *manager);
