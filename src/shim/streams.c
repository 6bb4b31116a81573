// SPDX-License-Identifier: Apache-2.0
//
// For each FIFO the shim keeps the other end open as well: a client may go and another come (a daemon that restarts)
// without the process seeing a closed pipe or an end of file. Output waits in the FIFO meanwhile. The end of input must
// therefore be asked for, by streams_close_stdin; the end of output is passed on by closing both ends. Input is held
// open only once the process is started: clients with little input are at its end before, and some then forget to ask.
#include "shim/streams.h"

#include "base/error.h"
#include "base/fd.h"
#include "shim/logger.h"
#include "shim/pump.h"

#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

struct streams {
        struct loop *loop;
        struct reaper *reaper;
        char *names[3]; // in, out, err; "": none
        char *id, *namespace_;
        bool terminal, stdin_closed;
        uid_t uid;
        gid_t gid;
        int child[3], ours[3]; // ends of pipes; -1: none
        int in_hold;           // the FIFO's writing end
        int master;
        struct pump *pumps[3];
        bool copying[3];
        struct logger *logger;
        streams_ready_fn ready;
        void *ready_data;
        struct loop_timer *drain_timer;
        loop_fn drained;
        void *drained_data;
        bool ready_posted, freed;
};

struct streams *streams_new(struct loop *loop, struct reaper *reaper, const struct streams_options *options)
{
        struct streams *streams = g_new0(struct streams, 1);
        *streams = (struct streams){
                .loop = loop,
                .reaper = reaper,
                .names = {g_strdup(options->in), g_strdup(options->out), g_strdup(options->err)},
                .id = g_strdup(options->id),
                .namespace_ = g_strdup(options->namespace_),
                .terminal = options->terminal,
                .uid = options->uid,
                .gid = options->gid,
                .child = {-1, -1, -1},
                .ours = {-1, -1, -1},
                .in_hold = -1,
                .master = -1,
        };
        return streams;
}

static void close_child_ends(struct streams *streams)
{
        for (int i = 0; i < 3; i++)
                fd_close(&streams->child[i]);
        if (streams->logger != NULL)
                logger_release(streams->logger);
}

static void release(struct streams *streams)
{
        for (int i = 0; i < 3; i++)
                g_free(streams->names[i]);
        g_free(streams->id);
        g_free(streams->namespace_);
        g_free(streams);
}

void streams_free(struct streams *streams)
{
        if (streams == NULL)
                return;
        loop_timer_stop(streams->drain_timer);
        close_child_ends(streams);
        logger_free(streams->logger);
        for (int i = 0; i < 3; i++) {
                pump_free(streams->pumps[i]);
                fd_close(&streams->ours[i]);
        }
        fd_close(&streams->in_hold);
        fd_close(&streams->master);
        streams->freed = true;
        if (!streams->ready_posted)
                release(streams);
}

// ---- before the process

static bool make_pipe(struct streams *streams, int which, GError **error)
{
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return error_fail_errno(error, errno, "make pipe");
        streams->child[which] = ends[which == 0 ? 0 : 1];
        streams->ours[which] = ends[which == 0 ? 1 : 0];
        if (fchown(streams->child[which], streams->uid, streams->gid) < 0)
                return error_fail_errno(error, errno, "set owner of pipe");
        return true;
}

// "file:///x" is the path /x, made if it is not there; for both streams.
static bool resolve_file(struct streams *streams, GError **error)
{
        g_autofree char *path = g_uri_unescape_string(streams->names[1] + strlen("file://"), NULL);
        g_autofree char *directory = path != NULL ? g_path_get_dirname(path) : NULL;
        if (path == NULL || *path != '/')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "unable to parse stdout uri: %s", streams->names[1]);
        if (g_mkdir_with_parents(directory, 0755) < 0)
                return error_fail_errno(error, errno, "make directory %s", directory);
        fd_auto int fd = open(path, O_APPEND | O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0)
                return error_fail_errno(error, errno, "open %s", path);
        for (int i = 1; i < 3; i++) {
                g_free(streams->names[i]);
                streams->names[i] = g_strdup(path);
        }
        return true;
}

