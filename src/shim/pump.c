// SPDX-License-Identifier: Apache-2.0
//
// The pump waits for one thing at a time: bytes at the source or room at the destination. splice(2) says EAGAIN for
// either, so poll(2) tells which. Where it refuses (terminals, files opened for appending), bytes go through a buffer;
// what the destination did not take is kept, and only then memory is used between two events.
#include "shim/pump.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

enum { SPLICE_BYTES = 1024 * 1024, BUFFER_BYTES = 4096, ROUNDS_PER_TURN = 16 };

enum outcome { GO_ON, WAIT_SOURCE, WAIT_DESTINATION, ENDED };

struct pump {
        struct loop *loop;
        int from, to;
        bool use_buffer, finishing, posted, freed;
        struct loop_watch *from_watch, *to_watch;
        uint8_t *left; // read, not written yet
        size_t n_left, left_offset;
        pump_end_fn on_end;
        void *data;
};

static void close_all(struct pump *pump)
{
        loop_watch_stop(g_steal_pointer(&pump->from_watch));
        loop_watch_stop(g_steal_pointer(&pump->to_watch));
        fd_close(&pump->from);
        fd_close(&pump->to);
        g_free(g_steal_pointer(&pump->left));
}

static enum outcome which_blocks(const struct pump *pump)
{
        struct pollfd ends[] = {{.fd = pump->from, .events = POLLIN}, {.fd = pump->to, .events = POLLOUT}};
        poll(ends, G_N_ELEMENTS(ends), 0);
        if (ends[0].revents == 0)
                return pump->finishing ? ENDED : WAIT_SOURCE;
        // Both ready: something came in between. A file must never be waited for, epoll refuses it.
        return ends[1].revents == 0 ? WAIT_DESTINATION : GO_ON;
}

static enum outcome move_by_splice(struct pump *pump)
{
        ssize_t n = splice(pump->from, NULL, pump->to, NULL, SPLICE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n > 0)
                return GO_ON;
        if (n == 0)
                return ENDED;
        if (errno == EAGAIN)
                return which_blocks(pump);
        if (errno == EINVAL) {
                pump->use_buffer = true;
                return GO_ON;
        }
        return errno == EINTR ? GO_ON : ENDED;
}

static enum outcome write_out(struct pump *pump, const uint8_t *bytes, size_t *n_bytes)
{
        while (*n_bytes > 0) {
                ssize_t n = write(pump->to, bytes, *n_bytes);
                if (n < 0 && errno == EAGAIN)
                        return WAIT_DESTINATION;
                if (n < 0 && errno != EINTR)
                        return ENDED;
                bytes += MAX(n, 0);
                *n_bytes -= (size_t)MAX(n, 0);
        }
        return GO_ON;
}

static enum outcome write_left(struct pump *pump)
{
        size_t n = pump->n_left - pump->left_offset;
        enum outcome outcome = write_out(pump, pump->left + pump->left_offset, &n);
        pump->left_offset = pump->n_left - n;
        if (n == 0)
                g_free(g_steal_pointer(&pump->left));
        return outcome;
}

static enum outcome move_by_buffer(struct pump *pump)
{
        if (pump->left != NULL)
                return write_left(pump);
        uint8_t buffer[BUFFER_BYTES];
        ssize_t n_read = read(pump->from, buffer, sizeof buffer);
        if (n_read < 0 && errno == EAGAIN)
                return pump->finishing ? ENDED : WAIT_SOURCE;
        if (n_read < 0 && errno == EINTR)
                return GO_ON;
        if (n_read <= 0) // a terminal without users reads as EIO
                return ENDED;
        size_t n = (size_t)n_read;
        enum outcome outcome = write_out(pump, buffer, &n);
        if (outcome == WAIT_DESTINATION) {
                pump->left = g_memdup2(buffer + (size_t)n_read - n, n);
                pump->n_left = n;
                pump->left_offset = 0;
        }
        return outcome;
}

static void take_turn(struct pump *pump);

static void on_posted(void *data)
{
        struct pump *pump = data;
        pump->posted = false;
        if (pump->freed)
                g_free(pump);
        else if (pump->from >= 0)
                take_turn(pump);
}

static void post_turn(struct pump *pump)
{
        if (!pump->posted)
                loop_post(pump->loop, on_posted, pump);
        pump->posted = true;
}

static void on_event(void *data, int events)
{
        struct pump *pump = data;
        loop_watch_change(pump->from_watch, 0);
        if (pump->to_watch != NULL)
                loop_watch_change(pump->to_watch, 0);
        take_turn(pump);
}

static void wait_for_destination(struct pump *pump)
{
        if (pump->to_watch == NULL)
                pump->to_watch = loop_watch_start(pump->loop, pump->to, UV_WRITABLE, on_event, pump);
        else
                loop_watch_change(pump->to_watch, UV_WRITABLE);
}

static void end(struct pump *pump)
{
        close_all(pump);
        pump->on_end(pump->data);
}

static void take_turn(struct pump *pump)
{
        enum outcome outcome = GO_ON;
        for (int i = 0; i < ROUNDS_PER_TURN && outcome == GO_ON; i++)
                outcome = pump->use_buffer ? move_by_buffer(pump) : move_by_splice(pump);
        if (outcome == GO_ON) {
                post_turn(pump); // others first
        } else if (outcome == WAIT_SOURCE) {
                loop_watch_change(pump->from_watch, UV_READABLE);
        } else if (outcome == WAIT_DESTINATION) {
                wait_for_destination(pump);
        } else {
                end(pump);
        }
}

static void set_nonblocking(int fd)
{
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

struct pump *pump_start(struct loop *loop, const struct pump_options *options)
{
        struct pump *pump = g_new0(struct pump, 1);
        *pump = (struct pump){
                .loop = loop,
                .from = options->from,
                .to = options->to,
                .use_buffer = options->terminal,
                .on_end = options->on_end,
                .data = options->data,
        };
        set_nonblocking(pump->from);
        set_nonblocking(pump->to);
        pump->from_watch = loop_watch_start(loop, pump->from, UV_READABLE, on_event, pump);
        return pump;
}

void pump_finish(struct pump *pump)
{
        pump->finishing = true;
        if (pump->from >= 0)
                post_turn(pump);
}

bool pump_source_is_over(const struct pump *pump)
{
        struct pollfd source = {.fd = pump->from, .events = POLLIN};
        return pump->from < 0 || (poll(&source, 1, 0) > 0 && source.revents & POLLHUP);
}

bool pump_is_caught_up(const struct pump *pump)
{
        struct pollfd source = {.fd = pump->from, .events = POLLIN};
        return pump->from < 0 || (pump->left == NULL && poll(&source, 1, 0) >= 0 && (source.revents & POLLIN) == 0);
}

void pump_free(struct pump *pump)
{
        if (pump == NULL)
                return;
        close_all(pump);
        pump->freed = true;
        if (!pump->posted)
                g_free(pump);
}
