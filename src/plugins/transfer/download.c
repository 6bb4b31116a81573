// SPDX-License-Identifier: Apache-2.0
//
// Three places take part. The operation's strand decides: the lock on the digest, the turn, the fetcher, the end. The
// download's own strand does what takes time: opening the writer, hashing and writing what the pipe holds, committing.
// The loop watches the pipe. The pipe is the only buffer, so a slow disk slows the registry's connection down. The body
// has ended when both the pipe's end and the fetcher's answer are there. A body that does not hash to its digest is
// thrown away, so that the next pull does not go on from it.
#include "plugins/transfer/download.h"

#include "base/fd.h"
#include "core/fetcher.h"
#include "io/loop.h"
#include "plugins/transfer/operation.h"
#include "plugins/transfer/progress.h"

#include <fcntl.h>
#include <unistd.h>
#include <uv.h>

enum { PIPE_BYTES = 1024 * 1024, CHUNK_BYTES = 256 * 1024, CHUNKS_PER_JOB = 32, BUSY_RETRY_MS = 100 };

struct download {
        struct operation *operation;
        struct download_queue *queue;
        struct fetcher *fetcher;
        const struct node *node;
        struct progress_job *progress;
        struct download_handler handler;
        void *data;
        char *lock_key, *ref;
        struct strand *strand;
        struct content_writer *writer; // the own strand's
        int fd;                        // a duplicate of the writer's file
        int64_t offset;                // the own strand's
        int pipe_fd;
        struct loop_watch *watch; // the loop's
        struct loop_timer *timer; // the loop's
        uint8_t *chunk;
        GError *write_error; // the own strand's, until the body has ended
        bool has_turn, body_ended, answered, existed, done;
        uv_mutex_t lock; // on what follows
        download_follow_fn follow;
        void *follow_data;
        int64_t followed_bytes;
        bool followed_complete;
};

static void open_writer(void *data);
static void end_download(struct download *download);

// ---- following

static void tell_followers(struct download *download, int64_t n_bytes, bool complete)
{
        uv_mutex_lock(&download->lock);
        download->followed_bytes = n_bytes;
        download->followed_complete = complete;
        if (download->follow != NULL)
                download->follow(download->follow_data, n_bytes, complete);
        uv_mutex_unlock(&download->lock);
}

void download_follow(struct download *download, download_follow_fn fn, void *data)
{
        uv_mutex_lock(&download->lock);
        download->follow = fn;
        download->follow_data = data;
        fn(data, download->followed_bytes, download->followed_complete);
        uv_mutex_unlock(&download->lock);
}

void download_unfollow(struct download *download)
{
        uv_mutex_lock(&download->lock);
        download->follow = NULL;
        uv_mutex_unlock(&download->lock);
}

// ---- turns

static void start_body(struct download *download);

static void give_turn_back(struct download *download)
{
        if (!download->has_turn)
                return;
        download->has_turn = false;
        download->queue->n_running--;
        struct download *next = g_queue_pop_head(&download->queue->waiting);
        if (next != NULL)
                start_body(next);
}

// ---- the end, on the operation's strand

static void end_download(struct download *download)
{
        struct operation *operation = download->operation;
        give_turn_back(download);
        if (download->lock_key != NULL)
                locks_release(operation->service->locks, download->lock_key);
        g_clear_pointer(&download->lock_key, g_free);
        if (!operation_failed(operation)) {
                download->done = true;
                if (download->existed)
                        progress_exists(download->progress);
                else
                        progress_complete(download->progress);
                download->handler.on_done(download->data);
        }
        operation_release(operation);
}

static void on_committed(void *data)
{
        struct download *download = data;
        if (download->write_error != NULL)
                operation_fail(download->operation, g_steal_pointer(&download->write_error));
        end_download(download);
}

// ---- on the own strand

static void close_writer(struct download *download)
{
        if (download->writer != NULL)
                content_writer_close(g_steal_pointer(&download->writer));
}

