// SPDX-License-Identifier: Apache-2.0
//
// The ready pipe is closed by the logger when it can take output; "binary-v2" wants a byte before, as an end of file is
// also what a logger gives that crashed. Once the container is deleted, the logger gets time to write what is left in
// its pipes before it is asked to go: so it outlives its owner, and frees itself when it was reaped.
#include "shim/logger.h"

#include "base/error.h"
#include "base/fd.h"
#include "sys/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

enum { PATIENCE_MS = 2000, TERM_TO_KILL_MS = 10000 };

struct logger {
        struct loop *loop;
        int out[2], err[2]; // read and write ends
        int ready_fd;
        struct loop_watch *ready_watch;
        struct loop_timer *timer;
        pid_t pid; // 0: ended
        bool strict, abandoned, asked_to_go;
        void (*ready)(void *data, const GError *error);
        void *data;
};

bool logger_is_uri(const char *uri)
{
        return g_str_has_prefix(uri, "binary://") || g_str_has_prefix(uri, "binary-v2://");
}

static void close_all(struct logger *logger)
{
        loop_watch_stop(g_steal_pointer(&logger->ready_watch));
        fd_close(&logger->ready_fd);
        for (int i = 0; i < 2; i++) {
                fd_close(&logger->out[i]);
                fd_close(&logger->err[i]);
        }
}

static void on_ready(void *data, int events)
{
        struct logger *logger = data;
        char byte;
        ssize_t n = read(logger->ready_fd, &byte, 1);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        loop_watch_stop(g_steal_pointer(&logger->ready_watch));
        fd_close(&logger->ready_fd);
        g_autoptr(GError) error = NULL;
        if (n < 0)
                error_fail_errno(&error, errno, "failed to read from logging binary");
        else if (n == 0 && logger->strict)
                error_fail(&error, ERROR_UNKNOWN,
                        "logging binary did not call ready (it may have crashed or exited prematurely)");
        logger->ready(logger->data, error);
}

static void on_exit_of_logger(void *data, int status, int64_t ended_ns)
{
        struct logger *logger = data;
        logger->pid = 0;
        if (!logger->abandoned)
                return;
        loop_timer_stop(logger->timer);
        g_free(logger);
}

static void on_impatience(void *data)
{
        struct logger *logger = data;
        logger->timer = NULL;
        kill(logger->pid, logger->asked_to_go ? SIGKILL : SIGTERM);
        if (!logger->asked_to_go)
                logger->timer = loop_timer_start(logger->loop, TERM_TO_KILL_MS, on_impatience, logger);
        logger->asked_to_go = true;
}

static char *decode(const char *text)
{
        g_autofree char *spaced = g_strdelimit(g_strdup(text), "+", ' ');
        char *decoded = g_uri_unescape_string(spaced, NULL);
        return decoded != NULL ? decoded : g_steal_pointer(&spaced);
}

// The program and its arguments: each key of the query, followed by its value if it has one.
static GPtrArray *command_line(const char *uri)
{
        const char *path = strstr(uri, "://") + 3, *query = strchr(path, '?');
        g_autofree char *encoded = query != NULL ? g_strndup(path, (gsize)(query - path)) : g_strdup(path);
        GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);
        char *program = g_uri_unescape_string(encoded, NULL);
        g_ptr_array_add(argv, program != NULL ? program : g_strdup(encoded));
        g_auto(GStrv) pairs = g_strsplit(query != NULL ? query + 1 : "", "&", -1);
        for (char **pair = pairs; *pair != NULL; pair++) {
                if (**pair == '\0')
                        continue;
                char *equals = strchr(*pair, '=');
                if (equals != NULL)
                        *equals = '\0';
                g_ptr_array_add(argv, decode(*pair));
                g_ptr_array_add(argv, decode(equals != NULL ? equals + 1 : ""));
        }
        g_ptr_array_add(argv, NULL);
        return argv;
}

static bool start_program(struct logger *logger, const struct logger_options *options, int ready_write, GError **error)
{
        g_autofree char *id = g_strdup_printf("CONTAINER_ID=%s", options->id);
        g_autofree char *namespace_ = g_strdup_printf("CONTAINER_NAMESPACE=%s", options->namespace_);
        const char *environment[] = {id, namespace_, NULL};
        g_autoptr(GPtrArray) argv = command_line(options->uri);
        struct spawn_fd fds[] = {{logger->out[0], 3}, {logger->err[0], 4}, {ready_write, 5}};
        struct spawn_options spawn_options = {
                .path = argv->pdata[0],
                .argv = (const char *const *)argv->pdata,
                .environ = environment,
                .fds = fds,
                .n_fds = G_N_ELEMENTS(fds),
        };
        struct child child;
        if (!spawn(&spawn_options, &child, error))
                return false;
        fd_close(&child.pidfd);
        logger->pid = child.pid;
        reaper_watch(options->reaper, child.pid, on_exit_of_logger, logger);
        return true;
}

struct logger *logger_start(const struct logger_options *options, GError **error)
{
        struct logger *logger = g_new0(struct logger, 1);
        *logger = (struct logger){.loop = options->loop,
                .out = {-1, -1},
                .err = {-1, -1},
                .ready_fd = -1,
                .strict = g_str_has_prefix(options->uri, "binary-v2:"),
                .ready = options->ready,
                .data = options->data};
        int ready[2] = {-1, -1};
        bool started = pipe2(logger->out, O_CLOEXEC) == 0 && pipe2(logger->err, O_CLOEXEC) == 0 &&
                       pipe2(ready, O_CLOEXEC) == 0;
        if (!started)
                error_fail_errno(error, errno, "failed to create pipes of logging binary");
        else if (!(started = start_program(logger, options, ready[1], error)))
                g_prefix_error(error, "failed to start binary process: ");
        fd_close(&ready[1]);
        logger->ready_fd = ready[0];
        if (!started) {
                close_all(logger);
                g_free(logger);
                return NULL;
        }
        fd_close(&logger->out[0]);
        fd_close(&logger->err[0]);
        fcntl(logger->ready_fd, F_SETFL, O_NONBLOCK);
        logger->ready_watch = loop_watch_start(logger->loop, logger->ready_fd, UV_READABLE, on_ready, logger);
        return logger;
}

int logger_input(const struct logger *logger, unsigned which)
{
        return which == 0 ? logger->out[1] : logger->err[1];
}

void logger_release(struct logger *logger)
{
        fd_close(&logger->out[1]);
        fd_close(&logger->err[1]);
}

void logger_free(struct logger *logger)
{
        if (logger == NULL)
                return;
        close_all(logger);
        logger->abandoned = true;
        if (logger->pid == 0)
                g_free(logger);
        else
                logger->timer = loop_timer_start(logger->loop, PATIENCE_MS, on_impatience, logger);
}
