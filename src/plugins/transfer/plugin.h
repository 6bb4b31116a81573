// SPDX-License-Identifier: Apache-2.0
//
// Transfers within the daemon: pull, import, export, tag.
#pragma once

#include "core/plugin.h"

extern const struct plugin transfer_local_plugin;
