// SPDX-License-Identifier: Apache-2.0
//
// The main thread waits on two descriptors: signals (blocked, read from a signalfd, so that none is lost between the
// container's making and its start) and the end of the process. The terminal is raw from the start of the process to
// its end, so that keys reach it as they are.
#include "cli/attach.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

enum { OUTPUT_TIMEOUT_MS = 10000, INSISTENT_INTERRUPTS = 3, INSISTENT_US = 2000000 };

struct attach {
        struct cli *cli;
        struct attach_options options;
        struct skiff_stdio *stdio;
        int signals;
        sigset_t before;
        bool raw;
        struct termios terminal;
        unsigned interrupts; // typed one right after the other
        int64_t interrupted_us;
};

static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT};

static int block_signals(sigset_t *ret_before)
{
        sigset_t set;
        sigemptyset(&set);
        for (size_t i = 0; i < G_N_ELEMENTS(forwarded); i++)
                sigaddset(&set, forwarded[i]);
        sigaddset(&set, SIGWINCH);
        sigprocmask(SIG_BLOCK, &set, ret_before);
        signal(SIGPIPE, SIG_IGN); // a write that fails says it better
        return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

struct attach *attach_new(struct cli *cli, const struct attach_options *options)
{
        if (options->terminal && options->interactive && !isatty(STDIN_FILENO)) {
                cli_fail_text("-t -i needs a terminal as standard input; leave -t out to pass a file or a pipe");
                return NULL;
        }
        struct attach *attach = g_new0(struct attach, 1);
        attach->cli = cli;
        attach->options = *options;
        attach->signals = block_signals(&attach->before);
        struct skiff_stdio_options stdio = {
                .terminal = options->terminal,
                .use_stdin = options->interactive,
                .use_stdout = true,
                .use_stderr = true,
                .stdin_fd = STDIN_FILENO,
                .stdout_fd = STDOUT_FILENO,
                .stderr_fd = STDERR_FILENO,
                .kill_on_broken_pipe = true,
        };
        struct skiff_error *error = NULL;
        attach->stdio = skiff_stdio_attached(&stdio, &error);
        if (attach->stdio != NULL)
                return attach;
        cli_fail(cli, error);
        attach_free(attach);
        return NULL;
}

const struct skiff_stdio *attach_stdio(const struct attach *attach)
{
        return attach->stdio;
}

static void make_raw(struct attach *attach)
{
        if (!attach->options.terminal || !attach->options.interactive ||
                tcgetattr(STDIN_FILENO, &attach->terminal) != 0)
                return;
        struct termios raw = attach->terminal;
        cfmakeraw(&raw);
        attach->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

void attach_size(uint32_t *ret_columns, uint32_t *ret_rows)
{
        struct winsize size = {0};
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
                (void)ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
        *ret_columns = size.ws_col;
        *ret_rows = size.ws_row;
}

static void resize(struct attach *attach, struct skiff_process *process)
{
        uint32_t columns, rows;
        attach_size(&columns, &rows);
        if (attach->options.terminal && columns > 0 && rows > 0)
                skiff_process_resize(process, columns, rows, NULL); // one that has ended has no size
}

// The first process of a container ignores what it does not handle, so that an interrupt may do nothing at all: who
// types it several times in a row means it.
static bool is_insistent(struct attach *attach, const struct signalfd_siginfo *info)
{
        if (info->ssi_signo != SIGINT || info->ssi_code != SI_KERNEL)
                return false;
        int64_t now_us = g_get_monotonic_time();
        attach->interrupts = now_us - attach->interrupted_us <= INSISTENT_US ? attach->interrupts + 1 : 1;
        attach->interrupted_us = now_us;
        return attach->interrupts >= INSISTENT_INTERRUPTS;
}

static void forward_signals(struct attach *attach, struct skiff_process *process)
{
        struct signalfd_siginfo info;
        while (read(attach->signals, &info, sizeof(info)) == sizeof(info)) {
                if (info.ssi_signo == SIGWINCH)
                        resize(attach, process);
                else if (is_insistent(attach, &info))
                        skiff_process_kill(process, SIGKILL, false, NULL);
                else
                        skiff_process_kill(process, (int)info.ssi_signo, false, NULL);
        }
}

static bool wait_for_end(
        struct attach *attach, struct skiff_process *process, int *ret_code, struct skiff_error **ret_error)
{
        struct pollfd fds[] = {
                {.fd = attach->signals, .events = POLLIN},
                {.fd = skiff_process_wait_fd(process), .events = POLLIN},
        };
        while (fds[1].fd >= 0 && fds[1].revents == 0) {
                if (poll(fds, 2, -1) > 0 && fds[0].revents != 0)
                        forward_signals(attach, process);
        }
        uint32_t status;
        if (!skiff_process_wait(process, &status, ret_error))
                return false;
        *ret_code = (int)status;
        return true;
}

bool attach_run(struct attach *attach, struct skiff_process *process, int *ret_code, struct skiff_error **ret_error)
{
        if (!skiff_process_start(process, ret_error) || !skiff_stdio_start(attach->stdio, process, ret_error))
                return false;
        make_raw(attach);
        bool ended = wait_for_end(attach, process, ret_code, ret_error);
        // The shim writes the rest of the output before it answers; then the fifos end.
        if (ended && skiff_process_delete(process, NULL, NULL))
                skiff_stdio_wait(attach->stdio, OUTPUT_TIMEOUT_MS);
        return ended;
}

void attach_free(struct attach *attach)
{
        skiff_stdio_free(attach->stdio);
        if (attach->raw)
                tcsetattr(STDIN_FILENO, TCSADRAIN, &attach->terminal);
        sigprocmask(SIG_SETMASK, &attach->before, NULL);
        close(attach->signals);
        g_free(attach);
}
