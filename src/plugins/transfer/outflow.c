// SPDX-License-Identifier: Apache-2.0
//
// The archive is produced piece by piece: the header of an entry, its body from memory or from the blob's file,
// padding, and at the end two blocks of zeros. A piece is made when the client's window has room for it and the stream
// is not full, so that nothing is buffered here but a header.
#include "plugins/transfer/outflow.h"

#include "base/digest.h"
#include "base/fd.h"
#include "core/stream.h"
#include "io/loop.h"
#include "plugins/transfer/operation.h"
#include "plugins/transfer/progress.h"
#include "plugins/transfer/tar_writer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { PIECE_BYTES = 32 * 1024, CLIENT_WINDOW = 64 * 1024, WAIT_MS = 30, MAX_WAITS = 60 };
enum { WRITABLE = 0, GONE = -1, WAITED = -2 }; // events that are no updates of the window

struct outflow {
        struct operation *operation;
        struct stream *stream;
        const GPtrArray *records; // NULL: not started
        size_t next;
        int64_t window;
        bool blocked, ended;
        GByteArray *header; // what goes out before the body
        size_t n_header;
        int fd;
        int64_t left, padding;
        struct digester *digester;
        bool writing, finished, all_sent;
        unsigned n_waits;
        struct loop_timer *timer; // the loop's
};

void outflow_record_free(void *data)
{
        struct outflow_record *record = data;
        g_free(record->name);
        if (record->bytes != NULL)
                g_bytes_unref(record->bytes);
        g_free(record);
}

static void send_on(struct outflow *outflow);

static bool open_record(struct outflow *outflow, GError **error)
{
        const struct outflow_record *record = outflow->records->pdata[outflow->next];
        struct operation *operation = outflow->operation;
        struct content_store *content = operation->service->content;
        outflow->left = outflow->padding = 0;
        if (record->blob != NULL) {
                int64_t size;
                outflow->fd = content->ops->open(content, &operation->scope, record->blob->digest, &size, error);
                if (outflow->fd < 0) {
                        g_prefix_error(error, "failed to get reader: ");
                        return false;
                }
                if (size != record->size)
                        return error_fail(error, ERROR_UNKNOWN, "unexpected copy size for %s", record->name);
                enum digest_algorithm algorithm;
                if (!digest_parse(record->blob->digest, &algorithm, error))
                        return false;
                outflow->digester = digester_new(algorithm);
                outflow->left = record->size;
                outflow->padding = (int64_t)tar_padding(record->size);
        }
        tar_append_header(outflow->header, record->name, record->mode, record->size, record->directory);
        if (record->bytes != NULL) {
                static const guint8 zeros[TAR_BLOCK];
                gsize n;
                const guint8 *bytes = g_bytes_get_data(record->bytes, &n);
                g_byte_array_append(outflow->header, bytes, (guint)n);
                g_byte_array_append(outflow->header, zeros, (guint)tar_padding((int64_t)n));
        }
        return true;
}

static bool close_record(struct outflow *outflow, GError **error)
{
        const struct outflow_record *record = outflow->records->pdata[outflow->next++];
        fd_close(&outflow->fd);
        if (outflow->digester == NULL)
                return true;
        g_autofree char *digest = digester_digest(outflow->digester);
        g_clear_pointer(&outflow->digester, digester_free);
        return strcmp(digest, record->blob->digest) == 0 ||
               error_fail(error, ERROR_DATA_LOSS, "unexpected digest %s copied", digest);
}

// The next bytes of the archive, at most n_wanted. 0: it has ended; -1: failure.
static ssize_t next_bytes(struct outflow *outflow, uint8_t *to, size_t n_wanted, GError **error)
{
        for (;;) {
                size_t n_header = outflow->header->len - outflow->n_header;
                if (n_header > 0) {
                        size_t n = MIN(n_header, n_wanted);
                        memcpy(to, outflow->header->data + outflow->n_header, n);
                        outflow->n_header += n;
                        return (ssize_t)n;
                }
                g_byte_array_set_size(outflow->header, 0);
                outflow->n_header = 0;
                if (outflow->left > 0) {
                        ssize_t n = read(outflow->fd, to, (size_t)MIN((int64_t)n_wanted, outflow->left));
                        if (n < 0 && errno == EINTR)
                                continue;
                        if (n <= 0) {
                                error_fail_errno(error, n < 0 ? errno : EIO, "failed to copy to tar");
                                return -1;
                        }
                        digester_update(outflow->digester, to, (size_t)n);
                        outflow->left -= n;
                        return n;
                }
                static const guint8 zeros[2 * TAR_BLOCK];
                if (outflow->padding > 0) {
                        g_byte_array_append(outflow->header, zeros, (guint)outflow->padding);
                        outflow->padding = 0;
                        continue;
                }
                if (outflow->writing && !close_record(outflow, error))
                        return -1;
                outflow->writing = outflow->next < outflow->records->len;
                if (outflow->writing) {
                        if (!open_record(outflow, error))
                                return -1;
                } else if (!outflow->finished) {
                        outflow->finished = true;
                        g_byte_array_append(outflow->header, zeros, sizeof(zeros));
                } else {
                        return 0;
                }
        }
}

static void stop_timer(void *data)
{
        struct outflow *outflow = data;
        if (outflow->timer != NULL) {
                loop_timer_stop(g_steal_pointer(&outflow->timer));
                operation_unref(outflow->operation); // the timer's
        }
        operation_unref(outflow->operation);
}

