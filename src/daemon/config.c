// SPDX-License-Identifier: Apache-2.0
//
// Older files are brought to version 4 before they are merged: versions 2 and 3 have the tables [grpc], [ttrpc],
// [debug] and [metrics], whose keys belong to plugins of type io.containerd.server.v1 since.
#include "daemon/config.h"

#include "base/log.h"
#include "codec/toml.h"

#include <glob.h>
#include <string.h>

enum { CURRENT_VERSION = 4, MAX_IMPORT_DEPTH = 8, MAX_FILE_BYTES = 1024 * 1024 };

static json_t *child(json_t *object, const char *key)
{
        json_t *value = json_object_get(object, key);
        if (value == NULL) {
                value = json_object();
                json_object_set_new(object, key, value);
        }
        return value;
}

// The table that holds the last part of a dotted key; parts before it are made.
static json_t *parent_of(const struct config *config, const char *key, const char **ret_last)
{
        json_t *table = config->tree;
        const char *dot;
        while ((dot = strchr(key, '.')) != NULL) {
                g_autofree char *part = g_strndup(key, (size_t)(dot - key));
                table = child(table, part);
                key = dot + 1;
        }
        *ret_last = key;
        return table;
}

struct config *config_new(void)
{
        struct config *config = g_new0(struct config, 1);
        config->tree = json_pack("{s:i, s:s, s:s, s:[], s:[], s:i, s:[], s:{s:s, s:s}, s:{}, s:{}}", "version",
                CURRENT_VERSION, "root", CONFIG_DEFAULT_ROOT, "state", CONFIG_DEFAULT_STATE, "disabled_plugins",
                "required_plugins", "oom_score", 0, "imports", "debug", "level", "info", "format", "text", "plugins",
                "timeouts");
        g_assert(config->tree != NULL);
        return config;
}

void config_free(struct config *config)
{
        if (config == NULL)
                return;
        json_decref(config->tree);
        g_free(config);
}

// Moves some keys of a top-level table of version 3 to a plugin of version 4.
static void move_table(json_t *tree, const char *table_name, const char *plugin, const char *const *keys)
{
        json_t *table = json_object_get(tree, table_name);
        if (!json_is_object(table))
                return;
        json_t *target = child(child(tree, "plugins"), plugin);
        for (size_t i = 0; keys[i] != NULL; i++) {
                json_t *value = json_object_get(table, keys[i]);
                if (value == NULL)
                        continue;
                json_object_set(target, keys[i], value);
                json_object_del(table, keys[i]);
        }
        if (json_object_size(table) == 0)
                json_object_del(tree, table_name);
}

static void migrate(json_t *tree, int version)
{
        static const char *const socket_keys[] = {
                "address", "uid", "gid", "max_recv_message_size", "max_send_message_size", NULL};
        static const char *const debug_keys[] = {"address", "uid", "gid", NULL};
        static const char *const metrics_keys[] = {"address", NULL};
        if (version < 4) {
                move_table(tree, "grpc", "io.containerd.server.v1.grpc", socket_keys);
                move_table(tree, "ttrpc", "io.containerd.server.v1.ttrpc", socket_keys);
                move_table(tree, "debug", "io.containerd.server.v1.debug", debug_keys);
                move_table(tree, "metrics", "io.containerd.server.v1.metrics", metrics_keys);
        }
        json_object_del(tree, "version");
}

// Tables are merged, lists of strings joined, everything else replaced: as containerd treats imports.
static void merge(json_t *target, json_t *source)
{
        const char *key;
        json_t *value;
        json_object_foreach (source, key, value) {
                json_t *old = json_object_get(target, key);
                if (json_is_object(old) && json_is_object(value))
                        merge(old, value);
                else if (json_is_array(old) && json_is_array(value) && strcmp(key, "imports") != 0)
                        json_array_extend(old, value);
                else
                        json_object_set(target, key, value);
        }
}

static json_t *read_file(const char *path, GError **error)
{
        g_autofree char *text = NULL;
        gsize length;
        g_autoptr(GError) failed = NULL;
        if (!g_file_get_contents(path, &text, &length, &failed)) {
                error_fail(error,
                        g_error_matches(failed, G_FILE_ERROR, G_FILE_ERROR_NOENT) ? ERROR_NOT_FOUND : ERROR_UNKNOWN,
                        "read configuration: %s", failed->message);
                return NULL;
        }
        if (length > MAX_FILE_BYTES) {
                error_fail(error, ERROR_INVALID_ARGUMENT, "%s: larger than a configuration file can be", path);
                return NULL;
        }
        return toml_parse(text, length, path, error);
}

