// SPDX-License-Identifier: Apache-2.0
//
// Ends of work are told at once; how far a download is, every 300 ms. A client that does not read loses the steps in
// between, never an end: while its queue is full only those are sent.
#include "plugins/transfer/progress.h"

#include "core/stream.h"
#include "io/loop.h"
#include "plugins/transfer/operation.h"

#include <string.h>

#define INTERVAL_MS 300

enum job_state { WAITING, DOWNLOADING, COMPLETE, EXTRACTING, EXTRACTED };

struct progress_job {
        struct progress *progress;
        enum job_state state;
        const char *last_event;
        int64_t last_offset;
        char *name, *parent;
        const struct node *node; // lives as long as the operation
        _Atomic int64_t offset;
        int64_t told;
};

struct progress {
        struct operation *operation;
        struct stream *stream;
        GPtrArray *jobs;
        struct loop_timer *timer; // the loop's
        bool stopped;
};

static void job_free(void *data)
{
        struct progress_job *job = data;
        g_free(job->name);
        g_free(job->parent);
        g_free(job);
}

struct progress *progress_new(struct operation *operation, struct stream *stream)
{
        struct progress *progress = g_new0(struct progress, 1);
        progress->operation = operation;
        progress->stream = stream != NULL ? stream_ref(stream) : NULL;
        progress->jobs = g_ptr_array_new_with_free_func(job_free);
        return progress;
}

void progress_free(struct progress *progress)
{
        stream_unref(progress->stream);
        g_ptr_array_unref(progress->jobs);
        g_free(progress);
}

static void send_message(struct progress *progress, TransferTypes__Progress *message, const struct node *node)
{
        if (progress->stream == NULL || progress->stopped)
                return;
        Types__Descriptor descriptor = TYPES__DESCRIPTOR__INIT;
        if (node != NULL) {
                descriptor.media_type = (char *)node->media_type;
                descriptor.digest = (char *)node->digest;
                descriptor.size = node->size;
                message->desc = &descriptor;
        }
        stream_send(progress->stream, &message->base);
}

void progress_event(struct progress *progress, const char *event, const char *name, const struct node *node)
{
        TransferTypes__Progress message = TRANSFER_TYPES__PROGRESS__INIT;
        message.event = (char *)event;
        message.name = (char *)(name != NULL ? name : "");
        send_message(progress, &message, node);
}

static void tell(struct progress_job *job, const char *event, int64_t offset)
{
        TransferTypes__Progress message = TRANSFER_TYPES__PROGRESS__INIT;
        char *parents[] = {job->parent};
        job->last_event = event;
        job->last_offset = offset;
        message.event = (char *)event;
        message.name = job->name;
        message.parents = parents;
        message.n_parents = job->parent != NULL ? 1 : 0;
        message.progress = offset;
        message.total = job->node->size;
        send_message(job->progress, &message, job->node);
}

// ---- intervals

static void start_timer(void *data);

static void on_interval(void *data)
{
        struct progress *progress = data;
        struct operation *operation = progress->operation;
        for (size_t i = 0; i < progress->jobs->len && !progress->stopped; i++) {
                struct progress_job *job = progress->jobs->pdata[i];
                int64_t offset = atomic_load(&job->offset);
                if (job->state == EXTRACTING) {
                        tell(job, "extracting", offset);
                } else if ((job->state == WAITING || job->state == DOWNLOADING) && offset > job->told) {
                        job->told = offset;
                        job->state = DOWNLOADING;
                        tell(job, "downloading", offset);
                }
        }
        if (progress->stopped)
                operation_unref(operation);
        else
                loop_post(operation->service->loop, start_timer, progress);
}

static void on_timer(void *data)
{
        struct progress *progress = data;
        progress->timer = NULL;
        operation_submit(progress->operation, on_interval, progress);
}

static void start_timer(void *data)
{
        struct progress *progress = data;
        progress->timer = loop_timer_start(progress->operation->service->loop, INTERVAL_MS, on_timer, progress);
}

static void stop_timer(void *data)
{
        struct progress *progress = data;
        struct operation *operation = progress->operation;
        if (progress->timer != NULL) {
                loop_timer_stop(progress->timer);
                progress->timer = NULL;
                operation_unref(operation); // the timer's
        }
        operation_unref(operation); // this call's
}

void progress_stop(struct progress *progress)
{
        // Clients draw when an object changes: they see how it all ended with this one.
        if (progress->jobs->len > 0) {
                struct progress_job *last = progress->jobs->pdata[progress->jobs->len - 1];
                tell(last, last->last_event, last->last_offset);
        }
        progress->stopped = true;
        if (progress->stream != NULL && progress->jobs->len > 0) {
                operation_ref(progress->operation);
                loop_post(progress->operation->service->loop, stop_timer, progress);
        }
}

// ---- jobs

struct progress_job *progress_add(
        struct progress *progress, const struct node *node, const struct node *parent, const char *root)
{
        struct progress_job *job = g_new0(struct progress_job, 1);
        job->progress = progress;
        job->node = node;
        job->name = node_ref_key(node);
        job->parent = parent != NULL ? node_ref_key(parent) : g_strdup(root);
        g_ptr_array_add(progress->jobs, job);
        tell(job, "waiting", 0);
        if (progress->jobs->len == 1 && progress->stream != NULL) {
                operation_ref(progress->operation); // the timer's, until it finds that it is stopped
                loop_post(progress->operation->service->loop, start_timer, progress);
        }
        return job;
}

void progress_downloaded(struct progress_job *job, int64_t offset)
{
        if (job == NULL)
                return;
        atomic_store(&job->offset, offset);
}

void progress_exists(struct progress_job *job)
{
        if (job == NULL)
                return;
        job->state = COMPLETE;
        atomic_store(&job->offset, job->node->size);
        tell(job, "already exists", job->node->size);
}

void progress_complete(struct progress_job *job)
{
        if (job == NULL || job->state >= COMPLETE)
                return;
        job->state = COMPLETE;
        tell(job, "complete", job->node->size);
}

void progress_extracting(struct progress_job *job)
{
        if (job == NULL)
                return;
        job->state = EXTRACTING;
        tell(job, "extracting", atomic_load(&job->offset));
}

void progress_extracted(struct progress_job *job)
{
        if (job == NULL)
                return;
        job->state = EXTRACTED;
        tell(job, "extracted", job->node->size);
}
