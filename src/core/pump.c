// SPDX-License-Identifier: Apache-2.0
//
// A turn moves a few megabytes, then goes to the end of its strand; when source or sink would block, the loop watches
// it once and submits the next turn. tee(2) duplicates a pipe's content into the next pipe by reference; what it took
// is then read for the hash, which consumes it. Descriptors are closed on the loop's thread, as the watches there need
// them open.
#include "core/pump.h"

#include "base/fd.h"
#include "io/lanes.h"
#include "io/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>

enum { PIPE_BYTES = 1024 * 1024, BUFFER_BYTES = 256 * 1024, TURN_BYTES = 4 * 1024 * 1024 };

enum verdict { GO_ON, WAIT_SOURCE, WAIT_SINK, WAIT_ADVANCE, ENDED, FAILED };

struct pump {
        atomic_int references;
        struct pump_options options;
        // The strand's:
        struct digester *digester;
        uint8_t *buffer;
        int64_t offset, available;
        bool complete, idle, ended; // idle: waits for pump_advance
        GError *error;
        // The loop's:
        struct loop_watch *source_watch, *sink_watch;
};

struct pump *pump_ref(struct pump *pump)
{
        atomic_fetch_add(&pump->references, 1);
        return pump;
}

void pump_unref(struct pump *pump)
{
        if (pump == NULL || atomic_fetch_sub(&pump->references, 1) != 1)
                return;
        digester_free(pump->digester);
        strand_unref(pump->options.strand);
        g_clear_error(&pump->error);
        g_free(pump->buffer);
        g_free(pump);
}

char *pump_digest(const struct pump *pump)
{
        return digester_digest(pump->digester);
}

int64_t pump_bytes(const struct pump *pump)
{
        return pump->offset;
}

bool pump_pipe(int *ret_read_fd, int *ret_write_fd, GError **error)
{
        int pair[2];
        if (pipe2(pair, O_CLOEXEC) < 0)
                return error_fail_errno(error, errno, "make a pipe");
        fcntl(pair[1], F_SETPIPE_SZ, PIPE_BYTES); // less is slower and works
        *ret_read_fd = pair[0];
        *ret_write_fd = pair[1];
        return true;
}

// ---- moving, on the strand

static bool is_ready(int fd, short events)
{
        struct pollfd watched = {.fd = fd, .events = events};
        return poll(&watched, 1, 0) > 0;
}

static enum verdict failed(struct pump *pump, int errnum, const char *what)
{
        if (errnum == EPIPE)
                error_fail(&pump->error, ERROR_UNAVAILABLE, "%s: the reader is gone", what);
        else
                error_fail_errno(&pump->error, errnum, "%s", what);
        return FAILED;
}

static enum verdict move_from_file(struct pump *pump)
{
        if (pump->offset >= pump->available)
                return pump->complete ? ENDED : WAIT_ADVANCE;
        off_t offset = pump->offset;
        size_t wanted = (size_t)MIN(pump->available - pump->offset, PIPE_BYTES);
        ssize_t n = splice(pump->options.source_fd, &offset, pump->options.sink_fd, NULL, wanted, SPLICE_F_NONBLOCK);
        if (n < 0)
                return errno == EAGAIN ? WAIT_SINK : errno == EINTR ? GO_ON : failed(pump, errno, "feed worker");
        if (n == 0) {
                error_fail(&pump->error, ERROR_DATA_LOSS, "feed worker: file ends at %" G_GINT64_FORMAT, pump->offset);
                return FAILED;
        }
        pump->offset += n;
        return GO_ON;
}

static bool take(struct pump *pump, size_t n_bytes)
{
        while (n_bytes > 0) {
                ssize_t n = read(pump->options.source_fd, pump->buffer, MIN(n_bytes, BUFFER_BYTES));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return error_fail_errno(&pump->error, n == 0 ? EIO : errno, "read from worker");
                if (pump->digester != NULL)
                        digester_update(pump->digester, pump->buffer, (size_t)n);
                pump->offset += n;
                n_bytes -= (size_t)n;
        }
        return true;
}

static enum verdict move_to_pipe(struct pump *pump)
{
        ssize_t n = tee(pump->options.source_fd, pump->options.sink_fd, PIPE_BYTES, SPLICE_F_NONBLOCK);
        if (n < 0 && errno == EAGAIN)
                return is_ready(pump->options.source_fd, POLLIN) ? WAIT_SINK : WAIT_SOURCE;
        if (n < 0)
                return errno == EINTR ? GO_ON : failed(pump, errno, "feed worker");
        if (n == 0)
                return ENDED;
        return take(pump, (size_t)n) ? GO_ON : FAILED;
}

static enum verdict move_to_function(struct pump *pump)
{
        ssize_t n = read(pump->options.source_fd, pump->buffer, BUFFER_BYTES);
        if (n < 0)
                return errno == EAGAIN ? WAIT_SOURCE : errno == EINTR ? GO_ON : failed(pump, errno, "read from worker");
        if (n == 0)
                return ENDED;
        if (pump->digester != NULL)
                digester_update(pump->digester, pump->buffer, (size_t)n);
        pump->offset += n;
        return pump->options.on_bytes(pump->options.data, pump->buffer, (size_t)n, &pump->error) ? GO_ON : FAILED;
}

