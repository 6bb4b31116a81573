// SPDX-License-Identifier: Apache-2.0
//
// skiff ps: containers and what they do.
#include "cli/cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { COMMAND_WIDTH = 32 };

// The process's arguments in one line, cut.
static char *command_of(const struct skiff_container *container)
{
        json_t *spec = json_loads(container->spec, 0, NULL);
        json_t *args = json_object_get(json_object_get(spec, "process"), "args");
        GString *line = g_string_new(NULL);
        size_t i;
        json_t *arg;
        json_array_foreach (args, i, arg) {
                if (json_is_string(arg))
                        g_string_append_printf(line, "%s%s", i > 0 ? " " : "", json_string_value(arg));
        }
        json_decref(spec);
        for (char *c = line->str; *c != '\0'; c++) {
                if ((unsigned char)*c < ' ')
                        *c = ' ';
        }
        if (g_utf8_strlen(line->str, -1) > COMMAND_WIDTH) {
                g_string_truncate(line, (gsize)(g_utf8_offset_to_pointer(line->str, COMMAND_WIDTH - 1) - line->str));
                g_string_append(line, "…");
        }
        return g_string_free(line, FALSE);
}

static char *status_of(const struct skiff_container *container)
{
        g_autofree char *age = NULL;
        const char *exit_status = skiff_container_label_value(container, EXIT_LABEL);
        switch (container->status) {
        case SKIFF_STATUS_RUNNING:
                return g_strdup("running");
        case SKIFF_STATUS_CREATED:
                return g_strdup("created");
        case SKIFF_STATUS_PAUSED:
                return g_strdup("paused");
        case SKIFF_STATUS_STOPPED:
                age = format_age(container->exited_at_ns);
                return g_strdup_printf("exited (%u) %s", container->exit_status, age);
        case SKIFF_STATUS_NONE:
                return exit_status != NULL ? g_strdup_printf("exited (%s)", exit_status) : g_strdup("no task");
        default:
                return g_strdup("unknown");
        }
}

static void add_row(struct table *table, const struct skiff_container *container)
{
        g_autofree char *command = command_of(container), *status = status_of(container);
        g_autofree char *age = format_age(container->created_at_ns);
        char *image = skiff_image_short_name(container->image);
        char pid[16] = "-";
        if (container->pid > 0 && container->status != SKIFF_STATUS_STOPPED)
                g_snprintf(pid, sizeof(pid), "%u", container->pid);
        table_row(table, container->id, *image != '\0' ? image : "-", *command != '\0' ? command : "-", age, status,
                pid, NULL);
        free(image);
}

int command_ps(struct cli *cli, const struct command *command, int argc, char **argv)
{
        gboolean all = FALSE, quiet = FALSE;
        const GOptionEntry options[] = {
                {"all", 'a', 0, G_OPTION_ARG_NONE, &all, "those that do not run as well", NULL},
                {"quiet", 'q', 0, G_OPTION_ARG_NONE, &quiet, "names alone", NULL},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        const struct cli_usage usage = {.options = options, .min = 0, .max = 0};
        if (!cli_parse(cli, command, &usage, &argc, &argv) || !cli_connect(cli))
                return EXIT_OWN_FAILURE;
        struct skiff_error *error = NULL;
        struct skiff_containers *list = skiff_containers_list(cli->client, &error);
        if (list == NULL)
                return cli_fail(cli, error);
        struct table *table = table_new();
        if (!quiet)
                table_row(table, "NAME", "IMAGE", "COMMAND", "CREATED", "STATUS", "PID", NULL);
        for (size_t i = 0; i < skiff_containers_count(list); i++) {
                const struct skiff_container *container = skiff_containers_at(list, i);
                bool runs = container->status == SKIFF_STATUS_RUNNING || container->status == SKIFF_STATUS_PAUSED ||
                            container->status == SKIFF_STATUS_UNKNOWN;
                if (!all && !runs)
                        continue;
                if (quiet)
                        table_row(table, container->id, NULL);
                else
                        add_row(table, container);
        }
        table_print(table);
        skiff_containers_free(list);
        return 0;
}
