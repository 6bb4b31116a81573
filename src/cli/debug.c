// SPDX-License-Identifier: Apache-2.0
//
// skiff debug: what the daemon is doing.
#include "cli/cli.h"

#include <string.h>

static void add_row(struct table *table, const struct skiff_call *call)
{
        const char *dot = strrchr(call->service, '.');
        g_autofree char *method = g_strdup_printf("%s.%s", dot != NULL ? dot + 1 : call->service, call->method);
        g_autofree char *age = format_duration(call->age_ns), *waited = format_duration(call->waited_ns);
        g_autofree char *left = call->left_ns != 0 ? format_duration(call->left_ns) : g_strdup("-");
        char pid[16] = "-";
        if (call->client_pid != 0)
                g_snprintf(pid, sizeof(pid), "%u", call->client_pid);
        g_autofree char *waits_for = g_strdup_printf("%s%s", call->waits_for, call->cancelled ? " (cancelled)" : "");
        table_row(table, method, *call->name_space != '\0' ? call->name_space : "-", pid, age, left, waited, waits_for,
                NULL);
}

int command_debug(struct cli *cli, const struct command *command, int argc, char **argv)
{
        const struct cli_usage usage = {.min = 1, .max = 1};
        if (!cli_parse(cli, command, &usage, &argc, &argv))
                return EXIT_OWN_FAILURE;
        if (strcmp(argv[1], "calls") != 0)
                return cli_fail_text("usage: skiff debug %s", command->arguments);
        if (!cli_connect(cli))
                return EXIT_OWN_FAILURE;
        struct skiff_error *error = NULL;
        struct skiff_calls *list = skiff_calls_list(cli->client, &error);
        if (list == NULL)
                return cli_fail(cli, error);
        struct table *table = table_new();
        table_row(table, "CALL", "NAMESPACE", "CLIENT", "AGE", "LEFT", "WAITED", "FOR", NULL);
        for (size_t i = 0; i < skiff_calls_count(list); i++)
                add_row(table, skiff_calls_at(list, i));
        table_print(table);
        skiff_calls_free(list);
        return 0;
}
