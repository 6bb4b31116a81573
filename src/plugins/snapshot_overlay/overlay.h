// SPDX-License-Identifier: Apache-2.0
//
// Snapshots by overlayfs: PLUGIN_SNAPSHOTTER "overlayfs", a struct snapshot_driver (core/snapshot_driver.h). A snapshot
// is ROOT/snapshots/N with fs, its own content, and, while it is active, work. Threads: worker.
#pragma once

#include "core/plugin.h"
#include "core/snapshot_driver.h"

extern const struct plugin snapshot_overlay_plugin;

struct overlay_options {
        const char *root;
        const char *const *mount_options; // for all overlays, NULL-terminated; NULL: none
        bool upperdir_label;              // Stat shows where a snapshot's own content is
        bool sync_remove;
};

// UNIMPLEMENTED, with the reason, if overlayfs does not work at root.
struct snapshot_driver *overlay_new(const struct overlay_options *options, GError **error);
void overlay_free(struct snapshot_driver *driver);

// Tries overlays in a directory below root. Adds to options what they need on this kernel: userxattr in a user
// namespace, index=off.
bool overlay_probe(const char *root, GPtrArray *options, GError **error);