static bool same_type(const json_t *value, const json_t *fallback)
{
        return json_typeof(value) == json_typeof(fallback) || (json_is_boolean(value) && json_is_boolean(fallback)) ||
               (json_is_integer(value) && json_is_real(fallback));
}

static const char *type_text(const json_t *value)
{
        if (json_is_string(value))
                return "a string";
        if (json_is_boolean(value))
                return "true or false";
        return json_is_array(value) ? "a list" : json_is_object(value) ? "a table" : "a number";
}

static bool is_empty(const json_t *value)
{
        const char *key;
        json_t *item;
        json_object_foreach ((json_t *)value, key, item) {
                if (!is_empty(item))
                        return false;
        }
        return json_is_object(value) || (json_is_string(value) && json_string_length(value) == 0) ||
               (json_is_array(value) && json_array_size(value) == 0);
}

// What a file sets outside of plugins, compared with the defaults. containerd's own defaults contain empty tables of
// things that are not here, which is no reason to warn.
static bool check_table(json_t *table, json_t *defaults, const char *path, const char *prefix, GError **error)
{
        const char *key;
        json_t *value;
        json_object_foreach (table, key, value) {
                const json_t *fallback = json_object_get(defaults, key);
                g_autofree char *name = g_strconcat(prefix, key, NULL);
                if (fallback != NULL && !same_type(value, fallback))
                        return error_fail(error, ERROR_INVALID_ARGUMENT, "%s: %s must be %s, not %s", path, name,
                                type_text(fallback), type_text(value));
                if (fallback == NULL && !is_empty(value))
                        log_warn("configuration key is not known and has no effect", "file", path, "key", name);
        }
        return true;
}

static bool check_file(const struct config *config, json_t *tree, const char *path, GError **error)
{
        return check_table(tree, config->tree, path, "", error) &&
               check_table(
                       json_object_get(tree, "debug"), json_object_get(config->tree, "debug"), path, "debug.", error);
}

static bool load_depth(struct config *config, const char *path, int depth, GError **error);

static bool load_imports(struct config *config, const char *path, json_t *imports, int depth, GError **error)
{
        g_autofree char *folder = g_path_get_dirname(path);
        size_t i;
        json_t *import;
        json_array_foreach (imports, i, import) {
                if (!json_is_string(import))
                        return error_fail(error, ERROR_INVALID_ARGUMENT, "%s: imports: not a string", path);
                const char *pattern = json_string_value(import);
                g_autofree char *full =
                        g_path_is_absolute(pattern) ? g_strdup(pattern) : g_build_filename(folder, pattern, NULL);
                glob_t found = {0};
                bool good = true;
                if (glob(full, 0, NULL, &found) == 0) {
                        for (size_t k = 0; good && k < found.gl_pathc; k++)
                                good = load_depth(config, found.gl_pathv[k], depth + 1, error);
                }
                globfree(&found);
                if (!good)
                        return false;
        }
        return true;
}

static bool load_depth(struct config *config, const char *path, int depth, GError **error)
{
        if (depth > MAX_IMPORT_DEPTH)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "%s: imports are nested too deeply", path);
        json_t *tree = read_file(path, error);
        if (tree == NULL)
                return false;
        json_t *version = json_object_get(tree, "version");
        json_int_t number = json_is_integer(version) ? json_integer_value(version) : 0;
        if (number < 2 || number > CURRENT_VERSION) {
                json_decref(tree);
                return error_fail(error, ERROR_INVALID_ARGUMENT,
                        "%s: expected configuration version 2, 3 or 4: start the file with `version = %d`", path,
                        CURRENT_VERSION);
        }
        migrate(tree, (int)number);
        bool good = check_file(config, tree, path, error);
        if (good)
                merge(config->tree, tree);
        json_t *imports = json_incref(json_object_get(tree, "imports"));
        json_decref(tree);
        good = good && load_imports(config, path, imports, depth, error);
        json_decref(imports);
        return good;
}

bool config_load(struct config *config, const char *path, GError **error)
{
        return load_depth(config, path, 0, error);
}

