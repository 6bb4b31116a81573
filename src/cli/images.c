// SPDX-License-Identifier: Apache-2.0
//
// skiff images, with its short forms rmi and tag.
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

enum { DIGEST_DIGITS = 12 };

static int fail_image(struct cli *cli, struct skiff_error *error)
{
        return cli_fail_advice(cli, error,
                skiff_error_code(error) == SKIFF_NOT_FOUND ? "skiff images lists the images of this namespace." : NULL);
}

// ---- ls

static void add_row(struct cli *cli, struct table *table, const struct skiff_image *image)
{
        g_autofree char *age = format_age(image->updated_at_ns);
        g_autofree char *size = g_strdup("-");
        int64_t bytes;
        if (skiff_image_size(cli->client, image, &bytes, NULL)) {
                g_free(size);
                size = format_size(bytes);
        }
        const char *hex = strchr(image->digest, ':');
        g_autofree char *digest = g_strndup(hex != NULL ? hex + 1 : image->digest, DIGEST_DIGITS);
        char *name = skiff_image_short_name(image->name);
        table_row(table, name, digest, age, size, NULL);
        free(name);
}

static int list(struct cli *cli, bool quiet)
{
        struct skiff_error *error = NULL;
        struct skiff_images *images = skiff_images_list(cli->client, &error);
        if (images == NULL)
                return cli_fail(cli, error);
        struct table *table = table_new();
        if (!quiet)
                table_row(table, "IMAGE", "DIGEST", "UPDATED", "SIZE", NULL);
        for (size_t i = 0; i < skiff_images_count(images); i++) {
                const struct skiff_image *image = skiff_images_at(images, i);
                if (quiet)
                        table_row(table, image->name, NULL);
                else
                        add_row(cli, table, image);
        }
        table_print(table);
        skiff_images_free(images);
        return 0;
}

// ---- rm, tag

// By the full name of what was typed; or, for names that nobody would type but other clients make, by the text itself.
static bool remove_image(struct cli *cli, const char *text, bool sync, struct skiff_error **error)
{
        char *name = skiff_image_name(text, error);
        if (name == NULL)
                return false;
        bool ok = skiff_image_remove(cli->client, name, sync, error);
        if (!ok && skiff_error_code(*error) == SKIFF_NOT_FOUND && strcmp(name, text) != 0 &&
                skiff_image_remove(cli->client, text, sync, NULL)) {
                skiff_error_free(*error);
                *error = NULL;
                ok = true;
        }
        free(name);
        return ok;
}

static int remove_images(struct cli *cli, char **names, bool sync)
{
        int code = 0;
        for (; *names != NULL; names++) {
                struct skiff_error *error = NULL;
                if (!remove_image(cli, *names, sync, &error))
                        code = fail_image(cli, error);
        }
        return code;
}

static int tag(struct cli *cli, const char *old, const char *new, bool force)
{
        g_autofree char *old_name = cli_image_name(cli, old);
        g_autofree char *new_name = old_name == NULL ? NULL : cli_image_name(cli, new);
        if (new_name == NULL)
                return EXIT_OWN_FAILURE;
        struct skiff_error *error = NULL;
        if (skiff_image_tag(cli->client, old_name, new_name, force, &error))
                return 0;
        if (skiff_error_code(error) == SKIFF_ALREADY_EXISTS)
                return cli_fail_advice(cli, error, "Move the name by --force, or choose another.");
        return fail_image(cli, error);
}

// ---- the commands

// Takes the verb out of the arguments, if it is the first of them.
static const char *take_verb(int *argc, char ***argv)
{
        static const char *const verbs[] = {"ls", "rm", "tag", NULL};
        if (*argc < 2 || !g_strv_contains(verbs, (*argv)[1]))
                return NULL;
        const char *verb = (*argv)[1];
        (*argv)[1] = (*argv)[0];
        (*argc)--;
        (*argv)++;
        return verb;
}

int command_images(struct cli *cli, const struct command *command, int argc, char **argv)
{
        gboolean quiet = FALSE, sync = FALSE, force = FALSE;
        const GOptionEntry options[] = {
                {"quiet", 'q', 0, G_OPTION_ARG_NONE, &quiet, "ls: full names alone", NULL},
                {"sync", 0, 0, G_OPTION_ARG_NONE, &sync, "rm: wait until the content is collected", NULL},
                {"force", 'f', 0, G_OPTION_ARG_NONE, &force, "tag: move a name that exists", NULL},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        const struct cli_usage usage = {
                .options = options,
                .details = "skiff rmi and skiff tag are short for the last two.\n",
                .min = 0,
                .max = -1,
        };
        // Options may stand before the verb or behind it.
        const char *verb = take_verb(&argc, &argv);
        if (!cli_parse(cli, command, &usage, &argc, &argv))
                return EXIT_OWN_FAILURE;
        if (verb == NULL)
                verb = take_verb(&argc, &argv);
        bool is_list = (verb == NULL || strcmp(verb, "ls") == 0) && argc == 1;
        bool is_remove = g_strcmp0(verb, "rm") == 0 && argc > 1, is_tag = g_strcmp0(verb, "tag") == 0 && argc == 3;
        if (!is_list && !is_remove && !is_tag)
                return cli_fail_text("usage: skiff images [OPTION…] %s", command->arguments);
        if (!cli_connect(cli))
                return EXIT_OWN_FAILURE;
        if (is_remove)
                return remove_images(cli, argv + 1, sync);
        return is_tag ? tag(cli, argv[1], argv[2], force) : list(cli, quiet);
}

int command_rmi(struct cli *cli, const struct command *command, int argc, char **argv)
{
        gboolean sync = FALSE;
        const GOptionEntry options[] = {
                {"sync", 0, 0, G_OPTION_ARG_NONE, &sync, "wait until the content is collected", NULL},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        const struct cli_usage usage = {.options = options, .min = 1, .max = -1};
        if (!cli_parse(cli, command, &usage, &argc, &argv) || !cli_connect(cli))
                return EXIT_OWN_FAILURE;
        return remove_images(cli, argv + 1, sync);
}

int command_tag(struct cli *cli, const struct command *command, int argc, char **argv)
{
        gboolean force = FALSE;
        const GOptionEntry options[] = {
                {"force", 'f', 0, G_OPTION_ARG_NONE, &force, "move a name that exists", NULL},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        const struct cli_usage usage = {.options = options, .min = 2, .max = 2};
        if (!cli_parse(cli, command, &usage, &argc, &argv) || !cli_connect(cli))
                return EXIT_OWN_FAILURE;
        return tag(cli, argv[1], argv[2], force);
}
