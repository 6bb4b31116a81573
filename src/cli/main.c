// SPDX-License-Identifier: Apache-2.0
//
// skiff: containers from the command line.
#include "cli/cli.h"

#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command commands[] = {
        {"run", "IMAGE [COMMAND [ARGUMENT…]]", "make a container of an image and run it", command_run, false},
        {"exec", "CONTAINER COMMAND [ARGUMENT…]", "run a further command in a container", command_exec, false},
        {"ps", "", "list containers", command_ps, false},
        {"logs", "CONTAINER", "show what a detached container wrote", command_logs, false},
        {"kill", "CONTAINER…", "send a signal to containers", command_kill, false},
        {"rm", "CONTAINER…", "remove containers", command_rm, false},
        {"pull", "IMAGE…", "fetch images from their registries", command_pull, false},
        {"images", "[ls | rm IMAGE… | tag IMAGE NAME]", "list, remove and name images", command_images, false},
        {"import", "FILE…", "read images from archives", command_import, false},
        {"export", "FILE IMAGE…", "write images to an archive", command_export, false},
        {"rmi", "IMAGE…", "remove images", command_rmi, true},
        {"tag", "IMAGE NAME", "give an image a further name", command_tag, true},
        {"events", "[FILTER…]", "show what happens, as it happens", command_events, false},
        {"namespaces", "[ls | create NAME | rm NAME]", "list, make and remove namespaces", command_namespaces, false},
        {"debug", "calls", "show what the daemon is doing", command_debug, false},
        {"version", "", "show the versions of skiff and of the daemon", command_version, false},
};

static void print_help(FILE *out)
{
        fputs("usage: skiff [--address SOCKET] [--namespace NAME] COMMAND [OPTION…] [ARGUMENT…]\n\n"
              "Runs containers by skiffd, or by any daemon with containerd's API.\n\n"
              "commands:\n",
                out);
        for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
                if (!commands[i].hidden)
                        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
        }
        fputs("\n"
              "options:\n"
              "  -a, --address SOCKET   the daemon's socket ($SKIFF_ADDRESS, $CONTAINERD_ADDRESS,\n"
              "                         or " SKIFF_DEFAULT_ADDRESS ")\n"
              "  -n, --namespace NAME   namespace to work in ($SKIFF_NAMESPACE, $CONTAINERD_NAMESPACE,\n"
              "                         or \"" SKIFF_DEFAULT_NAMESPACE "\")\n"
              "  -v, --version          the version of skiff\n"
              "  -h, --help             this help\n\n"
              "skiff COMMAND --help says more about a command.\n",
                out);
}

static const struct command *find_command(const char *name)
{
        for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
                if (strcmp(commands[i].name, name) == 0)
                        return &commands[i];
        }
        return NULL;
}

// What was given, or else the first variable that is set, skiff's own before the one of containerd's clients.
static char *setting(char **given, const char *own, const char *general, const char *other)
{
        if (*given != NULL)
                return g_steal_pointer(given);
        const char *values[] = {getenv(own), getenv(general), other};
        size_t i = 0;
        while (values[i] == NULL || *values[i] == '\0')
                i++;
        return g_strdup(values[i]);
}

// The options before the command. False: there is nothing more to do than to exit with *ret_code.
static bool parse_first_options(struct cli *cli, int *argc, char ***argv, int *ret_code)
{
        g_autofree char *address = NULL, *name_space = NULL;
        gboolean help = FALSE, version = FALSE;
        const GOptionEntry entries[] = {
                {"address", 'a', 0, G_OPTION_ARG_FILENAME, &address, NULL, NULL},
                {"namespace", 'n', 0, G_OPTION_ARG_FILENAME, &name_space, NULL, NULL},
                {"help", 'h', 0, G_OPTION_ARG_NONE, &help, NULL, NULL},
                {"version", 'v', 0, G_OPTION_ARG_NONE, &version, NULL, NULL},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        g_autoptr(GOptionContext) context = g_option_context_new(NULL);
        g_option_context_set_strict_posix(context, TRUE);
        g_option_context_set_help_enabled(context, FALSE);
        g_option_context_add_main_entries(context, entries, NULL);
        g_autoptr(GError) error = NULL;
        if (!g_option_context_parse(context, argc, argv, &error)) {
                *ret_code = cli_fail_text("%s; skiff --help lists what there is", error->message);
                return false;
        }
        cli->address = setting(&address, "SKIFF_ADDRESS", "CONTAINERD_ADDRESS", SKIFF_DEFAULT_ADDRESS);
        cli->name_space = setting(&name_space, "SKIFF_NAMESPACE", "CONTAINERD_NAMESPACE", SKIFF_DEFAULT_NAMESPACE);
        if (help)
                print_help(stdout);
        else if (version)
                printf("skiff %s\n", skiff_version());
        *ret_code = 0;
        return !help && !version;
}

int main(int argc, char **argv)
{
        fd_open_standard();
        setlocale(LC_CTYPE, "");
        struct cli cli = {0};
        int code;
        if (parse_first_options(&cli, &argc, &argv, &code)) {
                const struct command *command = argc > 1 ? find_command(argv[1]) : NULL;
                if (command != NULL) {
                        code = command->run(&cli, command, argc - 1, argv + 1);
                } else if (argc > 1) {
                        code = cli_fail_text("no command \"%s\"; skiff --help lists what there is", argv[1]);
                } else {
                        print_help(stderr);
                        code = EXIT_OWN_FAILURE;
                }
        }
        if (fflush(stdout) != 0 || ferror(stdout))
                code = cli_fail_text("write to standard output: %s", errno_text(errno));
        skiff_client_free(cli.client);
        g_free(cli.address);
        g_free(cli.name_space);
        return code;
}
