// SPDX-License-Identifier: Apache-2.0
//
// All snapshotters by name, each a driver with the metadata store: PLUGIN_SERVICE "snapshots-service", a struct
// snapshotters (core/snapshotter.h).
#pragma once

#include "core/plugin.h"

extern const struct plugin snapshots_plugin;
