// SPDX-License-Identifier: Apache-2.0
//
// skiff kill and skiff rm.
#include "cli/cli.h"
#include "cli/flags.h"

#include "base/error.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

// ---- kill

int command_kill(struct cli *cli, const struct command *command, int argc, char **argv)
{
        g_autofree char *name = NULL;
        gboolean all = FALSE;
        const GOptionEntry options[] = {
                {"signal", 's', 0, G_OPTION_ARG_FILENAME, &name, "by name or number; default: KILL", "SIGNAL"},
                {"all", 'a', 0, G_OPTION_ARG_NONE, &all, "to every process of the container", NULL},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        const struct cli_usage usage = {.options = options, .min = 1, .max = -1};
        if (!cli_parse(cli, command, &usage, &argc, &argv))
                return EXIT_OWN_FAILURE;
        int number = name != NULL ? parse_signal(name) : SIGKILL;
        if (number == 0)
                return cli_fail_text("no signal \"%s\"; kill -l lists them", name);
        if (!cli_connect(cli))
                return EXIT_OWN_FAILURE;
        int code = 0;
        for (int i = 1; i < argc; i++) {
                struct skiff_error *error = NULL;
                struct skiff_process *task = skiff_process_attach(cli->client, argv[i], NULL);
                if (!skiff_process_kill(task, number, all, &error)) {
                        cli_fail_container(cli, error);
                        code = EXIT_OWN_FAILURE;
                }
                skiff_process_free(task);
        }
        return code;
}

// ---- rm

// Ends and deletes a container's task, if it has one.
static bool remove_task(
        struct cli *cli, const struct skiff_container *container, bool force, struct skiff_error **error)
{
        if (container->status == SKIFF_STATUS_NONE)
                return true;
        struct skiff_process *task = skiff_process_attach(cli->client, container->id, NULL);
        uint32_t status;
        if (force && container->status != SKIFF_STATUS_STOPPED && skiff_process_kill(task, SIGKILL, true, NULL))
                skiff_process_wait(task, &status, NULL);
        bool ok = skiff_process_delete(task, NULL, error);
        if (!ok && skiff_error_code(*error) == SKIFF_NOT_FOUND) {
                skiff_error_free(*error);
                *error = NULL;
                ok = true;
        }
        skiff_process_free(task);
        return ok;
}

// Logs elsewhere (--log-uri) are not ours to remove.
static void remove_log(const struct cli *cli, const struct skiff_container *container)
{
        g_autofree char *mine = log_path(cli, container->id);
        g_autofree char *kept = log_path_of_uri(skiff_container_label_value(container, LOG_LABEL));
        g_autofree char *directory = g_path_get_dirname(mine);
        if (g_strcmp0(mine, kept) != 0)
                return;
        if (unlink(mine) == 0)
                rmdir(directory); // if it was the last
        else if (errno != ENOENT)
                fprintf(stderr, "skiff: %s stays: %s\n", mine, errno_text(errno));
}

static int remove_one(struct cli *cli, const char *id, bool force)
{
        struct skiff_error *error = NULL;
        struct skiff_containers *list = skiff_container_get(cli->client, id, &error);
        if (list == NULL && force && skiff_error_code(error) == SKIFF_NOT_FOUND) {
                skiff_error_free(error);
                return 0;
        }
        if (list == NULL)
                return cli_fail_container(cli, error);
        const struct skiff_container *container = skiff_containers_at(list, 0);
        bool runs = container->status == SKIFF_STATUS_RUNNING || container->status == SKIFF_STATUS_PAUSED;
        int code = 0;
        if (runs && !force) {
                code = cli_fail_text("container \"%s\" is running", id);
                fprintf(stderr, "Stop it first (skiff kill %s), or use skiff rm -f %s.\n", id, id);
        } else if (remove_task(cli, container, force, &error) && skiff_container_remove(cli->client, id, &error)) {
                remove_log(cli, container);
        } else if (force && skiff_error_code(error) == SKIFF_NOT_FOUND) {
                skiff_error_free(error); // somebody else was faster
        } else {
                code = cli_fail(cli, error);
        }
        skiff_containers_free(list);
        return code;
}

int command_rm(struct cli *cli, const struct command *command, int argc, char **argv)
{
        gboolean force = FALSE;
        const GOptionEntry options[] = {
                {"force", 'f', 0, G_OPTION_ARG_NONE, &force, "kill what runs; what is not there is no error", NULL},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        const struct cli_usage usage = {.options = options, .min = 1, .max = -1};
        if (!cli_parse(cli, command, &usage, &argc, &argv) || !cli_connect(cli))
                return EXIT_OWN_FAILURE;
        int code = 0;
        for (int i = 1; i < argc; i++) {
                if (remove_one(cli, argv[i], force) != 0)
                        code = EXIT_OWN_FAILURE;
        }
        return code;
}
