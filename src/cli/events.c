// SPDX-License-Identifier: Apache-2.0
//
// skiff events: one line for each, until interrupted.
#include "cli/cli.h"

#include <time.h>

static bool print_event(void *data, const struct skiff_event *event)
{
        time_t seconds = (time_t)(event->at_ns / 1000000000);
        struct tm parts;
        char text[32];
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &parts));
        printf("%s.%09dZ %s %s %s\n", text, (int)(event->at_ns % 1000000000), event->name_space, event->topic,
                event->json);
        return fflush(stdout) == 0;
}

int command_events(struct cli *cli, const struct command *command, int argc, char **argv)
{
        const struct cli_usage usage = {
                .details = "Of every namespace, unless filters say otherwise; an event that one of them lets through "
                           "is shown:\n"
                           "  skiff events 'namespace==default' 'topic~=|^/tasks/|'\n",
                .min = 0,
                .max = -1,
        };
        if (!cli_parse(cli, command, &usage, &argc, &argv) || !cli_connect(cli))
                return EXIT_OWN_FAILURE;
        struct skiff_error *error = NULL;
        if (skiff_events_subscribe(cli->client, (const char *const *)(argv + 1), print_event, NULL, &error))
                return 0;
        return cli_fail(cli, error);
}
