// SPDX-License-Identifier: Apache-2.0
//
// The daemon's plugins: their order, their start and their stop; the implementation of core/plugin.h. Threads: main.
#pragma once

#include "core/plugin.h"
#include "daemon/config.h"

struct plugin_set;

struct plugin_set_options {
        struct config *config;
        struct loop *loop;
        struct lanes *lanes;
        const struct plugin *const *plugins; // ends with NULL
};

// Starts all that are not disabled, in topological order. A failure of one in required_plugins is an error.
struct plugin_set *plugin_set_start(const struct plugin_set_options *options, GError **error);
// In the opposite order. NULL is fine.
void plugin_set_stop(struct plugin_set *set);

void plugin_set_each(
        struct plugin_set *set, const char *type, void (*fn)(void *data, const char *id, void *instance), void *data);
