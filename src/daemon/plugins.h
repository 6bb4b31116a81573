// SPDX-License-Identifier: Apache-2.0
//
// The one table of built-in plugins.
#pragma once

struct plugin;

extern const struct plugin *const builtin_plugins[]; // ends with NULL
