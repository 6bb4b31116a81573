// SPDX-License-Identifier: Apache-2.0
//
// Each plugin gets a host of its own, which knows its configuration, directories and name. The order is found by
// visiting a plugin's requirements before itself; a circle is a bug in the table.
#include "daemon/plugin_set.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct plugin_host {
        struct plugin_set *set;
        const struct plugin *plugin;
        json_t *config; // borrowed from the tree
        void *instance;
        GError *error;
        char *root_dir, *state_dir;
        GPtrArray *exports, *capabilities; // NULL-terminated lists
        GHashTable *kept;                  // strings and lists handed out
        enum { UNSEEN, VISITING, DONE } visit;
};

struct plugin_set {
        struct plugin_set_options options;
        GPtrArray *hosts; // in the order of the table
        GPtrArray *order; // borrowed, in the order of the start
};

static void host_free(void *data)
{
        struct plugin_host *host = data;
        g_clear_error(&host->error);
        g_hash_table_unref(host->kept);
        g_ptr_array_free(host->exports, true);
        g_ptr_array_free(host->capabilities, true);
        g_free(host->root_dir);
        g_free(host->state_dir);
        g_free(host);
}

// A list of texts that ends with NULL.
static GPtrArray *list_new(const char *const *texts)
{
        GPtrArray *list = g_ptr_array_new_with_free_func(g_free);
        for (; texts != NULL && *texts != NULL; texts++)
                g_ptr_array_add(list, g_strdup(*texts));
        g_ptr_array_add(list, NULL);
        return list;
}

static void list_append(GPtrArray *list, const char *text)
{
        g_ptr_array_insert(list, (int)list->len - 1, g_strdup(text));
}

static void *keep(struct plugin_host *host, void *pointer)
{
        g_hash_table_add(host->kept, pointer);
        return pointer;
}

static bool is_disabled(const struct plugin_set *set, const struct plugin *plugin)
{
        g_autofree char *name = g_strdup_printf("%s.%s", plugin->type, plugin->id);
        return config_list_has(set->options.config, "disabled_plugins", name);
}

// Without one of its sockets the daemon is of no use.
static bool is_required(const struct plugin_set *set, const struct plugin *plugin)
{
        if (strcmp(plugin->type, PLUGIN_SERVER) == 0)
                return true;
        g_autofree char *name = g_strdup_printf("%s.%s", plugin->type, plugin->id);
        return config_list_has(set->options.config, "required_plugins", name);
}

static bool matches(const struct plugin_host *host, const char *type, const char *id)
{
        return strcmp(host->plugin->type, type) == 0 && (id == NULL || strcmp(host->plugin->id, id) == 0);
}

static void visit(struct plugin_set *set, struct plugin_host *host)
{
        if (host->visit == DONE)
                return;
        g_assert(host->visit == UNSEEN);
        host->visit = VISITING;
        const struct plugin_requirement *needed = host->plugin->requires_;
        for (; needed != NULL && needed->type != NULL; needed++) {
                for (guint i = 0; i < set->hosts->len; i++) {
                        if (matches(set->hosts->pdata[i], needed->type, needed->id))
                                visit(set, set->hosts->pdata[i]);
                }
        }
        host->visit = DONE;
        g_ptr_array_add(set->order, host);
}

static bool check_requirements(struct plugin_host *host, GError **error)
{
        const struct plugin_requirement *needed = host->plugin->requires_;
        for (; needed != NULL && needed->type != NULL; needed++) {
                if (needed->id == NULL)
                        continue;
                bool found = false;
                for (guint i = 0; i < host->set->hosts->len && !found; i++)
                        found = matches(host->set->hosts->pdata[i], needed->type, needed->id);
                if (!found)
                        return error_fail(error, ERROR_NOT_FOUND, "no plugins registered for %s.%s: not found",
                                needed->type, needed->id);
        }
        return true;
}

static bool start(struct plugin_set *set, struct plugin_host *host, GError **error)
{
        const struct plugin *plugin = host->plugin;
        g_autofree char *name = g_strdup_printf("%s.%s", plugin->type, plugin->id);
        if (check_requirements(host, &host->error)) {
                log_debug("loading plugin", "plugin", name);
                host->instance = plugin->init(host, &host->error);
                g_assert((host->instance == NULL) == (host->error != NULL));
        }
        if (host->error == NULL)
                return true;
        bool skipped = error_is(host->error, ERROR_UNIMPLEMENTED);
        log_record(skipped ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, skipped ? "skip loading plugin" : "failed to load plugin",
                "plugin", name, "error", host->error->message, NULL);
        if (is_required(set, plugin))
                return error_fail(
                        error, error_class(host->error), "load required plugin %s: %s", name, host->error->message);
        return true;
}

