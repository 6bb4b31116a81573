// SPDX-License-Identifier: Apache-2.0
//
// The table of open streams (core/stream.h), in memory: streams end with their connections.
#pragma once

#include "core/plugin.h"
#include "core/stream.h"

struct stream_manager *streaming_manager_new(void);
void streaming_manager_free(struct stream_manager *manager);

extern const struct plugin streaming_manager_plugin;
