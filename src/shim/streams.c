// SPDX-License-Identifier: Apache-2.0
//
// For each FIFO the shim keeps the other end open as well: a client may go and another come (a daemon that restarts)
// without the process seeing a closed pipe or an end of file. Output waits in the FIFO meanwhile. The end of input must
// therefore be asked for, by streams_close_stdin; the end of output is passed on by closing both ends. Input is held
// open only once the process is started: clients with little input are at its end before, and some then forget to ask.
//
// A client opens its ends of output FIFOs while it asks for the process, and gives up an end that is not open yet when
// it hears of the exit. So no process is made before its client reads: else the output of a short one is lost.
#include "shim/streams.h"

#include "base/error.h"
#include "base/fd.h"
#include "shim/fifo.h"
#include "shim/logger.h"
#include "shim/pump.h"

#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

enum { MAX_CHECK_MS = 50, UNREAD_LIMIT_MS = 1000 };

struct streams {
        struct loop *loop;
        struct reaper *reaper;
        char *names[3]; // in, out, err; "": none
        char *id, *namespace_;
        bool terminal, stdin_closed;
        uid_t uid;
        gid_t gid;
        int child[3], ours[3]; // ends of pipes; -1: none
        int to[3], hold[3];    // output: what is copied to, and a FIFO's reading end; -1: none
        bool to_fifo[3];
        int in_hold; // the FIFO's writing end
        int master;
        struct pump *pumps[3];
        bool copying[3];
        struct logger *logger;
        streams_ready_fn ready;
        void *ready_data;
        struct cancel *cancel;          // of the call that waits for ready
        struct loop_timer *check_timer; // looks what the client did at its end
        unsigned check_ms;
        uint64_t unread_until_ms;
        loop_fn ended;
        void *ended_data;
        struct loop_timer *drain_timer;
        loop_fn drained;
        void *drained_data;
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
                .to = {-1, -1, -1},
                .hold = {-1, -1, -1},
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

void streams_free(struct streams *streams)
{
        if (streams == NULL)
                return;
        loop_timer_stop(streams->check_timer);
        loop_timer_stop(streams->drain_timer);
        close_child_ends(streams);
        logger_free(streams->logger);
        for (int i = 0; i < 3; i++) {
                pump_free(streams->pumps[i]);
                fd_close(&streams->ours[i]);
                fd_close(&streams->to[i]);
                fd_close(&streams->hold[i]);
                g_free(streams->names[i]);
        }
        fd_close(&streams->in_hold);
        fd_close(&streams->master);
        cancel_unref(streams->cancel);
        g_free(streams->id);
        g_free(streams->namespace_);
        g_free(streams);
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

static bool open_output(struct streams *streams, int which, GError **error)
{
        const char *name = streams->names[which];
        streams->to_fifo[which] = fifo_is(name);
        if (streams->to_fifo[which]) {
                streams->to[which] = fifo_open_writer(name, error);
                if (streams->to[which] < 0)
                        g_prefix_error(error, "containerd-shim: opening w/o fifo \"%s\" failed: ", name);
                return streams->to[which] >= 0;
        }
        streams->to[which] = open(name, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY);
        return streams->to[which] >= 0 ||
               error_fail_errno(error, errno, "containerd-shim: opening file \"%s\" failed", name);
}

static bool open_outputs(struct streams *streams, GError **error)
{
        int n_outputs = streams->terminal ? 1 : 2;
        for (int i = 1; i <= n_outputs && streams->logger == NULL; i++) {
                if (*streams->names[i] != '\0' && !open_output(streams, i, error))
                        return false;
        }
        return true;
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

static const char *copying_failed(const struct streams *streams)
{
        return streams->terminal ? "failed to start console copy: " : "failed to start io pipe copy: ";
}

// False: somebody does not read yet.
static bool hold_outputs(struct streams *streams)
{
        for (int i = 1; i < 3; i++) {
                if (!streams->to_fifo[i] || streams->hold[i] >= 0)
                        continue;
                if (!fifo_has_reader(streams->to[i]))
                        return false;
                streams->hold[i] = fifo_open_reader_of(streams->to[i]);
        }
        return true;
}

// Of what happens at the other end of a FIFO the kernel tells nothing that could be waited for. Mostly it has happened
// at the first look.
static void check_later(struct streams *streams, loop_fn check)
{
        streams->check_ms = MIN(streams->check_ms * 2 + 1, MAX_CHECK_MS);
        streams->check_timer = loop_timer_start(streams->loop, streams->check_ms, check, streams);
}

static void check_readers(void *data)
{
        struct streams *streams = data;
        g_autoptr(GError) error = NULL;
        streams->check_timer = NULL;
        if (!hold_outputs(streams) && cancel_check(streams->cancel, &error)) {
                check_later(streams, check_readers);
                return;
        }
        streams->check_ms = 0;
        g_prefix_error(&error, "%sno client reads the output: ", copying_failed(streams));
        streams->ready(streams->ready_data, error);
}

void streams_open(struct streams *streams, struct cancel *cancel, streams_ready_fn ready, void *data)
{
        streams->cancel = cancel_ref(cancel);
        streams->ready = ready;
        streams->ready_data = data;
        g_autoptr(GError) error = NULL;
        if (!open_streams(streams, &error))
                g_prefix_error(&error, "failed to create init process I/O: ");
        else if (!open_outputs(streams, &error))
                g_prefix_error(&error, "%s", copying_failed(streams));
        if (error != NULL)
                ready(data, error);
        else if (streams->logger == NULL)
                streams->check_timer = loop_timer_start(streams->loop, 0, check_readers, streams);
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

static void start_pump(struct streams *streams, int which, int from, int to)
{
        static const pump_end_fn ends[] = {on_in_end, on_out_end, on_err_end};
        struct pump_options options = {
                .from = from,
                .to = to,
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
        fd_auto int from = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (from < 0)
                return error_fail_errno(error, errno, "containerd-shim: opening %s failed", name);
        if (!fifo_is(name))
                return error_fail(error, ERROR_UNKNOWN, "containerd-shim: opening %s failed: not a fifo", name);
        start_pump(streams, 0, fd_take(&from), fd_take(&destination));
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
                start_pump(streams, 1, fd_take(&out), to);
        } else if (streams->to[1] >= 0) {
                start_pump(streams, 1, fd_take(&out), fd_take(&streams->to[1]));
        }
        return true;
}

static bool start_pipes(struct streams *streams, GError **error)
{
        for (int i = 1; i < 3; i++) {
                if (streams->ours[i] >= 0)
                        start_pump(streams, i, fd_take(&streams->ours[i]), fd_take(&streams->to[i]));
        }
        return streams->ours[0] < 0 || start_input(streams, fd_take(&streams->ours[0]), error);
}

bool streams_start(struct streams *streams, int master, GError **error)
{
        streams->master = master;
        bool started = master >= 0 ? start_terminal(streams, error) : start_pipes(streams, error);
        close_child_ends(streams);
        if (!started)
                g_prefix_error(error, "%s", copying_failed(streams));
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

static bool is_all_read(const struct streams *streams)
{
        for (int i = 1; i < 3; i++) {
                int n_unread = 0;
                if (streams->pumps[i] != NULL && !pump_is_caught_up(streams->pumps[i]))
                        return false;
                if (streams->hold[i] >= 0 && ioctl(streams->hold[i], FIONREAD, &n_unread) == 0 && n_unread > 0)
                        return false;
        }
        return true;
}

static void check_unread(void *data)
{
        struct streams *streams = data;
        streams->check_timer = NULL;
        if (is_all_read(streams) || uv_now(loop_uv(streams->loop)) >= streams->unread_until_ms)
                streams->ended(streams->ended_data);
        else
                check_later(streams, check_unread);
}

void streams_process_ended(struct streams *streams, loop_fn done, void *data)
{
        if (streams->master >= 0 && streams->copying[1])
                pump_finish(streams->pumps[1]);
        streams->ended = done;
        streams->ended_data = data;
        streams->unread_until_ms = uv_now(loop_uv(streams->loop)) + UNREAD_LIMIT_MS;
        check_unread(streams);
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