static void commit(void *data)
{
        struct download *download = data;
        struct transfer_service *service = download->operation->service;
        const struct scope *scope = &download->operation->scope;
        const struct content_commit request = {.size = download->node->size, .expected = download->node->digest};
        GError *error = NULL;
        bool good = download->writer->ops->commit(download->writer, &request, &error);
        if (!good && error_is(error, ERROR_ALREADY_EXISTS)) {
                g_clear_error(&error);
                good = true;
        }
        close_writer(download);
        if (good)
                tell_followers(download, download->node->size, true);
        else if (error_is(error, ERROR_FAILED_PRECONDITION))
                service->content->ops->abort(service->content, scope, download->ref, NULL);
        if (error != NULL)
                g_prefix_error(&error, "failed commit on ref \"%s\": ", download->ref);
        download->write_error = error;
        operation_submit(download->operation, on_committed, download);
}

static void on_closed_after_failure(void *data)
{
        end_download(data);
}

static void close_after_failure(void *data)
{
        struct download *download = data;
        close_writer(download);
        operation_submit(download->operation, on_closed_after_failure, download);
}

// ---- the body

static void body_part_ended(struct download *download)
{
        if (!download->body_ended || !download->answered)
                return;
        give_turn_back(download);
        bool failed = operation_failed(download->operation);
        strand_submit(download->strand, failed ? close_after_failure : commit, download);
}

static void on_body_ended(void *data)
{
        struct download *download = data;
        download->body_ended = true;
        if (download->write_error != NULL)
                operation_fail(download->operation, g_steal_pointer(&download->write_error));
        body_part_ended(download);
}

static void stop_watch(void *data)
{
        struct download *download = data;
        loop_watch_stop(g_steal_pointer(&download->watch));
        fd_close(&download->pipe_fd);
        operation_submit(download->operation, on_body_ended, download);
}

static void watch_again(void *data)
{
        struct download *download = data;
        loop_watch_change(download->watch, UV_READABLE);
}

// The fetcher keeps to the size, unless it was taken over: then it could fill the disk.
static bool write_chunk(struct download *download, size_t n_bytes)
{
        const struct node *node = download->node;
        if ((int64_t)n_bytes > node->size - download->offset)
                return error_fail(&download->write_error, ERROR_FAILED_PRECONDITION,
                        "content of %s is longer than %" G_GINT64_FORMAT " bytes", node->digest, node->size);
        return download->writer->ops->write(download->writer, download->chunk, n_bytes, &download->write_error);
}

static void pump(void *data)
{
        struct download *download = data;
        struct loop *loop = download->operation->service->loop;
        for (int i = 0; i < CHUNKS_PER_JOB; i++) {
                ssize_t n = read(download->pipe_fd, download->chunk, CHUNK_BYTES);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        break;
                if (n <= 0) {
                        loop_post(loop, stop_watch, download);
                        return;
                }
                if (!write_chunk(download, (size_t)n)) {
                        loop_post(loop, stop_watch, download); // the fetcher finds the pipe broken
                        return;
                }
                download->offset += n;
                progress_downloaded(download->progress, download->offset);
                tell_followers(download, download->offset, false);
        }
        loop_post(loop, watch_again, download);
}

static void on_readable(void *data, int events)
{
        struct download *download = data;
        loop_watch_change(download->watch, 0);
        strand_submit(download->strand, pump, download);
}

static void start_watch(void *data)
{
        struct download *download = data;
        download->watch = loop_watch_start(
                download->operation->service->loop, download->pipe_fd, UV_READABLE, on_readable, download);
}

static void on_answer(void *data, const Fetch__Done *result, const GError *error)
{
        struct download *download = data;
        if (error != NULL)
                operation_fail(download->operation, g_error_copy(error));
        download->answered = true;
        body_part_ended(download);
}

static void start_body(struct download *download)
{
        struct operation *operation = download->operation;
        int fds[2];
        if (!operation_failed(operation) && pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
                GError *error = NULL;
                error_fail_errno(&error, errno, "make a pipe");
                operation_fail(operation, error);
        }
        if (operation_failed(operation)) {
                strand_submit(download->strand, close_after_failure, download);
                return;
        }
        fcntl(fds[0], F_SETPIPE_SZ, PIPE_BYTES);
        download->has_turn = true;
        download->queue->n_running++;
        download->pipe_fd = fds[0];
        download->chunk = g_malloc(CHUNK_BYTES);
        Fetch__Get get = FETCH__GET__INIT;
        get.media_type = (char *)download->node->media_type;
        get.digest = (char *)download->node->digest;
        get.size = download->node->size;
        get.offset = download->offset;
        fetcher_get(download->fetcher, &get, fds[1], on_answer, download);
        loop_post(operation->service->loop, start_watch, download);
}

