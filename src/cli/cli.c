// SPDX-License-Identifier: Apache-2.0
//
// Options, the connection, and errors that say what to do.
#include "cli/cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

// ---- options

static bool check_count(const struct command *command, const struct cli_usage *usage, int n)
{
        if (n >= usage->min && (usage->max < 0 || n <= usage->max))
                return true;
        cli_fail_text("too %s arguments; usage: skiff %s [OPTION…]%s%s", n < usage->min ? "few" : "many", command->name,
                *command->arguments != '\0' ? " " : "", command->arguments);
        return false;
}

static void replace(char **setting, char **value)
{
        if (*value == NULL)
                return;
        g_free(*setting);
        *setting = g_steal_pointer(value);
}

bool cli_parse(struct cli *cli, const struct command *command, const struct cli_usage *usage, int *argc, char ***argv)
{
        g_autofree char *address = NULL, *name_space = NULL;
        const GOptionEntry everywhere[] = {
                {"address", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_FILENAME, &address, NULL, NULL},
                {"namespace", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_FILENAME, &name_space, NULL, NULL},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        g_autofree char *summary = g_strdup_printf("%s: %s", command->name, command->summary);
        g_autofree char *title = g_strconcat("skiff ", command->name, NULL);
        g_autoptr(GOptionContext) context = g_option_context_new(command->arguments);
        g_option_context_set_strict_posix(context, TRUE);
        g_option_context_set_summary(context, summary);
        g_option_context_set_description(context, usage->details);
        if (usage->options != NULL)
                g_option_context_add_main_entries(context, usage->options, NULL);
        g_option_context_add_main_entries(context, everywhere, NULL);

        g_set_prgname(title); // for the help's first line
        g_autoptr(GError) error = NULL;
        if (!g_option_context_parse(context, argc, argv, &error)) {
                cli_fail_text("%s; skiff %s --help says more", error->message, command->name);
                return false;
        }
        if (*argc > 1 && strcmp((*argv)[1], "--") == 0) { // GLib leaves it in place
                (*argv)[1] = (*argv)[0];
                (*argc)--;
                (*argv)++;
        }
        replace(&cli->address, &address);
        replace(&cli->name_space, &name_space);
        return check_count(command, usage, *argc - 1);
}

// ---- the connection

bool cli_connect(struct cli *cli)
{
        struct skiff_error *error = NULL;
        struct skiff_client_options options = {.address = cli->address, .name_space = cli->name_space};
        cli->client = skiff_client_connect(&options, &error);
        if (cli->client != NULL)
                return true;
        const char *advice = NULL;
        if (skiff_error_code(error) == SKIFF_NOT_FOUND || skiff_error_code(error) == SKIFF_UNAVAILABLE)
                advice = "No daemon runs there. Start it (systemctl start skiff, or skiffd as root), or name another "
                         "daemon's socket by --address or SKIFF_ADDRESS.";
        else if (skiff_error_code(error) == SKIFF_PERMISSION_DENIED)
                advice = "The socket belongs to root: use sudo, or give it to your group ([grpc] gid in the daemon's "
                         "configuration).";
        cli_fail_advice(cli, error, advice);
        return false;
}

// ---- errors

// Registries and images have a say in what errors say; they have none in what the terminal does.
int cli_fail_text(const char *format, ...)
{
        va_list list;
        va_start(list, format);
        g_autofree char *text = g_strdup_vprintf(format, list);
        va_end(list);
        for (char *c = text; *c != '\0'; c++) {
                if (g_ascii_iscntrl(*c) && *c != '\n' && *c != '\t')
                        *c = '?';
        }
        fflush(stdout);
        fprintf(stderr, "skiff: %s\n", text);
        return EXIT_OWN_FAILURE;
}

int cli_exit_code(const char *text)
{
        // What runc, and crun of several versions, begin with when it is the command that they cannot start.
        static const char *const of_command[] = {"container process: exec: \"", "container process caused: exec: \"",
                "executable file `", "open executable", "the path `", "exec container process"};
        const char *at = strstr(text, "OCI runtime");
        const char *what = NULL;
        for (size_t i = 0; at != NULL && what == NULL && i < G_N_ELEMENTS(of_command); i++)
                what = strstr(at, of_command[i]);
        if (what == NULL)
                return EXIT_OWN_FAILURE;
        bool missing = strstr(what, "not found") != NULL || strcasestr(what, ": no such file or directory") != NULL;
        return missing ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

// UNAVAILABLE may also be said of what the daemon wanted to reach.
static bool daemon_is_gone(struct cli *cli)
{
        struct skiff_daemon_version version;
        return cli->client != NULL && !skiff_daemon_version(cli->client, &version, NULL);
}

int cli_fail_advice(struct cli *cli, struct skiff_error *error, const char *advice)
{
        cli_fail_text("%s", skiff_error_text(error));
        if (advice == NULL && skiff_error_code(error) == SKIFF_UNAVAILABLE && daemon_is_gone(cli))
                advice = "The daemon went away during the call; its log says why.";
        else if (advice == NULL && skiff_error_code(error) == SKIFF_UNIMPLEMENTED)
                advice = "This daemon cannot do that; skiff version shows which it is.";
        if (advice != NULL)
                fprintf(stderr, "%s\n", advice);
        int code = cli_exit_code(skiff_error_text(error));
        skiff_error_free(error);
        return code;
}

int cli_fail(struct cli *cli, struct skiff_error *error)
{
        return cli_fail_advice(cli, error, NULL);
}

int cli_fail_container(struct cli *cli, struct skiff_error *error)
{
        return cli_fail_advice(cli, error,
                skiff_error_code(error) == SKIFF_NOT_FOUND ? "skiff ps -a lists the containers of this namespace."
                                                           : NULL);
}

char *cli_image_name(struct cli *cli, const char *text)
{
        struct skiff_error *error = NULL;
        char *name = skiff_image_name(text, &error);
        if (name == NULL) {
                cli_fail_advice(cli, error, "An image is NAME[:TAG] or HOST/NAME[:TAG], in lower case: alpine:3.20.");
                return NULL;
        }
        char *copy = g_strdup(name);
        free(name);
        return copy;
}