static void finish(struct outflow *outflow)
{
        outflow->ended = true;
        if (outflow->all_sent) {
                operation_ref(outflow->operation);
                loop_post(outflow->operation->service->loop, stop_timer, outflow);
        }
        if (!operation_failed(outflow->operation))
                progress_event(outflow->operation->progress, "Completed export", NULL, NULL);
        operation_release(outflow->operation);
}

static void submit_event(struct outflow *outflow, int64_t update);

static void on_timeout(void *data)
{
        struct outflow *outflow = data;
        outflow->timer = NULL;
        submit_event(outflow, WAITED);
        operation_unref(outflow->operation);
}

static void start_timer(void *data)
{
        struct outflow *outflow = data;
        outflow->timer = loop_timer_start(outflow->operation->service->loop, WAIT_MS, on_timeout, outflow);
}

// Everything has been sent. containerd's clients drop what they have not consumed when the answer comes. That they have
// shows in the window, which they reopen as they consume, but only roughly: so the end waits a moment besides; and not
// for ever, as others may count otherwise. False: not yet.
static bool wait_for_reader(struct outflow *outflow)
{
        bool read = outflow->window >= CLIENT_WINDOW && outflow->n_waits > 0;
        if (read || outflow->n_waits >= MAX_WAITS)
                return true;
        if (!outflow->all_sent) {
                outflow->all_sent = true;
                operation_ref(outflow->operation); // the timer's
                loop_post(outflow->operation->service->loop, start_timer, outflow);
        }
        return false;
}

static void send_on(struct outflow *outflow)
{
        uint8_t piece[PIECE_BYTES];
        GError *error = NULL;
        while (outflow->window > 0 && !outflow->blocked) {
                ssize_t n = next_bytes(outflow, piece, (size_t)MIN(outflow->window, PIECE_BYTES), &error);
                if (n < 0)
                        operation_fail(outflow->operation, error);
                if (n == 0 && !wait_for_reader(outflow))
                        return;
                if (n <= 0) {
                        finish(outflow);
                        return;
                }
                TransferTypes__Data data = TRANSFER_TYPES__DATA__INIT;
                data.data = (ProtobufCBinaryData){(size_t)n, piece};
                outflow->window -= n;
                outflow->blocked = !stream_send(outflow->stream, &data.base);
        }
}

struct event {
        struct outflow *outflow;
        int64_t update; // of the window, or one of the constants above
};

static void on_event_here(void *data)
{
        struct event *event = data;
        struct outflow *outflow = event->outflow;
        if (!outflow->ended && event->update == GONE && stream_is_ended(outflow->stream)) {
                GError *error = NULL;
                error_fail(&error, ERROR_CANCELED, "the export stream has ended");
                operation_fail(outflow->operation, error);
        }
        if (event->update > 0)
                outflow->window += event->update;
        if (event->update == WRITABLE)
                outflow->blocked = false;
        if (event->update == WAITED && !outflow->ended) {
                outflow->n_waits++;
                outflow->all_sent = false; // so that another wait begins if this was not enough
        }
        if (!outflow->ended && operation_failed(outflow->operation)) {
                finish(outflow);
        } else if (!outflow->ended && outflow->records != NULL) {
                send_on(outflow);
        }
        operation_unref(outflow->operation);
        g_free(event);
}

static void submit_event(struct outflow *outflow, int64_t update)
{
        struct event *event = g_new(struct event, 1);
        *event = (struct event){outflow, update};
        operation_ref(outflow->operation);
        operation_submit(outflow->operation, on_event_here, event);
}

static void on_message(void *data, const char *type_url, const void *value, size_t n_value)
{
        TransferTypes__WindowUpdate *update = transfer_types__window_update__unpack(NULL, n_value, value);
        if (update != NULL && update->update > 0)
                submit_event(data, update->update);
        if (update != NULL)
                transfer_types__window_update__free_unpacked(update, NULL);
}

static void on_writable(void *data)
{
        submit_event(data, WRITABLE);
}

static void on_stream_end(void *data)
{
        submit_event(data, GONE);
}

static void on_stream_free(void *data)
{
        operation_unref(((struct outflow *)data)->operation);
}

void outflow_start(struct outflow *outflow, const GPtrArray *records)
{
        operation_hold(outflow->operation);
        outflow->records = records;
        outflow->ended = false;
        send_on(outflow);
}

void outflow_stop(struct outflow *outflow)
{
        submit_event(outflow, GONE);
}

void outflow_free(struct outflow *outflow)
{
        g_byte_array_unref(outflow->header);
        if (outflow->digester != NULL)
                digester_free(outflow->digester);
        fd_close(&outflow->fd);
        g_free(outflow);
}

struct outflow *outflow_new(struct operation *operation, struct stream *stream)
{
        static const struct stream_reader reader = {.on_message = on_message,
                .on_end = on_stream_end,
                .on_writable = on_writable,
                .on_free = on_stream_free};
        struct outflow *outflow = g_new0(struct outflow, 1);
        outflow->operation = operation;
        outflow->stream = stream;
        outflow->ended = true; // nothing is sent yet
        outflow->header = g_byte_array_new();
        outflow->fd = -1;
        operation_ref(operation); // on_stream_free gives it back
        stream_attach(stream, &reader, outflow);
        return outflow;
}
