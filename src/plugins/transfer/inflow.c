// SPDX-License-Identifier: Apache-2.0
//
// The client may send as much as the window says, in messages of at most 32 KiB; the window is reopened as the pipe
// takes the bytes, so that what is buffered here is never more than one window.
#include "plugins/transfer/inflow.h"

#include "base/fd.h"
#include "core/stream.h"
#include "io/loop.h"
#include "plugins/transfer/operation.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { WINDOW_BYTES = 1024 * 1024, PIPE_BYTES = 1024 * 1024 };

struct inflow {
        struct operation *operation;
        struct stream *stream;
        int pipe_fd;
        GByteArray *buffer;
        size_t n_written, n_consumed;
        bool stream_ended, watching;
        struct loop_watch *watch; // the loop's
};

struct piece {
        struct inflow *inflow;
        GByteArray *bytes; // NULL: the end
};

static void close_pipe(struct inflow *inflow)
{
        g_byte_array_set_size(inflow->buffer, 0);
        inflow->n_written = 0;
        fd_close(&inflow->pipe_fd);
}

static void reopen_window(struct inflow *inflow)
{
        if (inflow->n_consumed < WINDOW_BYTES / 2)
                return;
        TransferTypes__WindowUpdate update = TRANSFER_TYPES__WINDOW_UPDATE__INIT;
        update.update = (int32_t)inflow->n_consumed;
        inflow->n_consumed = 0;
        stream_send(inflow->stream, &update.base);
}

static void write_on(struct inflow *inflow);

static void on_writable_here(void *data)
{
        struct inflow *inflow = data;
        inflow->watching = false;
        write_on(inflow);
        operation_release(inflow->operation);
}

static void on_writable(void *data, int events)
{
        struct inflow *inflow = data;
        loop_watch_stop(g_steal_pointer(&inflow->watch));
        operation_submit(inflow->operation, on_writable_here, inflow);
}

static void start_watch(void *data)
{
        struct inflow *inflow = data;
        inflow->watch =
                loop_watch_start(inflow->operation->service->loop, inflow->pipe_fd, UV_WRITABLE, on_writable, inflow);
}

static void write_on(struct inflow *inflow)
{
        while (inflow->pipe_fd >= 0 && inflow->n_written < inflow->buffer->len) {
                ssize_t n = write(inflow->pipe_fd, inflow->buffer->data + inflow->n_written,
                        inflow->buffer->len - inflow->n_written);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN) {
                        inflow->watching = true;
                        operation_hold(inflow->operation);
                        loop_post(inflow->operation->service->loop, start_watch, inflow);
                        return;
                }
                if (n < 0) {
                        close_pipe(inflow); // the worker has ended, with its own reason or with all that it needs
                        return;
                }
                inflow->n_written += (size_t)n;
                inflow->n_consumed += (size_t)n;
        }
        g_byte_array_set_size(inflow->buffer, 0);
        inflow->n_written = 0;
        if (inflow->stream_ended)
                close_pipe(inflow);
        else
                reopen_window(inflow);
}

static void on_piece(void *data)
{
        struct piece *piece = data;
        struct inflow *inflow = piece->inflow;
        if (piece->bytes == NULL)
                inflow->stream_ended = true;
        else if (inflow->pipe_fd >= 0)
                g_byte_array_append(inflow->buffer, piece->bytes->data, piece->bytes->len);
        if (!inflow->watching && !operation_failed(inflow->operation))
                write_on(inflow);
        if (piece->bytes != NULL)
                g_byte_array_unref(piece->bytes);
        operation_unref(inflow->operation);
        g_free(piece);
}

static void submit_piece(struct inflow *inflow, GByteArray *bytes)
{
        struct piece *piece = g_new(struct piece, 1);
        *piece = (struct piece){inflow, bytes};
        operation_ref(inflow->operation);
        operation_submit(inflow->operation, on_piece, piece);
}

static void on_message(void *data, const char *type_url, const void *value, size_t n_value)
{
        TransferTypes__Data *message = transfer_types__data__unpack(NULL, n_value, value);
        if (message == NULL)
                return;
        GByteArray *bytes = g_byte_array_sized_new((guint)message->data.len);
        g_byte_array_append(bytes, message->data.data, (guint)message->data.len);
        transfer_types__data__free_unpacked(message, NULL);
        submit_piece(data, bytes);
}

static void on_stream_end(void *data)
{
        submit_piece(data, NULL);
}

static void on_stream_free(void *data)
{
        operation_unref(((struct inflow *)data)->operation);
}

void inflow_stop(struct inflow *inflow)
{
        if (!inflow->watching)
                close_pipe(inflow);
}

void inflow_free(struct inflow *inflow)
{
        fd_close(&inflow->pipe_fd);
        g_byte_array_unref(inflow->buffer);
        g_free(inflow);
}

struct inflow *inflow_start(struct operation *operation, struct stream *stream, int pipe_fd)
{
        static const struct stream_reader reader = {
                .on_message = on_message, .on_end = on_stream_end, .on_free = on_stream_free};
        struct inflow *inflow = g_new0(struct inflow, 1);
        inflow->operation = operation;
        inflow->stream = stream;
        inflow->pipe_fd = pipe_fd;
        inflow->buffer = g_byte_array_new();
        fcntl(pipe_fd, F_SETPIPE_SZ, PIPE_BYTES);
        fcntl(pipe_fd, F_SETFL, O_NONBLOCK);
        operation_ref(operation); // on_stream_free gives it back
        stream_attach(stream, &reader, inflow);
        inflow->n_consumed = WINDOW_BYTES;
        reopen_window(inflow);
        return inflow;
}
