// SPDX-License-Identifier: Apache-2.0
//
// skiffd's command line is containerd's: flags, and `config default|dump|migrate`.
#include "base/fd.h"
#include "base/log.h"
#include "daemon/config.h"
#include "daemon/daemon.h"
#include "daemon/plugins.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
        char *config_path, *root, *state, *address, *log_level;
        gboolean version;
        char **rest;
};

static bool parse_options(int *argc, char ***argv, struct options *options, GError **error)
{
        const GOptionEntry entries[] = {
                {"config", 'c', 0, G_OPTION_ARG_FILENAME, &options->config_path, "configuration file", "FILE"},
                {"log-level", 'l', 0, G_OPTION_ARG_STRING, &options->log_level, "trace, debug, info, warn, error",
                        "LEVEL"},
                {"address", 'a', 0, G_OPTION_ARG_STRING, &options->address, "gRPC socket", "PATH"},
                {"root", 0, 0, G_OPTION_ARG_FILENAME, &options->root, "what must outlive a reboot", "DIR"},
                {"state", 0, 0, G_OPTION_ARG_FILENAME, &options->state, "what must not", "DIR"},
                {"version", 'v', 0, G_OPTION_ARG_NONE, &options->version, "print the version", NULL},
                {G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_STRING_ARRAY, &options->rest, "",
                        "[config default|dump|migrate]"},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        g_autoptr(GOptionContext) context = g_option_context_new(NULL);
        g_option_context_set_summary(context, "skiffd: a container runtime daemon, a drop-in for containerd");
        g_option_context_add_main_entries(context, entries, NULL);
        return g_option_context_parse(context, argc, argv, error);
}

static void free_options(struct options *options)
{
        g_free(options->config_path);
        g_free(options->root);
        g_free(options->state);
        g_free(options->address);
        g_free(options->log_level);
        g_strfreev(options->rest);
}

static bool load(struct config *config, const struct options *options, GError **error)
{
        g_autoptr(GError) failed = NULL;
        const char *path = options->config_path != NULL ? options->config_path : CONFIG_DEFAULT_PATH;
        // Without --config the file may be missing.
        if (!config_load(config, path, &failed) &&
                (options->config_path != NULL || !error_is(failed, ERROR_NOT_FOUND))) {
                g_propagate_error(error, g_steal_pointer(&failed));
                return false;
        }
        return true;
}

static bool override(struct config *config, const struct options *options, GError **error)
{
        if (options->root != NULL)
                config_set_string(config, "root", options->root);
        if (options->state != NULL)
                config_set_string(config, "state", options->state);
        if (options->log_level != NULL)
                config_set_string(config, "debug.level", options->log_level);
        if (options->address != NULL)
                config_set_plugin_string(config, "io.containerd.server.v1.grpc", "address", options->address);
        else if (*config_plugin_string(config, "io.containerd.server.v1.grpc", "address") == 0)
                config_set_plugin_string(config, "io.containerd.server.v1.grpc", "address", CONFIG_DEFAULT_ADDRESS);
        return true;
}

static bool configure_log(const struct config *config, GError **error)
{
        const char *level_text = config_string(config, "debug.level"), *format = config_string(config, "debug.format");
        enum log_level level = LOG_LEVEL_INFO;
        if (*level_text != 0 && !log_level_parse(level_text, &level))
                return error_fail(error, ERROR_INVALID_ARGUMENT, "not a valid log level: \"%s\"", level_text);
        log_configure(level, strcmp(format, "json") == 0 ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
        return true;
}

static bool print_config(struct config *config, GError **error)
{
        for (size_t i = 0; builtin_plugins[i] != NULL; i++) {
                if (!config_add_plugin(config, builtin_plugins[i], error))
                        return false;
        }
        g_autofree char *text = config_to_toml(config);
        fputs(text, stdout);
        return true;
}

static bool run_config_command(struct config *config, const struct options *options, GError **error)
{
        const char *what =
                options->rest[0] != NULL && strcmp(options->rest[0], "config") == 0 ? options->rest[1] : NULL;
        if (what != NULL && strcmp(what, "default") == 0)
                return override(config, &(struct options){0}, error) && print_config(config, error);
        // A migrated file is one that was loaded and printed: the tree has the newest version's form.
        if (what != NULL && (strcmp(what, "dump") == 0 || strcmp(what, "migrate") == 0))
                return load(config, options, error) && override(config, options, error) && print_config(config, error);
        return error_fail(error, ERROR_INVALID_ARGUMENT,
                "unknown command \"%s\": try skiffd config default|dump|migrate", options->rest[0]);
}

int main(int argc, char **argv)
{
        fd_open_standard();
        setlocale(LC_CTYPE, "");
        struct options options = {0};
        AUTO(config) config = config_new();
        g_autoptr(GError) error = NULL;
        bool good = parse_options(&argc, &argv, &options, &error);
        if (good && options.version)
                printf("skiffd %s\n", SKIFF_VERSION);
        else if (good && options.rest != NULL)
                good = run_config_command(config, &options, &error);
        else if (good)
                good = load(config, &options, &error) && override(config, &options, &error) &&
                       configure_log(config, &error) && daemon_run(config, &error);
        if (!good)
                fprintf(stderr, "skiffd: %s%s\n", error->message, geteuid() != 0 ? " (skiffd has to run as root)" : "");
        free_options(&options);
        return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
