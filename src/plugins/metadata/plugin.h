// SPDX-License-Identifier: Apache-2.0
//
// The metadata store as a plugin. Threads: main.
#pragma once

#include "core/plugin.h"

extern const struct plugin metadata_plugin;
