// SPDX-License-Identifier: Apache-2.0
//
// skiff pull, import and export.
#include "cli/cli.h"
#include "cli/progress.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct flags {
        gboolean plain_http, all_platforms, no_unpack, quiet, password_stdin;
        char *platform, *snapshotter, *hosts_dir, *user, *base_name;
        char *password; // a part of user, or read
};

static void flags_done(struct flags *flags)
{
        g_free(flags->platform);
        g_free(flags->snapshotter);
        g_free(flags->hosts_dir);
        g_free(flags->user);
        g_free(flags->base_name);
        g_free(flags->password);
}

static struct skiff_transfer_options transfer_options(const struct flags *flags, struct progress *progress)
{
        return (struct skiff_transfer_options){
                .platform = flags->platform,
                .all_platforms = flags->all_platforms,
                .snapshotter = flags->no_unpack ? "" : flags->snapshotter,
                .plain_http = flags->plain_http,
                .hosts_dir = flags->hosts_dir,
                .username = flags->user,
                .password = flags->password,
                .on_progress = progress_update,
                .data = progress,
        };
}

// ---- pull

// USER:PASSWORD, or USER with the password as the first line of standard input.
static bool read_login(struct flags *flags)
{
        if (flags->user == NULL) {
                if (flags->password_stdin)
                        cli_fail_text("--password-stdin is the password of a user: add --user NAME");
                return !flags->password_stdin;
        }
        char *colon = strchr(flags->user, ':');
        if (flags->password_stdin) {
                char line[4096];
                if (fgets(line, sizeof(line), stdin) == NULL) {
                        cli_fail_text("no password on standard input");
                        return false;
                }
                flags->password = g_strdup(g_strchomp(line));
        } else if (colon != NULL) {
                *colon = '\0';
                flags->password = g_strdup(colon + 1);
        } else {
                cli_fail_text("--user needs USER:PASSWORD, or --password-stdin");
                return false;
        }
        return true;
}

static int fail_pull(struct cli *cli, struct skiff_error *error, const struct flags *flags)
{
        const char *text = skiff_error_text(error), *advice = NULL;
        if (!flags->plain_http && (strstr(text, "HTTP response to HTTPS client") != NULL ||
                                          strcasestr(text, "ssl") != NULL || strcasestr(text, "tls") != NULL))
                advice = "If this registry speaks plain HTTP, add --plain-http.";
        else if (skiff_error_code(error) == SKIFF_UNAUTHENTICATED || strstr(text, "401") != NULL ||
                 strcasestr(text, "unauthorized") != NULL)
                advice = "The registry wants a login (or there is no such repository): --user NAME --password-stdin.";
        else if (strstr(text, "connection refused") != NULL || strstr(text, "no such host") != NULL)
                advice = "Nothing answers there: is that the registry's address, and is there a network?";
        else if (skiff_error_code(error) == SKIFF_NOT_FOUND)
                advice = "The registry has no such repository or tag.";
        return cli_fail_advice(cli, error, advice);
}

static int pull_one(struct cli *cli, const char *text, const struct flags *flags)
{
        g_autofree char *name = cli_image_name(cli, text);
        if (name == NULL)
                return EXIT_OWN_FAILURE;
        struct skiff_error *error = NULL;
        struct progress *progress = progress_new(flags->quiet);
        struct skiff_transfer_options options = transfer_options(flags, progress);
        bool ok = skiff_image_pull(cli->client, name, &options, &error);
        progress_free(progress, ok);
        if (!ok)
                return fail_pull(cli, error, flags);
        puts(name);
        return 0;
}

