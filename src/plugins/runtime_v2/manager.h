// SPDX-License-Identifier: Apache-2.0
//
// PLUGIN_RUNTIME_V2 "task": a struct task_runtime (core/task.h) on shims. Threads: main.
#pragma once

#include "core/plugin.h"

extern const struct plugin runtime_v2_plugin;
