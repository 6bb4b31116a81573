// SPDX-License-Identifier: Apache-2.0
//
// Memory files instead of pipes: nothing to watch but the end, and a process that the program left behind with its
// output open delays nobody.
#include "io/program.h"

#include "base/error.h"
#include "base/fd.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIMIT_BYTES = 4 * 1024 * 1024 };

struct run {
        struct loop *loop;
        struct child child;
        int out, err;
        unsigned timeout_ms;
        char *name;
        bool timed_out;
        GError *error; // it could not be started
        program_fn done;
        void *data;
        struct loop_watch *watch;
        struct loop_timer *timer;
};

static void finish(struct run *run, const struct program_result *result, const GError *error)
{
        run->done(run->data, result, error);
        g_clear_error(&run->error);
        fd_close(&run->child.pidfd);
        fd_close(&run->out);
        fd_close(&run->err);
        g_free(run->name);
        g_free(run);
}

static GBytes *read_all(int fd)
{
        struct stat status;
        size_t size = fstat(fd, &status) == 0 ? (size_t)MIN(status.st_size, LIMIT_BYTES) : 0;
        char *bytes = g_malloc(size + 1); // ended by a zero, for those who read text
        ssize_t n = pread(fd, bytes, size, 0);
        bytes[MAX(n, 0)] = 0;
        return g_bytes_new_take(bytes, (gsize)MAX(n, 0));
}

static void on_end(void *data, int events)
{
        struct run *run = data;
        struct program_result result;
        if (!child_try_wait(&run->child, &result.status))
                return;
        loop_watch_stop(run->watch);
        loop_timer_stop(run->timer);
        if (run->timed_out) {
                g_autoptr(GError) error = NULL;
                error_fail(&error, ERROR_DEADLINE_EXCEEDED, "%s did not end within %u ms: context deadline exceeded",
                        run->name, run->timeout_ms);
                finish(run, NULL, error);
                return;
        }
        result.out = read_all(run->out);
        result.err = read_all(run->err);
        finish(run, &result, NULL);
        g_bytes_unref(result.out);
        g_bytes_unref(result.err);
}

static void on_timeout(void *data)
{
        struct run *run = data;
        run->timer = NULL;
        run->timed_out = true;
        child_kill(&run->child, SIGKILL);
}

static void watch(void *data)
{
        struct run *run = data;
        if (run->error != NULL) {
                finish(run, NULL, run->error);
                return;
        }
        run->timer = loop_timer_start(run->loop, run->timeout_ms, on_timeout, run);
        run->watch = loop_watch_start(run->loop, run->child.pidfd, UV_READABLE, on_end, run);
}

static int memory_file(const char *name, GBytes *content, GError **error)
{
        fd_auto int fd = memfd_create(name, MFD_CLOEXEC);
        gsize size = 0;
        const void *bytes = content != NULL ? g_bytes_get_data(content, &size) : NULL;
        if (fd < 0 || (size > 0 && pwrite(fd, bytes, size, 0) != (ssize_t)size)) {
                error_fail_errno(error, errno, "make memory file");
                return -1;
        }
        return fd_take(&fd);
}

static bool start(struct run *run, const struct spawn_options *options, GBytes *input, GError **error)
{
        fd_auto int in = memory_file("stdin", input, error);
        if (in < 0)
                return false;
        run->out = memory_file("stdout", NULL, error);
        run->err = run->out < 0 ? -1 : memory_file("stderr", NULL, error);
        if (run->err < 0)
                return false;
        g_autofree struct spawn_fd *fds = g_new(struct spawn_fd, options->n_fds + 3);
        if (options->n_fds > 0)
                memcpy(fds, options->fds, options->n_fds * sizeof *fds);
        fds[options->n_fds] = (struct spawn_fd){in, STDIN_FILENO};
        fds[options->n_fds + 1] = (struct spawn_fd){run->out, STDOUT_FILENO};
        fds[options->n_fds + 2] = (struct spawn_fd){run->err, STDERR_FILENO};
        struct spawn_options with_files = *options;
        with_files.fds = fds;
        with_files.n_fds = options->n_fds + 3;
        return spawn(&with_files, &run->child, error);
}

void program_run(struct loop *loop, const struct spawn_options *options, GBytes *input, unsigned timeout_ms,
        program_fn done, void *data)
{
        struct run *run = g_new(struct run, 1);
        *run = (struct run){.loop = loop,
                .child.pidfd = -1,
                .out = -1,
                .err = -1,
                .timeout_ms = timeout_ms,
                .name = g_path_get_basename(options->path),
                .done = done,
                .data = data};
        start(run, options, input, &run->error);
        loop_post(loop, watch, run);
}
