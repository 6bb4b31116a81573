// SPDX-License-Identifier: Apache-2.0
//
// skiff version and skiff namespaces.
#include "cli/cli.h"

#include <string.h>

int command_version(struct cli *cli, const struct command *command, int argc, char **argv)
{
        const struct cli_usage usage = {.min = 0, .max = 0};
        if (!cli_parse(cli, command, &usage, &argc, &argv))
                return EXIT_OWN_FAILURE;
        printf("skiff: %s\n", skiff_version());
        fflush(stdout);
        struct skiff_daemon_version version;
        struct skiff_error *error = NULL;
        if (!cli_connect(cli))
                return EXIT_OWN_FAILURE;
        if (!skiff_daemon_version(cli->client, &version, &error))
                return cli_fail(cli, error);
        printf("daemon: API %s, revision %s, at %s\n", version.version, version.revision, cli->address);
        return 0;
}

static int list(struct cli *cli)
{
        struct skiff_error *error = NULL;
        struct skiff_namespaces *namespaces = skiff_namespaces_list(cli->client, &error);
        if (namespaces == NULL)
                return cli_fail(cli, error);
        for (size_t i = 0; i < skiff_namespaces_count(namespaces); i++)
                puts(skiff_namespaces_name(namespaces, i));
        skiff_namespaces_free(namespaces);
        return 0;
}

int command_namespaces(struct cli *cli, const struct command *command, int argc, char **argv)
{
        const struct cli_usage usage = {.min = 0, .max = 2};
        if (!cli_parse(cli, command, &usage, &argc, &argv))
                return EXIT_OWN_FAILURE;
        bool is_list = argc == 1 || (argc == 2 && strcmp(argv[1], "ls") == 0);
        bool is_create = argc == 3 && strcmp(argv[1], "create") == 0,
             is_remove = argc == 3 && strcmp(argv[1], "rm") == 0;
        if (!is_list && !is_create && !is_remove)
                return cli_fail_text("usage: skiff namespaces %s", command->arguments);
        if (!cli_connect(cli))
                return EXIT_OWN_FAILURE;
        if (is_list)
                return list(cli);
        struct skiff_error *error = NULL;
        bool ok = is_create ? skiff_namespace_create(cli->client, argv[2], &error)
                            : skiff_namespace_remove(cli->client, argv[2], &error);
        if (ok)
                return 0;
        return cli_fail_advice(cli, error,
                skiff_error_code(error) == SKIFF_FAILED_PRECONDITION
                        ? "Remove its containers and images first (skiff -n NAMESPACE ps -a, images)."
                        : NULL);
}