// ---- the beginning

static void on_opened(void *data)
{
        struct download *download = data;
        if (download->write_error != NULL)
                operation_fail(download->operation, g_steal_pointer(&download->write_error));
        if (operation_failed(download->operation)) {
                strand_submit(download->strand, close_after_failure, download);
                return;
        }
        if (download->handler.on_open != NULL)
                download->handler.on_open(download->data);
        if (download->offset == download->node->size)
                strand_submit(download->strand, commit, download);
        else if (download->queue->n_running < download->queue->limit)
                start_body(download);
        else
                g_queue_push_tail(&download->queue->waiting, download);
}

static void on_existed(void *data)
{
        struct download *download = data;
        download->existed = true;
        end_download(download);
}

static void on_retry(void *data)
{
        struct download *download = data;
        download->timer = NULL;
        strand_submit(download->strand, open_writer, download);
}

static void start_retry(void *data)
{
        struct download *download = data;
        download->timer = loop_timer_start(download->operation->service->loop, BUSY_RETRY_MS, on_retry, download);
}

// On the own strand. Another client may be writing under the same reference: then it is asked again until that is over.
static void open_writer(void *data)
{
        struct download *download = data;
        struct operation *operation = download->operation;
        struct content_store *content = operation->service->content;
        const struct content_expect expect = {
                .ref = download->ref, .total = download->node->size, .expected = download->node->digest};
        GError *error = NULL;
        if (!cancel_check(operation->stop, &error)) {
                download->write_error = error;
                operation_submit(operation, on_opened, download);
                return;
        }
        download->writer = content->ops->writer(content, &operation->scope, &expect, &error);
        if (download->writer == NULL && error_is(error, ERROR_ALREADY_EXISTS)) {
                g_clear_error(&error);
                operation_submit(operation, on_existed, download);
                return;
        }
        if (download->writer == NULL && error_is(error, ERROR_UNAVAILABLE)) {
                g_clear_error(&error);
                loop_post(operation->service->loop, start_retry, download);
                return;
        }
        if (download->writer != NULL) {
                struct content_status status;
                download->writer->ops->status(download->writer, &status);
                download->offset = status.offset;
                if (download->offset > download->node->size &&
                        download->writer->ops->truncate(download->writer, 0, &error))
                        download->offset = 0;
                int fd = download->writer->ops->fd(download->writer);
                download->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
                tell_followers(download, download->offset, false);
        }
        download->write_error = error;
        operation_submit(operation, on_opened, download);
}

static void on_locked_here(void *data)
{
        struct download *download = data;
        strand_submit(download->strand, open_writer, download);
}

static void on_locked(void *data)
{
        struct download *download = data;
        operation_submit(download->operation, on_locked_here, download);
}

struct download *download_start(const struct download_options *options)
{
        struct download *download = g_new0(struct download, 1);
        download->operation = options->operation;
        download->queue = options->queue;
        download->fetcher = options->fetcher;
        download->node = options->node;
        download->progress = options->progress;
        download->handler = *options->handler;
        download->data = options->data;
        download->lock_key = g_strconcat("blob/", options->node->digest, NULL);
        download->ref = node_ref_key(options->node);
        download->strand = strand_new(options->operation->service->lanes, LANE_SLOW);
        download->fd = download->pipe_fd = -1;
        uv_mutex_init(&download->lock);
        operation_hold(options->operation);
        locks_acquire(options->operation->service->locks, download->lock_key, on_locked, download);
        return download;
}

void download_free(struct download *download)
{
        fd_close(&download->fd);
        strand_unref(download->strand);
        uv_mutex_destroy(&download->lock);
        g_clear_error(&download->write_error);
        g_free(download->chunk);
        g_free(download->ref);
        g_free(download);
}

void download_queue_flush(struct download_queue *queue)
{
        struct download *download;
        while ((download = g_queue_pop_head(&queue->waiting)) != NULL)
                start_body(download);
}

bool download_is_done(const struct download *download)
{
        return download->done;
}

bool download_existed(const struct download *download)
{
        return download->existed;
}

int download_fd(const struct download *download)
{
        return download->fd;
}
