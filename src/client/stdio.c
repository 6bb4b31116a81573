// SPDX-License-Identifier: Apache-2.0
//
// Fifos and the threads that copy. The descriptors of the caller are used as they are: their flags belong to open files
// that other programs share (a terminal), so they are never made non-blocking. A fifo for output is opened for reading
// before the shim opens it; poll(2) then reports its end only after the last writer has gone. A fifo for input is held
// open in both directions until the shim has it, which it has once the process is started, so that nothing is written
// into a pipe without a reader, and the shim's open does not block.
#include "client/stdio_internal.h"

#include "base/clock.h"
#include "base/fd.h"
#include "client/internal.h"
#include "io/lanes.h"

#include <skiff/task.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 64 * 1024 };
enum { IN, OUT, ERR, N_STREAMS };

struct copy {
        struct skiff_stdio *stdio;
        char *path; // of the fifo; "" where the stream is not used
        int fifo, held, given;
        struct waiter *ended; // NULL: not started
};

struct skiff_stdio {
        bool terminal, kill_on_broken_pipe;
        char *log; // URI, in place of fifos
        char *directory;
        int stop; // eventfd, readable once copying shall end
        struct skiff_process *process;
        struct copy copies[N_STREAMS];
};

// ---- making

static bool make_directory(const char *given, char **ret_directory, GError **error)
{
        g_autofree char *parent = NULL;
        if (given != NULL)
                parent = g_strdup(given);
        else if (geteuid() == 0)
                parent = g_strdup("/run/skiff/fifo");
        else
                parent = g_build_filename(g_get_user_runtime_dir(), "skiff-fifo", NULL);
        if (g_mkdir_with_parents(parent, 0711) != 0)
                return error_fail_errno(error, errno, "make directory %s", parent);
        stdio_sweep(parent);
        g_autofree char *directory = g_build_filename(parent, "XXXXXX", NULL);
        if (g_mkdtemp(directory) == NULL)
                return error_fail_errno(error, errno, "make directory %s", directory);
        *ret_directory = g_steal_pointer(&directory);
        return true;
}