static void on_logger_ready(void *data, const GError *error)
{
        struct streams *streams = data;
        streams->ready(streams->ready_data, error);
}

static bool start_logger(struct streams *streams, GError **error)
{
        struct logger_options options = {
                .loop = streams->loop,
                .reaper = streams->reaper,
                .uri = streams->names[1],
                .id = streams->id,
                .namespace_ = streams->namespace_,
                .ready = on_logger_ready,
                .data = streams,
        };
        streams->logger = logger_start(&options, error);
        return streams->logger != NULL;
}

static bool open_streams(struct streams *streams, GError **error)
{
        const char *scheme_end = strstr(streams->names[1], "://");
        if (g_str_has_prefix(streams->names[1], "file://")) {
                if (!resolve_file(streams, error))
                        return false;
        } else if (logger_is_uri(streams->names[1])) {
                if (!start_logger(streams, error))
                        return false;
        } else if (scheme_end != NULL) {
                return error_fail(error, ERROR_UNKNOWN, "unknown STDIO scheme %.*s",
                        (int)(scheme_end - streams->names[1]), streams->names[1]);
        }
        for (int i = 0; i < 3 && !streams->terminal; i++) {
                bool wanted = *streams->names[i] != '\0' && (i == 0 || streams->logger == NULL);
                if (wanted && !make_pipe(streams, i, error))
                        return false;
        }
        return true;
}

static void tell_ready(void *data)
{
        struct streams *streams = data;
        streams->ready_posted = false;
        if (streams->freed)
                release(streams);
        else
                streams->ready(streams->ready_data, NULL);
}

void streams_open(struct streams *streams, streams_ready_fn ready, void *data)
{
        streams->ready = ready;
        streams->ready_data = data;
        g_autoptr(GError) error = NULL;
        if (!open_streams(streams, &error)) {
                g_prefix_error(&error, "failed to create init process I/O: ");
                ready(data, error);
        } else if (streams->logger == NULL) {
                streams->ready_posted = true;
                loop_post(streams->loop, tell_ready, streams);
        }
}

size_t streams_child_fds(const struct streams *streams, struct spawn_fd fds[3])
{
        size_t n = 0;
        for (int i = 0; i < 3; i++) {
                int fd = i > 0 && streams->logger != NULL ? logger_input(streams->logger, (unsigned)i - 1)
                                                          : streams->child[i];
                if (fd >= 0)
                        fds[n++] = (struct spawn_fd){fd, i};
        }
        return n;
}

// ---- copying

static void finish_drain(struct streams *streams)
{
        if (streams->drained == NULL || streams->copying[1] || streams->copying[2])
                return;
        loop_timer_stop(g_steal_pointer(&streams->drain_timer));
        loop_fn drained = streams->drained;
        streams->drained = NULL;
        loop_post(streams->loop, drained, streams->drained_data);
}

static void on_in_end(void *data)
{
        struct streams *streams = data;
        streams->copying[0] = false;
        fd_close(&streams->in_hold);
}

static void on_out_end(void *data)
{
        struct streams *streams = data;
        streams->copying[1] = false;
        finish_drain(streams);
}

static void on_err_end(void *data)
{
        struct streams *streams = data;
        streams->copying[2] = false;
        finish_drain(streams);
}

static void start_pump(struct streams *streams, int which, int from, int to, int hold)
{
        static const pump_end_fn ends[] = {on_in_end, on_out_end, on_err_end};
        struct pump_options options = {
                .from = from,
                .to = to,
                .hold = hold,
                .terminal = streams->master >= 0,
                .on_end = ends[which],
                .data = streams,
        };
        streams->copying[which] = true;
        streams->pumps[which] = pump_start(streams->loop, &options);
}

static bool start_input(struct streams *streams, int to, GError **error)
{
        fd_auto int destination = to;
        const char *name = streams->names[0];
        struct stat st;
        if (stat(name, &st) < 0)
                return error_fail_errno(error, errno, "containerd-shim: opening %s failed", name);
        if (!S_ISFIFO(st.st_mode))
                return error_fail(error, ERROR_UNKNOWN, "containerd-shim: opening %s failed: not a fifo", name);
        fd_auto int from = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (from < 0)
                return error_fail_errno(error, errno, "containerd-shim: opening %s failed", name);
        start_pump(streams, 0, fd_take(&from), fd_take(&destination), -1);
        return true;
}

