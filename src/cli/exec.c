// SPDX-License-Identifier: Apache-2.0
//
// skiff exec: a further process in a running container, always attached.
#include "cli/attach.h"
#include "cli/cli.h"
#include "cli/flags.h"

#include <string.h>

static int run(struct cli *cli, const char *id, const struct skiff_exec_options *options, bool interactive)
{
        struct attach_options attach_options = {.terminal = options->terminal, .interactive = interactive};
        if (!cli_connect(cli))
                return EXIT_OWN_FAILURE;
        struct attach *attach = attach_new(cli, &attach_options);
        if (attach == NULL)
                return EXIT_OWN_FAILURE;
        struct skiff_error *error = NULL;
        int code = EXIT_OWN_FAILURE;
        struct skiff_process *process = skiff_exec_create(cli->client, id, options, attach_stdio(attach), &error);
        bool ran = process != NULL && attach_run(attach, process, &code, &error);
        if (process != NULL && !ran)
                skiff_process_delete(process, NULL, NULL);
        attach_free(attach);
        skiff_process_free(process);
        return ran ? code : cli_fail_container(cli, error);
}

int command_exec(struct cli *cli, const struct command *command, int argc, char **argv)
{
        gboolean terminal = FALSE, interactive = FALSE, privileged = FALSE;
        g_auto(GStrv) env = NULL;
        g_autofree char *cwd = NULL, *user = NULL;
        const GOptionEntry options[] = {
                {"tty", 't', 0, G_OPTION_ARG_NONE, &terminal, "give it a terminal", NULL},
                {"interactive", 'i', 0, G_OPTION_ARG_NONE, &interactive, "pass standard input to it", NULL},
                {"env", 'e', 0, G_OPTION_ARG_FILENAME_ARRAY, &env, "set a variable (alone: as it is here)",
                        "NAME[=VALUE]"},
                {"workdir", 'w', 0, G_OPTION_ARG_FILENAME, &cwd, "directory to start in", "PATH"},
                {"user", 'u', 0, G_OPTION_ARG_FILENAME, &user, "run as, by name or number", "USER[:GROUP]"},
                {"privileged", 0, 0, G_OPTION_ARG_NONE, &privileged, "all capabilities", NULL},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        const struct cli_usage usage = {
                .options = options,
                .details =
                        "What is not given is as for the container's first process. Exits with the command's code.\n",
                .min = 2,
                .max = -1,
        };
        if (!cli_parse(cli, command, &usage, &argc, &argv))
                return EXIT_OWN_FAILURE;
        g_autoptr(GPtrArray) variables = g_ptr_array_new_with_free_func(g_free);
        for (char **text = env; text != NULL && *text != NULL; text++) {
                g_autoptr(GError) bad = NULL;
                if (!add_env(variables, *text, &bad))
                        return cli_fail_text("%s", bad->message);
        }
        g_ptr_array_add(variables, NULL);
        struct skiff_exec_options exec_options = {
                .args = (const char *const *)(argv + 2),
                .env = (const char *const *)variables->pdata,
                .cwd = cwd,
                .user = user,
                .terminal = terminal,
                .privileged = privileged,
        };
        attach_size(&exec_options.columns, &exec_options.rows);
        return run(cli, argv[1], &exec_options, interactive);
}
