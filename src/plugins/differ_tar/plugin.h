// SPDX-License-Identifier: Apache-2.0
//
// The differ for tar layers, as a plugin. Threads: main.
#pragma once

#include "core/plugin.h"

extern const struct plugin differ_tar_plugin;