static bool add_hosts(struct plugin_set *set, GError **error)
{
        for (size_t i = 0; set->options.plugins[i] != NULL; i++) {
                const struct plugin *plugin = set->options.plugins[i];
                if (!config_add_plugin(set->options.config, plugin, error))
                        return false;
                if (is_disabled(set, plugin))
                        continue;
                struct plugin_host *host = g_new0(struct plugin_host, 1);
                host->set = set;
                host->plugin = plugin;
                host->config = config_plugin(set->options.config, plugin->type, plugin->id);
                host->kept = g_hash_table_new_full(NULL, NULL, g_free, NULL);
                host->exports = list_new(NULL);
                host->capabilities = list_new(plugin->capabilities);
                g_ptr_array_add(set->hosts, host);
        }
        return true;
}

static bool has_host(const struct plugin_set *set, const char *name)
{
        for (guint i = 0; i < set->hosts->len; i++) {
                const struct plugin_host *host = set->hosts->pdata[i];
                g_autofree char *full = g_strdup_printf("%s.%s", host->plugin->type, host->plugin->id);
                if (strcmp(full, name) == 0)
                        return true;
        }
        return false;
}

static bool check_required(const struct plugin_set *set, GError **error)
{
        size_t i;
        json_t *item;
        json_array_foreach (json_object_get(set->options.config->tree, "required_plugins"), i, item) {
                const char *name = json_string_value(item);
                if (name != NULL && !has_host(set, name))
                        return error_fail(
                                error, ERROR_NOT_FOUND, "required plugin %s is disabled or not known: not found", name);
        }
        return true;
}

struct plugin_set *plugin_set_start(const struct plugin_set_options *options, GError **error)
{
        struct plugin_set *set = g_new0(struct plugin_set, 1);
        set->options = *options;
        set->hosts = g_ptr_array_new_with_free_func(host_free);
        set->order = g_ptr_array_new();
        bool good = add_hosts(set, error) && check_required(set, error);
        if (good)
                config_warn_of_unknown_plugins(options->config, options->plugins);
        for (guint i = 0; good && i < set->hosts->len; i++)
                visit(set, set->hosts->pdata[i]);
        for (guint i = 0; good && i < set->order->len; i++)
                good = start(set, set->order->pdata[i], error);
        if (good)
                return set;
        plugin_set_stop(set);
        return NULL;
}

void plugin_set_stop(struct plugin_set *set)
{
        if (set == NULL)
                return;
        for (guint i = set->order->len; i > 0; i--) {
                struct plugin_host *host = set->order->pdata[i - 1];
                if (host->instance != NULL && host->plugin->stop != NULL)
                        host->plugin->stop(host->instance);
        }
        g_ptr_array_unref(set->order);
        g_ptr_array_unref(set->hosts);
        g_free(set);
}

void plugin_set_each(
        struct plugin_set *set, const char *type, void (*fn)(void *data, const char *id, void *instance), void *data)
{
        for (guint i = 0; i < set->order->len; i++) {
                struct plugin_host *host = set->order->pdata[i];
                if (host->instance != NULL && strcmp(host->plugin->type, type) == 0)
                        fn(data, host->plugin->id, host->instance);
        }
}

struct loop *plugin_host_loop(struct plugin_host *host)
{
        return host->set->options.loop;
}

struct lanes *plugin_host_lanes(struct plugin_host *host)
{
        return host->set->options.lanes;
}

static const char *own_dir(struct plugin_host *host, char **dir, const char *base)
{
        if (*dir == NULL) {
                g_autofree char *name = g_strdup_printf("%s.%s", host->plugin->type, host->plugin->id);
                *dir = g_build_filename(base, name, NULL);
        }
        // A failure shows where the directory is first used, with a better text.
        mkdir(*dir, 0711);
        return *dir;
}

const char *plugin_host_root_dir(struct plugin_host *host)
{
        return own_dir(host, &host->root_dir, plugin_host_daemon_root(host));
}

const char *plugin_host_state_dir(struct plugin_host *host)
{
        return own_dir(host, &host->state_dir, plugin_host_daemon_state(host));
}

const char *plugin_host_daemon_root(struct plugin_host *host)
{
        return config_string(host->set->options.config, "root");
}

const char *plugin_host_daemon_state(struct plugin_host *host)
{
        return config_string(host->set->options.config, "state");
}

const char *plugin_host_address(struct plugin_host *host)
{
        json_t *server = config_plugin(host->set->options.config, PLUGIN_SERVER, "grpc");
        return json_string_value(json_object_get(server, "address"));
}

