// SPDX-License-Identifier: Apache-2.0
//
// The worker sends the files in one stream, each with a record before its body; its end comes over the control socket.
// The stream is taken apart here, which needs no more than two lengths; both are checked.
#include "core/unpacker_private.h"

#include "base/fd.h"
#include "base/message.h"
#include "core/pump.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

enum { MAX_FILES = 100 * 1000, MAX_FILE_RECORD = 8 * 1024, LENGTH_BYTES = 4 };

enum state { IN_LENGTH, IN_RECORD, IN_BODY };

struct split {
        atomic_int references;
        struct unpacker *unpacker;
        struct cancel *cancel;
        struct strand *strand;
        struct split_handler handler;
        void *data;
        int input_fd;
        struct worker *worker;
        struct pump *pump;
        unsigned running;
        GError *reason, *failure, *other;
        struct arena *end_arena;
        const Worker__ArchiveEnd *end;
        enum state state;
        uint8_t record[MAX_FILE_RECORD];
        unsigned n_files;
        size_t n_record, wanted; // bytes of record that are there, and that it takes
        uint64_t body_left;
};

void split_unref(struct split *split)
{
        if (split == NULL || atomic_fetch_sub(&split->references, 1) != 1)
                return;
        worker_unref(split->worker);
        pump_unref(split->pump);
        g_clear_error(&split->reason);
        g_clear_error(&split->failure);
        g_clear_error(&split->other);
        if (split->end_arena != NULL)
                arena_free(split->end_arena);
        fd_close(&split->input_fd);
        strand_unref(split->strand);
        cancel_unref(split->cancel);
        unpacker_unref(split->unpacker);
        g_free(split);
}

// ---- the stream

static bool begin_file(struct split *split, GError **error)
{
        AUTO(arena) arena = arena_new();
        const Worker__ArchiveFile *file = (const Worker__ArchiveFile *)message_decode(
                &worker__archive_file__descriptor, split->record, split->n_record, arena, NULL);
        if (file == NULL || file->name.len == 0 || memchr(file->name.data, 0, file->name.len) != NULL ||
                file->size > INT64_MAX)
                return error_fail(error, ERROR_INTERNAL, "split: malformed answer");
        if (split->n_files++ == MAX_FILES) // the worker counts too, unless it was taken over
                return error_fail(error, ERROR_RESOURCE_EXHAUSTED, "split: more than %d files", MAX_FILES);
        const char *compression = strcmp(file->compression, "gzip") == 0   ? "gzip"
                                  : strcmp(file->compression, "zstd") == 0 ? "zstd"
                                                                           : "";
        split->state = IN_BODY;
        split->body_left = file->size;
        const char *name = arena_printf(arena, "%.*s", (int)file->name.len, (const char *)file->name.data);
        return split->handler.on_file(split->data, name, file->size, compression, error);
}

static bool end_file_if_over(struct split *split, GError **error)
{
        if (split->state != IN_BODY || split->body_left > 0)
                return true;
        split->state = IN_LENGTH;
        split->n_record = 0;
        split->wanted = LENGTH_BYTES;
        return split->handler.on_file_end(split->data, error);
}

static bool end_record_part(struct split *split, GError **error)
{
        if (split->state == IN_RECORD)
                return begin_file(split, error);
        const uint8_t *head = split->record;
        split->wanted = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        split->n_record = 0;
        split->state = IN_RECORD;
        if (split->wanted == 0 || split->wanted > MAX_FILE_RECORD)
                return error_fail(error, ERROR_INTERNAL, "split: malformed answer");
        return true;
}

static bool take_some(struct split *split, const uint8_t *bytes, size_t n_bytes, size_t *ret_n, GError **error)
{
        if (split->state == IN_BODY) {
                size_t n = (size_t)MIN(n_bytes, split->body_left);
                split->body_left -= n;
                *ret_n = n;
                return split->handler.on_bytes(split->data, bytes, n, error);
        }
        size_t n = MIN(n_bytes, split->wanted - split->n_record);
        memcpy(split->record + split->n_record, bytes, n);
        split->n_record += n;
        *ret_n = n;
        return split->n_record < split->wanted || end_record_part(split, error);
}

static bool on_stream(void *data, const void *bytes, size_t n_bytes, GError **error)
{
        struct split *split = data;
        const uint8_t *at = bytes;
        while (n_bytes > 0) {
                size_t n;
                if (!take_some(split, at, n_bytes, &n, error) || !end_file_if_over(split, error))
                        return false;
                at += n;
                n_bytes -= n;
        }
        return true;
}

// ---- the end

static bool finish(struct split *split, GError **error)
{
        const GError *decisive = split->reason != NULL    ? split->reason
                                 : split->failure != NULL ? split->failure
                                                          : split->other;
        if (decisive != NULL) {
                g_propagate_error(error, g_error_copy(decisive));
                return false;
        }
        if (split->end == NULL || split->state != IN_LENGTH || split->n_record > 0)
                return error_fail(error, ERROR_UNAVAILABLE, "split: ended without a result");
        return true;
}

