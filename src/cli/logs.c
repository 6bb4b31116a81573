// SPDX-License-Identifier: Apache-2.0
//
// skiff logs: the file that a detached container's output goes to. Following waits for the file to change (inotify) and
// for the container to end, after which what is left is shown.
#include "cli/cli.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { BLOCK_BYTES = 64 * 1024 };

static bool copy_rest(int fd)
{
        g_autofree char *buffer = g_malloc(BLOCK_BYTES);
        ssize_t n;
        while ((n = read(fd, buffer, BLOCK_BYTES)) > 0) {
                if (fwrite(buffer, 1, (size_t)n, stdout) != (size_t)n)
                        return false;
        }
        return fflush(stdout) == 0;
}

// Moves to where the last n lines begin; 0: to the end.
static void seek_lines(int fd, int64_t n)
{
        off_t at = lseek(fd, 0, SEEK_END);
        if (n == 0)
                return;
        char buffer[4096];
        bool first = true; // the last byte ends the last line
        while (at > 0) {
                size_t size = (size_t)MIN(at, (off_t)sizeof(buffer));
                ssize_t got = pread(fd, buffer, size, at - (off_t)size);
                if (got != (ssize_t)size)
                        break;
                for (size_t i = size; i > 0; i--) {
                        if (buffer[i - 1] == '\n' && !first && --n == 0) {
                                lseek(fd, at - (off_t)size + (off_t)i, SEEK_SET);
                                return;
                        }
                        first = false;
                }
                at -= (off_t)size;
        }
        lseek(fd, 0, SEEK_SET);
}

static void follow(struct cli *cli, const char *id, const char *path, int fd)
{
        struct skiff_process *task = skiff_process_attach(cli->client, id, NULL);
        int changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        inotify_add_watch(changes, path, IN_MODIFY);
        struct pollfd fds[] = {
                {.fd = changes, .events = POLLIN},
                {.fd = skiff_process_wait_fd(task), .events = POLLIN},
        };
        while (copy_rest(fd) && fds[1].revents == 0) {
                char events[4096];
                if (poll(fds, 2, -1) < 0 && errno != EINTR)
                        break;
                while (read(changes, events, sizeof(events)) > 0)
                        ;
        }
        copy_rest(fd);
        close(changes);
        skiff_process_free(task);
}

static int show(struct cli *cli, const struct skiff_container *container, bool follows, int64_t lines)
{
        const char *uri = skiff_container_label_value(container, LOG_LABEL);
        g_autofree char *path = log_path_of_uri(uri);
        if (uri == NULL) {
                cli_fail_text("the output of \"%s\" was not kept", container->id);
                fputs("It went to whoever ran it; only skiff run -d keeps it.\n", stderr);
                return EXIT_OWN_FAILURE;
        }
        if (path == NULL)
                return cli_fail_text(
                        "the output of \"%s\" goes to %s, which has to be asked itself", container->id, uri);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return cli_fail_text("open %s: %s", path, errno_text(errno));
        if (lines >= 0)
                seek_lines(fd, lines);
        if (follows)
                follow(cli, container->id, path, fd);
        else
                copy_rest(fd);
        close(fd);
        return 0;
}

int command_logs(struct cli *cli, const struct command *command, int argc, char **argv)
{
        gboolean follows = FALSE;
        int64_t lines = -1; // all of them
        const GOptionEntry options[] = {
                {"follow", 'f', 0, G_OPTION_ARG_NONE, &follows, "go on until the container has ended", NULL},
                {"tail", 0, 0, G_OPTION_ARG_INT64, &lines, "the last lines alone", "NUMBER"},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        const struct cli_usage usage = {.options = options, .min = 1, .max = 1};
        if (!cli_parse(cli, command, &usage, &argc, &argv) || !cli_connect(cli))
                return EXIT_OWN_FAILURE;
        struct skiff_error *error = NULL;
        struct skiff_containers *list = skiff_container_get(cli->client, argv[1], &error);
        if (list == NULL)
                return cli_fail_container(cli, error);
        int code = show(cli, skiff_containers_at(list, 0), follows, lines);
        skiff_containers_free(list);
        return code;
}