static enum verdict move(struct pump *pump)
{
        if (pump->error != NULL)
                return FAILED;
        if (pump->options.source_is_file)
                return move_from_file(pump);
        return pump->options.sink_fd >= 0 ? move_to_pipe(pump) : move_to_function(pump);
}

// ---- turns

static void turn(void *data);

static void wake(struct pump *pump)
{
        strand_submit(pump->options.strand, turn, pump_ref(pump));
}

static void on_source(void *data, int events)
{
        struct pump *pump = data;
        loop_watch_change(pump->source_watch, 0);
        wake(pump);
}

static void on_sink(void *data, int events)
{
        struct pump *pump = data;
        loop_watch_change(pump->sink_watch, 0);
        wake(pump);
}

static void arm_source(void *data)
{
        struct pump *pump = data;
        if (pump->options.source_fd < 0)
                ; // closed meanwhile
        else if (pump->source_watch == NULL)
                pump->source_watch =
                        loop_watch_start(pump->options.loop, pump->options.source_fd, UV_READABLE, on_source, pump);
        else
                loop_watch_change(pump->source_watch, UV_READABLE);
        pump_unref(pump);
}

static void arm_sink(void *data)
{
        struct pump *pump = data;
        if (pump->options.sink_fd < 0)
                ;
        else if (pump->sink_watch == NULL)
                pump->sink_watch =
                        loop_watch_start(pump->options.loop, pump->options.sink_fd, UV_WRITABLE, on_sink, pump);
        else
                loop_watch_change(pump->sink_watch, UV_WRITABLE);
        pump_unref(pump);
}

static void report_end(void *data)
{
        struct pump *pump = data;
        pump->options.on_end(pump->options.data, pump->error);
        pump_unref(pump);
}

static void close_on_loop(void *data)
{
        struct pump *pump = data;
        if (pump->source_watch != NULL)
                loop_watch_stop(g_steal_pointer(&pump->source_watch));
        if (pump->sink_watch != NULL)
                loop_watch_stop(g_steal_pointer(&pump->sink_watch));
        fd_close(&pump->options.source_fd);
        fd_close(&pump->options.sink_fd);
        strand_submit(pump->options.strand, report_end, pump); // with the reference of the running pump
}

static void act_on(struct pump *pump, enum verdict verdict)
{
        switch (verdict) {
        case WAIT_SOURCE:
                loop_post(pump->options.loop, arm_source, pump_ref(pump));
                break;
        case WAIT_SINK:
                loop_post(pump->options.loop, arm_sink, pump_ref(pump));
                break;
        case WAIT_ADVANCE:
                pump->idle = true;
                break;
        case GO_ON:
                wake(pump);
                break;
        case ENDED:
        case FAILED:
                pump->ended = true;
                loop_post(pump->options.loop, close_on_loop, pump);
        }
}

static void turn(void *data)
{
        struct pump *pump = data;
        int64_t until = pump->offset + TURN_BYTES;
        enum verdict verdict = GO_ON;
        if (!pump->ended) {
                while (verdict == GO_ON && pump->offset < until)
                        verdict = move(pump);
                act_on(pump, verdict);
        }
        pump_unref(pump);
}

struct pump *pump_start(const struct pump_options *options)
{
        struct pump *pump = g_new0(struct pump, 1);
        pump->references = 2; // the caller's and that of the running pump
        pump->options = *options;
        pump->options.strand = strand_ref(options->strand);
        if (options->hash)
                pump->digester = digester_new(DIGEST_SHA256);
        if (!options->source_is_file) {
                pump->buffer = g_malloc(BUFFER_BYTES);
                fcntl(options->source_fd, F_SETFL, O_NONBLOCK);
        }
        if (options->sink_fd >= 0)
                fcntl(options->sink_fd, F_SETFL, O_WRONLY | O_NONBLOCK);
        wake(pump);
        return pump;
}

// ---- from outside

struct notice {
        struct pump *pump;
        int64_t available;
        bool complete;
        GError *reason;
};

static void take_notice(void *data)
{
        struct notice *notice = data;
        struct pump *pump = notice->pump;
        pump->available = MAX(pump->available, notice->available);
        pump->complete |= notice->complete;
        if (notice->reason != NULL && pump->error == NULL && !pump->ended)
                pump->error = g_steal_pointer(&notice->reason);
        // A pump that waits for a pipe is told by the loop, unless it is to stop.
        if (!pump->ended && (pump->idle || pump->error != NULL)) {
                pump->idle = false;
                wake(pump);
        }
        g_clear_error(&notice->reason);
        pump_unref(pump);
        g_free(notice);
}

static void submit_notice(struct pump *pump, const struct notice *template)
{
        struct notice *notice = g_new(struct notice, 1);
        *notice = *template;
        notice->pump = pump_ref(pump);
        strand_submit(pump->options.strand, take_notice, notice);
}

void pump_advance(struct pump *pump, int64_t available_bytes, bool complete)
{
        submit_notice(pump, &(struct notice){.available = available_bytes, .complete = complete});
}

void pump_stop(struct pump *pump, const GError *reason)
{
        GError *error = reason != NULL ? g_error_copy(reason) : g_error_new(SKIFF_ERROR, ERROR_CANCELED, "canceled");
        submit_notice(pump, &(struct notice){.reason = error});
}