static char *own_program_dir(void)
{
        g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
        return self != NULL ? g_path_get_dirname(self) : g_strdup("/");
}

const char *plugin_host_program(struct plugin_host *host, const char *name, GError **error)
{
        g_autofree char *beside = own_program_dir();
        const char *variable = g_getenv("SKIFF_LIBEXEC");
        // Relative to where skiffd is, so that an installed tree works wherever it was put.
        g_autofree char *path = g_strdup_printf("%s:%s:%s/../libexec/skiff:%s/../bin:" SKIFF_LIBEXECDIR,
                variable != NULL ? variable : "", beside, beside, beside);
        g_auto(GStrv) dirs = g_strsplit(path, ":", 0);
        for (size_t i = 0; dirs[i] != NULL; i++) {
                g_autofree char *full = g_build_filename(dirs[i], name, NULL);
                if (*dirs[i] != 0 && access(full, X_OK) == 0)
                        return keep(host, g_steal_pointer(&full));
        }
        char *found = g_find_program_in_path(name);
        if (found != NULL)
                return keep(host, found);
        error_fail(error, ERROR_NOT_FOUND,
                "program %s is neither beside skiffd nor in " SKIFF_LIBEXECDIR " nor in $PATH", name);
        return NULL;
}

void *plugin_host_get(struct plugin_host *host, const char *type, const char *id)
{
        for (guint i = 0; i < host->set->hosts->len; i++) {
                struct plugin_host *other = host->set->hosts->pdata[i];
                if (other->instance != NULL && matches(other, type, id))
                        return other->instance;
        }
        return NULL;
}

void plugin_host_each(
        struct plugin_host *host, const char *type, void (*fn)(void *data, const char *id, void *instance), void *data)
{
        plugin_set_each(host->set, type, fn, data);
}

static json_t *setting(struct plugin_host *host, const char *key)
{
        json_t *value = json_object_get(host->config, key);
        g_assert(value != NULL); // the settings have no such key
        return value;
}

const char *plugin_host_config_string(struct plugin_host *host, const char *key)
{
        return json_string_value(setting(host, key));
}

int64_t plugin_host_config_int(struct plugin_host *host, const char *key)
{
        return json_integer_value(setting(host, key));
}

double plugin_host_config_double(struct plugin_host *host, const char *key)
{
        return json_number_value(setting(host, key));
}

bool plugin_host_config_bool(struct plugin_host *host, const char *key)
{
        return json_is_true(setting(host, key));
}

const char *const *plugin_host_config_strings(struct plugin_host *host, const char *key)
{
        json_t *list = setting(host, key);
        const char **strings = g_new0(const char *, json_array_size(list) + 1);
        size_t n = 0, i;
        json_t *item;
        json_array_foreach (list, i, item) {
                if (json_is_string(item))
                        strings[n++] = json_string_value(item);
        }
        return keep(host, strings);
}

size_t plugin_host_config_n_tables(struct plugin_host *host, const char *key)
{
        return json_array_size(setting(host, key));
}

const char *plugin_host_config_table_string(struct plugin_host *host, const char *key, size_t index, const char *field)
{
        const char *text = json_string_value(json_object_get(json_array_get(setting(host, key), index), field));
        return text != NULL ? text : "";
}

bool plugin_host_config_table_bool(struct plugin_host *host, const char *key, size_t index, const char *field)
{
        return json_is_true(json_object_get(json_array_get(setting(host, key), index), field));
}

int64_t plugin_host_config_duration_ns(struct plugin_host *host, const char *key)
{
        const char *text = json_string_value(setting(host, key));
        int64_t ns = 0;
        if (!clock_parse_duration(text, &ns))
                log_warn("configuration: not a duration, taken as 0", "key", key, "value", text);
        return ns;
}

size_t plugin_host_count(struct plugin_host *host)
{
        return host->set->order->len;
}

struct plugin_status plugin_host_status(struct plugin_host *host, size_t index)
{
        const struct plugin_host *other = host->set->order->pdata[index];
        return (struct plugin_status){
                .plugin = other->plugin,
                .instance = other->instance,
                .error = other->error,
                .exports = (const char *const *)other->exports->pdata,
                .capabilities = (const char *const *)other->capabilities->pdata,
        };
}

void plugin_host_export(struct plugin_host *host, const char *key, const char *value)
{
        list_append(host->exports, key);
        list_append(host->exports, value);
}

void plugin_host_add_capability(struct plugin_host *host, const char *capability)
{
        list_append(host->capabilities, capability);
}