int command_pull(struct cli *cli, const struct command *command, int argc, char **argv)
{
        struct flags f = {0};
        const GOptionEntry options[] = {
                {"platform", 0, 0, G_OPTION_ARG_FILENAME, &f.platform, "default: this machine's", "OS/ARCH"},
                {"all-platforms", 0, 0, G_OPTION_ARG_NONE, &f.all_platforms, "fetch all, unpack none", NULL},
                {"snapshotter", 0, 0, G_OPTION_ARG_FILENAME, &f.snapshotter, "unpack there; default: overlayfs",
                        "NAME"},
                {"no-unpack", 0, 0, G_OPTION_ARG_NONE, &f.no_unpack, "store only", NULL},
                {"plain-http", 0, 0, G_OPTION_ARG_NONE, &f.plain_http, "no TLS", NULL},
                {"hosts-dir", 0, 0, G_OPTION_ARG_FILENAME, &f.hosts_dir, "hosts.toml files, on the daemon's side",
                        "DIR"},
                {"user", 'u', 0, G_OPTION_ARG_FILENAME, &f.user, "login for the registry", "NAME[:PASSWORD]"},
                {"password-stdin", 0, 0, G_OPTION_ARG_NONE, &f.password_stdin, "read the password", NULL},
                {"quiet", 'q', 0, G_OPTION_ARG_NONE, &f.quiet, "no progress", NULL},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        const struct cli_usage usage = {
                .options = options,
                .details = "Names are docker's: alpine is docker.io/library/alpine:latest. Prints the full names.\n",
                .min = 1,
                .max = -1,
        };
        int code = EXIT_OWN_FAILURE;
        if (cli_parse(cli, command, &usage, &argc, &argv) && read_login(&f) && cli_connect(cli)) {
                code = 0;
                for (int i = 1; i < argc && code == 0; i++)
                        code = pull_one(cli, argv[i], &f);
        }
        flags_done(&f);
        return code;
}

// ---- import

static int import_one(struct cli *cli, const char *path, const struct flags *flags)
{
        bool standard = strcmp(path, "-") == 0;
        int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return cli_fail_text("open %s: %s", path, errno_text(errno));
        struct skiff_error *error = NULL;
        struct progress *progress = progress_new(flags->quiet);
        struct skiff_transfer_options options = transfer_options(flags, progress);
        bool ok = skiff_image_import(cli->client, fd, flags->base_name, &options, &error);
        progress_free(progress, ok);
        if (!standard)
                close(fd);
        if (ok)
                return 0;
        // skiffd's words, and containerd's.
        const char *text = skiff_error_text(error);
        bool no_archive = strstr(text, "archive format") != NULL || strstr(text, "tar header") != NULL;
        return cli_fail_advice(cli, error,
                no_archive ? "That is no archive of images as skiff export or docker save write it." : NULL);
}

int command_import(struct cli *cli, const struct command *command, int argc, char **argv)
{
        struct flags f = {0};
        const GOptionEntry options[] = {
                {"base-name", 0, 0, G_OPTION_ARG_FILENAME, &f.base_name,
                        "for images that the archive names by tag alone", "NAME"},
                {"platform", 0, 0, G_OPTION_ARG_FILENAME, &f.platform, "default: this machine's", "OS/ARCH"},
                {"all-platforms", 0, 0, G_OPTION_ARG_NONE, &f.all_platforms, "store all, unpack none", NULL},
                {"snapshotter", 0, 0, G_OPTION_ARG_FILENAME, &f.snapshotter, "unpack there; default: overlayfs",
                        "NAME"},
                {"no-unpack", 0, 0, G_OPTION_ARG_NONE, &f.no_unpack, "store only", NULL},
                {"quiet", 'q', 0, G_OPTION_ARG_NONE, &f.quiet, "no progress", NULL},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        const struct cli_usage usage = {
                .options = options,
                .details = "Reads OCI archives and those of docker save; - is standard input.\n",
                .min = 1,
                .max = -1,
        };
        int code = EXIT_OWN_FAILURE;
        if (cli_parse(cli, command, &usage, &argc, &argv) && cli_connect(cli)) {
                code = 0;
                for (int i = 1; i < argc && code == 0; i++)
                        code = import_one(cli, argv[i], &f);
        }
        flags_done(&f);
        return code;
}

// ---- export

static int export_to(struct cli *cli, const char *path, char **texts, const struct flags *flags)
{
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        for (; *texts != NULL; texts++) {
                char *name = cli_image_name(cli, *texts);
                if (name == NULL)
                        return EXIT_OWN_FAILURE;
                g_ptr_array_add(names, name);
        }
        g_ptr_array_add(names, NULL);
        // A file that is there is replaced by a whole archive or not at all.
        struct stat status;
        bool standard = strcmp(path, "-") == 0;
        bool partly = !standard && (stat(path, &status) < 0 || S_ISREG(status.st_mode));
        g_autofree char *target = partly ? g_strconcat(path, ".part", NULL) : g_strdup(path);
        int fd = standard ? STDOUT_FILENO : open(target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0)
                return cli_fail_text("open %s: %s", path, errno_text(errno));
        struct skiff_error *error = NULL;
        struct skiff_transfer_options options = {.platform = flags->platform, .all_platforms = flags->all_platforms};
        bool ok = skiff_image_export(cli->client, fd, (const char *const *)names->pdata, &options, &error);
        bool closed = standard || close(fd) == 0;
        if (ok && closed && (!partly || rename(target, path) == 0))
                return 0;
        int failure = errno;
        if (partly)
                unlink(target);
        if (ok)
                return cli_fail_text("write %s: %s", path, errno_text(failure));
        return cli_fail_advice(cli, error,
                skiff_error_code(error) == SKIFF_NOT_FOUND ? "skiff images lists the images of this namespace." : NULL);
}

int command_export(struct cli *cli, const struct command *command, int argc, char **argv)
{
        struct flags f = {0};
        const GOptionEntry options[] = {
                {"platform", 0, 0, G_OPTION_ARG_FILENAME, &f.platform, "default: this machine's", "OS/ARCH"},
                {"all-platforms", 0, 0, G_OPTION_ARG_NONE, &f.all_platforms, "every platform that is here", NULL},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        const struct cli_usage usage = {
                .options = options,
                .details = "Writes an OCI archive, which docker load reads as well; - is standard output.\n",
                .min = 2,
                .max = -1,
        };
        int code = EXIT_OWN_FAILURE;
        if (cli_parse(cli, command, &usage, &argc, &argv)) {
                if (strcmp(argv[1], "-") == 0 && isatty(STDOUT_FILENO))
                        code = cli_fail_text("standard output is a terminal: redirect it, or name a file");
                else if (cli_connect(cli))
                        code = export_to(cli, argv[1], argv + 2, &f);
        }
        flags_done(&f);
        return code;
}
