// SPDX-License-Identifier: Apache-2.0
//
// The content store on a local file system, as a plugin. Threads: main.
#pragma once

#include "core/plugin.h"

extern const struct plugin content_local_plugin;
