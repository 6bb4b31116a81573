// SPDX-License-Identifier: Apache-2.0
//
// Snapshots by copying: PLUGIN_SNAPSHOTTER "native", a struct snapshot_driver (core/snapshot_driver.h) that works on
// any file system. A snapshot is ROOT/snapshots/N, whole. Threads: worker.
#pragma once

#include "core/plugin.h"
#include "core/snapshot_driver.h"

extern const struct plugin snapshot_native_plugin;

struct snapshot_driver *native_new(const char *root, GError **error);
void native_free(struct snapshot_driver *driver);