static bool start_output(struct streams *streams, int which, int source, GError **error)
{
        fd_auto int from = source, hold = -1;
        const char *name = streams->names[which];
        struct stat st;
        if (stat(name, &st) == 0 && S_ISFIFO(st.st_mode)) {
                hold = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
                if (hold < 0)
                        return error_fail_errno(error, errno, "containerd-shim: opening r/o fifo \"%s\" failed", name);
        }
        fd_auto int to = open(name, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY);
        if (to < 0)
                return error_fail_errno(error, errno, "containerd-shim: opening %s \"%s\" failed",
                        hold >= 0 ? "w/o fifo" : "file", name);
        start_pump(streams, which, fd_take(&from), fd_take(&to), fd_take(&hold));
        return true;
}

static bool start_terminal(struct streams *streams, GError **error)
{
        fd_auto int in = fcntl(streams->master, F_DUPFD_CLOEXEC, 3), out = fcntl(streams->master, F_DUPFD_CLOEXEC, 3);
        if (in < 0 || out < 0)
                return error_fail_errno(error, errno, "duplicate terminal");
        if (*streams->names[0] != '\0' && !start_input(streams, fd_take(&in), error))
                return false;
        if (streams->logger != NULL) {
                int to = fcntl(logger_input(streams->logger, 0), F_DUPFD_CLOEXEC, 3);
                if (to < 0)
                        return error_fail_errno(error, errno, "duplicate pipe");
                start_pump(streams, 1, fd_take(&out), to, -1);
        } else if (*streams->names[1] != '\0') {
                return start_output(streams, 1, fd_take(&out), error);
        }
        return true;
}

static bool start_pipes(struct streams *streams, GError **error)
{
        for (int i = 1; i < 3; i++) {
                if (streams->ours[i] >= 0 && !start_output(streams, i, fd_take(&streams->ours[i]), error))
                        return false;
        }
        return streams->ours[0] < 0 || start_input(streams, fd_take(&streams->ours[0]), error);
}

bool streams_start(struct streams *streams, int master, GError **error)
{
        streams->master = master;
        bool started = master >= 0 ? start_terminal(streams, error) : start_pipes(streams, error);
        close_child_ends(streams);
        if (!started)
                g_prefix_error(error, "failed to start %s copy: ", master >= 0 ? "console" : "io pipe");
        return started;
}

void streams_hold_stdin(struct streams *streams)
{
        if (streams->stdin_closed || !streams->copying[0] || pump_source_is_over(streams->pumps[0]))
                return;
        streams->in_hold = open(streams->names[0], O_WRONLY | O_NONBLOCK | O_CLOEXEC);
}

void streams_close_stdin(struct streams *streams)
{
        streams->stdin_closed = true;
        fd_close(&streams->in_hold);
}

bool streams_resize(struct streams *streams, unsigned width, unsigned height, GError **error)
{
        struct winsize size = {.ws_col = (unsigned short)width, .ws_row = (unsigned short)height};
        if (streams->master >= 0 && ioctl(streams->master, TIOCSWINSZ, &size) < 0)
                return error_fail_errno(error, errno, "resize terminal");
        return true;
}

void streams_process_ended(struct streams *streams)
{
        if (streams->master >= 0 && streams->copying[1])
                pump_finish(streams->pumps[1]);
}

static void on_drain_timeout(void *data)
{
        struct streams *streams = data;
        streams->drain_timer = NULL;
        streams->copying[1] = streams->copying[2] = false;
        finish_drain(streams);
}

void streams_drain(struct streams *streams, unsigned timeout_ms, loop_fn done, void *data)
{
        streams->drained = done;
        streams->drained_data = data;
        streams->drain_timer = loop_timer_start(streams->loop, timeout_ms, on_drain_timeout, streams);
        finish_drain(streams);
}