static json_t *parse_fallback(const struct plugin_setting *setting)
{
        g_autofree char *line = g_strdup_printf("value = %s", setting->fallback);
        json_t *table = toml_parse(line, strlen(line), setting->key, NULL);
        g_assert(table != NULL);
        json_t *value = json_incref(json_object_get(table, "value"));
        json_decref(table);
        return value;
}

static void warn_of_unknown_keys(json_t *table, const struct plugin *plugin)
{
        const char *key;
        json_t *value;
        json_object_foreach (table, key, value) {
                bool known = false;
                for (const struct plugin_setting *s = plugin->settings; s != NULL && s->key != NULL && !known; s++)
                        known = strcmp(s->key, key) == 0;
                if (!known)
                        log_warn("configuration key is not known and has no effect", "plugin", plugin->id, "key", key);
        }
}

bool config_add_plugin(struct config *config, const struct plugin *plugin, GError **error)
{
        g_autofree char *name = g_strdup_printf("%s.%s", plugin->type, plugin->id);
        json_t *table = child(child(config->tree, "plugins"), name);
        if (!json_is_object(table))
                return error_fail(error, ERROR_INVALID_ARGUMENT, "configuration: plugins.'%s' is not a table", name);
        warn_of_unknown_keys(table, plugin);
        for (const struct plugin_setting *setting = plugin->settings; setting != NULL && setting->key != NULL;
                setting++) {
                json_t *fallback = parse_fallback(setting);
                json_t *value = json_object_get(table, setting->key);
                if (value == NULL) {
                        json_object_set_new(table, setting->key, fallback);
                        continue;
                }
                bool good =
                        same_type(value, fallback) ||
                        error_fail(error, ERROR_INVALID_ARGUMENT, "configuration: plugins.'%s'.%s must be %s, not %s",
                                name, setting->key, type_text(fallback), type_text(value));
                json_decref(fallback);
                if (!good)
                        return false;
        }
        return true;
}

void config_warn_of_unknown_plugins(const struct config *config, const struct plugin *const *plugins)
{
        const char *name;
        json_t *table;
        json_object_foreach (json_object_get(config->tree, "plugins"), name, table) {
                bool known = is_empty(table);
                for (size_t i = 0; plugins[i] != NULL && !known; i++) {
                        g_autofree char *full = g_strdup_printf("%s.%s", plugins[i]->type, plugins[i]->id);
                        known = strcmp(full, name) == 0;
                }
                if (!known)
                        log_warn("plugin is not known, its configuration has no effect", "plugin", name);
        }
}

json_t *config_plugin(const struct config *config, const char *type, const char *id)
{
        g_autofree char *name = g_strdup_printf("%s.%s", type, id);
        return json_object_get(json_object_get(config->tree, "plugins"), name);
}

const char *config_string(const struct config *config, const char *key)
{
        const char *last;
        json_t *table = parent_of(config, key, &last);
        const char *value = json_string_value(json_object_get(table, last));
        return value != NULL ? value : "";
}

int64_t config_int(const struct config *config, const char *key)
{
        const char *last;
        json_t *table = parent_of(config, key, &last);
        return json_integer_value(json_object_get(table, last));
}

void config_set_string(struct config *config, const char *key, const char *value)
{
        const char *last;
        json_t *table = parent_of(config, key, &last);
        json_object_set_new(table, last, json_string(value));
}

const char *config_plugin_string(const struct config *config, const char *plugin, const char *key)
{
        json_t *table = json_object_get(json_object_get(config->tree, "plugins"), plugin);
        const char *value = json_string_value(json_object_get(table, key));
        return value != NULL ? value : "";
}

void config_set_plugin_string(struct config *config, const char *plugin, const char *key, const char *value)
{
        json_object_set_new(child(child(config->tree, "plugins"), plugin), key, json_string(value));
}

bool config_list_has(const struct config *config, const char *key, const char *value)
{
        const char *last;
        json_t *table = parent_of(config, key, &last);
        json_t *list = json_object_get(table, last);
        size_t i;
        json_t *item;
        json_array_foreach (list, i, item) {
                if (g_strcmp0(json_string_value(item), value) == 0)
                        return true;
        }
        return false;
}

char *config_to_toml(const struct config *config)
{
        return toml_format(config->tree);
}