static void end_part(struct split *split, const GError *error)
{
        if (error != NULL && split->other == NULL)
                split->other = g_error_copy(error);
        if (--split->running > 0)
                return;
        g_autoptr(GError) final = NULL;
        bool good = finish(split, &final);
        split->handler.on_end(split->data, good ? split->end : NULL, final);
        split_unref(split);
}

static void on_stream_end(void *data, const GError *error)
{
        struct split *split = data;
        // Ours comes first: what the worker still has to say is that nobody reads what it writes.
        if (error != NULL && split->reason == NULL)
                split->reason = g_error_copy(error);
        if (error != NULL && split->worker != NULL)
                worker_kill(split->worker, error);
        end_part(split, error);
}

static void on_worker_end(void *data, const GError *error)
{
        end_part(data, error);
}

static bool on_record(void *data, const uint8_t *bytes, size_t n_bytes, GError **error)
{
        struct split *split = data;
        if (split->end_arena != NULL)
                return error_fail(error, ERROR_INTERNAL, "split: unexpected answer");
        split->end_arena = arena_new();
        const Worker__Answer *answer = unpacker_decode(bytes, n_bytes, split->end_arena, error);
        if (answer == NULL)
                return false;
        if (answer->answer_case == WORKER__ANSWER__ANSWER_FAILURE)
                split->failure = unpacker_failure(answer->failure, "import");
        else if (answer->answer_case == WORKER__ANSWER__ANSWER_ARCHIVE_END)
                split->end = answer->archive_end;
        else
                return error_fail(error, ERROR_INTERNAL, "split: unexpected answer");
        return true;
}

// ---- the beginning

static bool start_worker(struct split *split, int output_fd, GError **error)
{
        static const struct worker_handler handler = {on_record, on_worker_end};
        const struct spawn_fd fds[] = {{split->input_fd, WORKER_FIRST_FD}, {output_fd, WORKER_FIRST_FD + 1}};
        const struct unpacker_job launched = {
                .name = "split",
                .fds = fds,
                .n_fds = 2,
                .strand = split->strand,
                .cancel = split->cancel,
                .max_record_bytes = 32 * 1024 * 1024,
        };
        split->worker = unpacker_launch(split->unpacker, &launched, &handler, split, error);
        if (split->worker == NULL)
                return false;
        split->running++;
        Worker__SplitJob job = WORKER__SPLIT_JOB__INIT;
        job.max_ratio = split->unpacker->options.max_ratio;
        job.free_bytes = UNPACKER_FREE_BYTES;
        job.max_files = MAX_FILES;
        worker_send(split->worker, &job.base);
        return true;
}

static bool start_parts(struct split *split, GError **error)
{
        fd_auto int read_fd = -1, write_fd = -1;
        if (!pump_pipe(&read_fd, &write_fd, error) || !start_worker(split, write_fd, error))
                return false;
        fd_close(&split->input_fd); // the worker's alone: whoever writes to it learns that it has gone
        struct pump_options options = {
                .loop = split->unpacker->options.loop,
                .strand = split->strand,
                .source_fd = fd_take(&read_fd),
                .sink_fd = -1,
                .on_bytes = on_stream,
                .on_end = on_stream_end,
                .data = split,
        };
        split->running++;
        split->pump = pump_start(&options);
        return true;
}

static void begin(void *data)
{
        struct split *split = data;
        split->running = 1; // this function
        g_autoptr(GError) error = NULL;
        if (split->reason == NULL)
                start_parts(split, &error);
        end_part(split, error);
}

struct split *split_start(
        struct unpacker *unpacker, int fd, struct cancel *cancel, const struct split_handler *handler, void *data)
{
        struct split *split = g_new0(struct split, 1);
        split->references = 2;
        split->unpacker = unpacker_ref(unpacker);
        split->cancel = cancel != NULL ? cancel_ref(cancel) : NULL;
        split->strand = strand_new(unpacker->options.lanes, LANE_SLOW);
        split->handler = *handler;
        split->data = data;
        split->input_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        split->wanted = LENGTH_BYTES;
        strand_submit(split->strand, begin, split);
        return split;
}

struct abortion {
        struct split *split;
        GError *reason;
};

static void take_abort(void *data)
{
        struct abortion *abortion = data;
        struct split *split = abortion->split;
        if (split->reason == NULL)
                split->reason = g_steal_pointer(&abortion->reason);
        if (split->worker != NULL)
                worker_kill(split->worker, split->reason);
        if (split->pump != NULL)
                pump_stop(split->pump, split->reason);
        g_clear_error(&abortion->reason);
        split_unref(split);
        g_free(abortion);
}

void split_abort(struct split *split, const GError *reason)
{
        struct abortion *abortion = g_new(struct abortion, 1);
        *abortion = (struct abortion){split,
                reason != NULL ? g_error_copy(reason) : g_error_new(SKIFF_ERROR, ERROR_CANCELED, "import: canceled")};
        atomic_fetch_add(&split->references, 1);
        strand_submit(split->strand, take_abort, abortion);
}