static bool make_fifo(struct skiff_stdio *stdio, unsigned which, int given, GError **error)
{
        static const char *const names[] = {"stdin", "stdout", "stderr"};
        struct copy *copy = &stdio->copies[which];
        g_free(copy->path);
        copy->path = g_build_filename(stdio->directory, names[which], NULL);
        copy->given = given;
        if (mkfifo(copy->path, 0600) != 0)
                return error_fail_errno(error, errno, "make fifo %s", copy->path);
        int flags = which == IN ? O_RDWR : O_RDONLY;
        int fd = open(copy->path, flags | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return error_fail_errno(error, errno, "open fifo %s", copy->path);
        if (which == IN)
                copy->held = fd;
        else
                copy->fifo = fd;
        return true;
}

static struct skiff_stdio *stdio_new(bool terminal)
{
        struct skiff_stdio *stdio = g_new0(struct skiff_stdio, 1);
        stdio->terminal = terminal;
        stdio->stop = -1;
        for (unsigned i = 0; i < N_STREAMS; i++)
                stdio->copies[i] =
                        (struct copy){.stdio = stdio, .path = g_strdup(""), .fifo = -1, .held = -1, .given = -1};
        return stdio;
}

struct skiff_stdio *skiff_stdio_attached(const struct skiff_stdio_options *options, struct skiff_error **error)
{
        struct skiff_stdio *stdio = stdio_new(options->terminal);
        stdio->kill_on_broken_pipe = options->kill_on_broken_pipe;
        stdio->stop = eventfd(0, EFD_CLOEXEC);
        bool ok = stdio->stop >= 0 || error_fail_errno(inner(error), errno, "make an eventfd");
        ok = ok && make_directory(options->fifo_directory, &stdio->directory, inner(error));
        if (ok && options->use_stdin)
                ok = make_fifo(stdio, IN, options->stdin_fd, inner(error));
        if (ok && options->use_stdout)
                ok = make_fifo(stdio, OUT, options->stdout_fd, inner(error));
        if (ok && options->use_stderr && !options->terminal)
                ok = make_fifo(stdio, ERR, options->stderr_fd, inner(error));
        if (ok)
                return stdio;
        skiff_stdio_free(stdio);
        return NULL;
}

struct skiff_stdio *skiff_stdio_log(const char *uri, bool terminal)
{
        struct skiff_stdio *stdio = stdio_new(terminal);
        stdio->log = g_strdup(uri);
        return stdio;
}

struct stdio_targets stdio_targets(const struct skiff_stdio *stdio)
{
        struct stdio_targets targets = {.in = "", .out = "", .err = ""};
        if (stdio == NULL)
                return targets;
        targets.terminal = stdio->terminal;
        targets.in = stdio->copies[IN].path;
        targets.out = stdio->log != NULL ? stdio->log : stdio->copies[OUT].path;
        targets.err = stdio->log != NULL && !stdio->terminal ? stdio->log : stdio->copies[ERR].path;
        return targets;
}

// ---- copying

// Waits until fd is ready; false: copying shall end.
static bool wait_ready(const struct copy *copy, int fd, short events)
{
        struct pollfd fds[] = {{.fd = copy->stdio->stop, .events = POLLIN}, {.fd = fd, .events = events}};
        while (poll(fds, 2, -1) < 0 && errno == EINTR)
                ;
        return fds[0].revents == 0;
}

static bool is_stopped(const struct skiff_stdio *stdio)
{
        return poll(&(struct pollfd){.fd = stdio->stop, .events = POLLIN}, 1, 0) > 0;
}

static bool write_all(const struct copy *copy, int fd, const char *at, size_t n)
{
        while (n > 0) {
                ssize_t written = write(fd, at, n);
                if (written < 0 && errno == EAGAIN) {
                        if (!wait_ready(copy, fd, POLLOUT))
                                return false;
                } else if (written < 0 && errno != EINTR) {
                        return false;
                } else if (written > 0) {
                        at += written;
                        n -= (size_t)written;
                }
        }
        return true;
}

// The bytes read; 0 at the end, or when copying shall end.
static size_t read_some(const struct copy *copy, int fd, char *buffer)
{
        while (wait_ready(copy, fd, POLLIN)) {
                ssize_t n = read(fd, buffer, COPY_BYTES);
                if (n >= 0)
                        return (size_t)n;
                if (errno != EAGAIN && errno != EINTR)
                        return 0;
        }
        return 0;
}

// Once nobody reads what we write, the rest is taken all the same, so that the container does not stand still.
static void copy_output(void *data)
{
        struct copy *copy = data;
        g_autofree char *buffer = g_malloc(COPY_BYTES);
        bool broken = false;
        size_t n;
        while ((n = read_some(copy, copy->fifo, buffer)) > 0) {
                if (broken || write_all(copy, copy->given, buffer, n))
                        continue;
                broken = true;
                if (copy->stdio->kill_on_broken_pipe)
                        skiff_process_kill(copy->stdio->process, SIGKILL, false, NULL);
        }
        waiter_signal(copy->ended);
}

static void copy_input(void *data)
{
        struct copy *copy = data;
        g_autofree char *buffer = g_malloc(COPY_BYTES);
        size_t n;
        while ((n = read_some(copy, copy->given, buffer)) > 0) {
                if (!write_all(copy, copy->fifo, buffer, n))
                        break;
        }
        fd_close(&copy->fifo);
        // The shim holds the fifo open itself and must be told. What was written is passed on first.
        if (n == 0 && !copy->stdio->terminal && !is_stopped(copy->stdio))
                skiff_process_close_stdin(copy->stdio->process, NULL);
        waiter_signal(copy->ended);
}

bool skiff_stdio_start(struct skiff_stdio *stdio, struct skiff_process *process, struct skiff_error **error)
{
        stdio->process = process;
        struct skiff_client *client = process_client(process);
        struct copy *in = &stdio->copies[IN];
        if (in->held >= 0) {
                in->fifo = open(in->path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
                if (in->fifo < 0)
                        return error_fail_errno(inner(error), errno, "open fifo %s", in->path);
                fd_close(&in->held);
                in->ended = waiter_new();
                client_run(client, LANE_SLOW, copy_input, in);
        }
        for (unsigned i = OUT; i < N_STREAMS; i++) {
                if (stdio->copies[i].fifo < 0)
                        continue;
                stdio->copies[i].ended = waiter_new();
                client_run(client, LANE_SLOW, copy_output, &stdio->copies[i]);
        }
        return true;
}

bool skiff_stdio_wait(struct skiff_stdio *stdio, int timeout_ms)
{
        int64_t end_ns = clock_monotonic_ns() + timeout_ms * NS_PER_MS;
        for (unsigned i = OUT; i < N_STREAMS; i++) {
                int64_t left_ms = timeout_ms < 0 ? -1 : MAX(0, (end_ns - clock_monotonic_ns()) / NS_PER_MS);
                if (stdio->copies[i].ended != NULL && !waiter_wait(stdio->copies[i].ended, left_ms))
                        return false;
        }
        return true;
}

void skiff_stdio_free(struct skiff_stdio *stdio)
{
        if (stdio == NULL)
                return;
        if (stdio->stop >= 0)
                eventfd_write(stdio->stop, 1);
        for (unsigned i = 0; i < N_STREAMS; i++) {
                struct copy *copy = &stdio->copies[i];
                if (copy->ended != NULL)
                        waiter_wait(copy->ended, -1);
                waiter_free(copy->ended);
                fd_close(&copy->fifo);
                fd_close(&copy->held);
                if (*copy->path != '\0')
                        unlink(copy->path);
                g_free(copy->path);
        }
        if (stdio->directory != NULL)
                rmdir(stdio->directory);
        fd_close(&stdio->stop);
        g_free(stdio->directory);
        g_free(stdio->log);
        g_free(stdio);
}
