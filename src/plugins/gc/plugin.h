// SPDX-License-Identifier: Apache-2.0
//
// Garbage collection as a plugin. Threads: main.
#pragma once

#include "core/plugin.h"

extern const struct plugin gc_plugin;
