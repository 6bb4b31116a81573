// SPDX-License-Identifier: Apache-2.0
//
// What the reader sees lives on the stream's strand: messages, the end, attaching and letting go are jobs on it, so a
// reader that comes later loses nothing and is never called twice at a time. Backpressure is a count of messages and
// bytes that have come and are not delivered: above the mark the carrier pauses, and goes on when the reader has caught
// up. Jobs hold a reference, so a stream outlives what is under way in it.
#include "core/stream.h"

#include "io/lanes.h"

#include <stdatomic.h>
#include <uv.h>

enum { PAUSE_MESSAGES = 256, PAUSE_BYTES = 1024 * 1024 };

struct message {
        char *type_url;
        void *value;
        size_t n_value;
};

struct stream {
        atomic_int references;
        char *id;
        struct strand *strand;
        const struct stream_carrier_ops *ops;
        void *carrier;
        atomic_size_t n_pending, n_pending_bytes;
        atomic_bool ended, closed;
        uv_mutex_t mutex; // over paused, and that pause and resume come in the order in which it changed
        bool paused;
        // On the strand:
        GQueue waiting; // of struct message, until there is a reader
        bool has_reader, end_told, end_came, is_gone;
        void (*gone_fn)(void *data);
        void *gone_data;
        struct stream_reader reader;
        void *reader_data;
};

struct job {
        struct stream *stream;
        struct message *message;
        struct stream_reader reader;
        void (*gone_fn)(void *data);
        void *data;
};

static void message_free(void *data)
{
        struct message *message = data;
        g_free(message->type_url);
        g_free(message->value);
        g_free(message);
}

struct stream *stream_new(const char *id, struct lanes *lanes, const struct stream_carrier_ops *ops, void *carrier)
{
        struct stream *stream = g_new0(struct stream, 1);
        atomic_init(&stream->references, 1);
        stream->id = g_strdup(id);
        stream->strand = strand_new(lanes, LANE_FAST);
        stream->ops = ops;
        stream->carrier = carrier;
        g_assert(uv_mutex_init(&stream->mutex) == 0);
        return stream;
}

struct stream *stream_ref(struct stream *stream)
{
        atomic_fetch_add_explicit(&stream->references, 1, memory_order_relaxed);
        return stream;
}

void stream_unref(struct stream *stream)
{
        if (stream == NULL || atomic_fetch_sub_explicit(&stream->references, 1, memory_order_acq_rel) != 1)
                return;
        if (stream->has_reader && stream->reader.on_free != NULL)
                stream->reader.on_free(stream->reader_data);
        g_queue_clear_full(&stream->waiting, message_free);
        stream->ops->release(stream->carrier);
        strand_unref(stream->strand);
        uv_mutex_destroy(&stream->mutex);
        g_free(stream->id);
        g_free(stream);
}

const char *stream_id(const struct stream *stream)
{
        return stream->id;
}

bool stream_is_ended(const struct stream *stream)
{
        return atomic_load(&stream->ended);
}

static struct job *job_new(struct stream *stream)
{
        struct job *job = g_new0(struct job, 1);
        job->stream = stream_ref(stream);
        return job;
}

static void job_free(struct job *job)
{
        stream_unref(job->stream);
        g_free(job);
}

static void set_paused(struct stream *stream, bool paused)
{
        uv_mutex_lock(&stream->mutex);
        if (stream->paused != paused) {
                stream->paused = paused;
                (paused ? stream->ops->pause : stream->ops->resume)(stream->carrier);
        }
        uv_mutex_unlock(&stream->mutex);
}

// ---- on the strand

static void deliver(struct stream *stream)
{
        while (stream->has_reader && !g_queue_is_empty(&stream->waiting)) {
                struct message *message = g_queue_pop_head(&stream->waiting);
                stream->reader.on_message(stream->reader_data, message->type_url, message->value, message->n_value);
                size_t n = atomic_fetch_sub(&stream->n_pending, 1) - 1;
                size_t n_bytes = atomic_fetch_sub(&stream->n_pending_bytes, message->n_value) - message->n_value;
                message_free(message);
                if (n < PAUSE_MESSAGES / 2 && n_bytes < PAUSE_BYTES / 2)
                        set_paused(stream, false);
        }
        if (stream->has_reader && stream->end_came && !stream->end_told) {
                stream->end_told = true;
                if (stream->reader.on_end != NULL)
                        stream->reader.on_end(stream->reader_data);
        }
}

