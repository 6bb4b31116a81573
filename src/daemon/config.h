// SPDX-License-Identifier: Apache-2.0
//
// The configuration file: containerd's TOML, versions 2 to 4, held as one tree in the form of version 4. Files named by
// `imports` are merged in; flags override; each plugin's defaults are filled in. Threads: main, constant after the
// start.
#pragma once

#include "base/auto.h"
#include "core/plugin.h"

#include <jansson.h>

#define CONFIG_DEFAULT_PATH "/etc/skiff/config.toml"
#define CONFIG_DEFAULT_ROOT "/var/lib/skiff"
#define CONFIG_DEFAULT_STATE "/run/skiff"
#define CONFIG_DEFAULT_ADDRESS "/run/skiff/skiff.sock"

struct config {
        json_t *tree;
};

struct config *config_new(void);
void config_free(struct config *config);
DEFINE_AUTO(config, config_free)

// Merges the file and its imports over what is there. NOT_FOUND if it does not exist; INVALID_ARGUMENT with place and
// key. Warns of keys that nobody reads.
bool config_load(struct config *config, const char *path, GError **error);
// Checks the types of what is set and adds the defaults of the plugin's settings. Warns of keys that nobody reads.
bool config_add_plugin(struct config *config, const struct plugin *plugin, GError **error);
void config_warn_of_unknown_plugins(const struct config *config, const struct plugin *const *plugins);
// The table of a plugin; borrowed, never NULL after config_add_plugin.
json_t *config_plugin(const struct config *config, const char *type, const char *id);

// Top-level keys. "debug.level" reaches into a table.
const char *config_string(const struct config *config, const char *key);
int64_t config_int(const struct config *config, const char *key);
void config_set_string(struct config *config, const char *key, const char *value);
// The same in the table of a plugin, before its defaults are known.
const char *config_plugin_string(const struct config *config, const char *plugin, const char *key);
void config_set_plugin_string(struct config *config, const char *plugin, const char *key, const char *value);
bool config_list_has(const struct config *config, const char *key, const char *value);
char *config_to_toml(const struct config *config);