static void on_receive(void *data)
{
        struct job *job = data;
        g_queue_push_tail(&job->stream->waiting, job->message);
        deliver(job->stream);
        job_free(job);
}

static void on_ended(void *data)
{
        struct job *job = data;
        job->stream->end_came = true;
        deliver(job->stream);
        job_free(job);
}

static void on_writable(void *data)
{
        struct job *job = data;
        struct stream *stream = job->stream;
        if (stream->has_reader && stream->reader.on_writable != NULL)
                stream->reader.on_writable(stream->reader_data);
        job_free(job);
}

static void on_attach(void *data)
{
        struct job *job = data;
        struct stream *stream = job->stream;
        if (stream->has_reader || atomic_load(&stream->closed)) {
                // A second use of one stream: it has nothing to read.
                if (job->reader.on_end != NULL)
                        job->reader.on_end(job->data);
                if (job->reader.on_free != NULL)
                        job->reader.on_free(job->data);
        } else {
                stream->has_reader = true;
                stream->reader = job->reader;
                stream->reader_data = job->data;
                deliver(stream);
        }
        job_free(job);
}

static void on_close(void *data)
{
        struct job *job = data;
        struct stream *stream = job->stream;
        if (stream->has_reader) {
                stream->has_reader = false;
                if (stream->reader.on_free != NULL)
                        stream->reader.on_free(stream->reader_data);
        }
        job_free(job);
}

static void tell_gone(struct stream *stream)
{
        if (!stream->is_gone || stream->gone_fn == NULL)
                return;
        void (*fn)(void *data) = stream->gone_fn;
        stream->gone_fn = NULL;
        fn(stream->gone_data);
}

static void on_gone(void *data)
{
        struct job *job = data;
        job->stream->is_gone = true;
        tell_gone(job->stream);
        job_free(job);
}

static void on_watch_gone(void *data)
{
        struct job *job = data;
        job->stream->gone_fn = job->gone_fn;
        job->stream->gone_data = job->data;
        tell_gone(job->stream);
        job_free(job);
}

// ---- from any thread

void stream_receive(struct stream *stream, const char *type_url, const void *value, size_t n_value)
{
        struct job *job = job_new(stream);
        job->message = g_new0(struct message, 1);
        *job->message = (struct message){g_strdup(type_url), g_memdup2(value, n_value), n_value};
        size_t n = atomic_fetch_add(&stream->n_pending, 1) + 1;
        size_t n_bytes = atomic_fetch_add(&stream->n_pending_bytes, n_value) + n_value;
        // Before the message is submitted: its delivery, at the latest, sees that it is paused.
        if (n > PAUSE_MESSAGES || n_bytes > PAUSE_BYTES)
                set_paused(stream, true);
        strand_submit(stream->strand, on_receive, job);
}

void stream_writable(struct stream *stream)
{
        strand_submit(stream->strand, on_writable, job_new(stream));
}

void stream_ended(struct stream *stream)
{
        if (!atomic_exchange(&stream->ended, true))
                strand_submit(stream->strand, on_ended, job_new(stream));
}

void stream_attach(struct stream *stream, const struct stream_reader *reader, void *data)
{
        struct job *job = job_new(stream);
        job->reader = *reader;
        job->data = data;
        strand_submit(stream->strand, on_attach, job);
}

bool stream_send(struct stream *stream, const ProtobufCMessage *message)
{
        size_t n_value = protobuf_c_message_get_packed_size(message);
        g_autofree uint8_t *value = g_malloc(MAX(n_value, 1));
        protobuf_c_message_pack(message, value);
        return stream->ops->send(stream->carrier, message->descriptor->name, value, n_value);
}

void stream_close(struct stream *stream)
{
        if (atomic_exchange(&stream->closed, true))
                return;
        stream->ops->finish(stream->carrier);
        strand_submit(stream->strand, on_close, job_new(stream));
}

void stream_gone(struct stream *stream)
{
        strand_submit(stream->strand, on_gone, job_new(stream));
}

void stream_watch_gone(struct stream *stream, void (*fn)(void *data), void *data)
{
        struct job *job = job_new(stream);
        job->gone_fn = fn;
        job->data = data;
        strand_submit(stream->strand, on_watch_gone, job);
}
