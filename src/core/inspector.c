// SPDX-License-Identifier: Apache-2.0
//
// Requests queue up; the worker answers in their order, one answer each. It is started with the first request and, if
// it died, again with the next one. All on one strand.
#include "core/unpacker_private.h"

#include "base/digest.h"

#include <stdatomic.h>
#include <string.h>

enum { MAX_ANSWER_BYTES = 16 * 1024 * 1024, MAX_MEDIA_TYPE = 1024 };

struct request {
        struct inspector *inspector;
        char *media_type;
        GBytes *document;
        inspect_done_fn done;
        void *data;
};

struct inspector {
        atomic_int references; // the owner's, one for each job on the strand, one for a living worker
        struct unpacker *unpacker;
        struct cancel *cancel;
        struct strand *strand;
        struct worker *worker;
        GQueue waiting; // of struct request: sent, not answered
        bool closed;
};

static void inspector_unref(struct inspector *inspector)
{
        if (atomic_fetch_sub(&inspector->references, 1) != 1)
                return;
        strand_unref(inspector->strand);
        cancel_unref(inspector->cancel);
        unpacker_unref(inspector->unpacker);
        g_free(inspector);
}

static void answer(struct request *request, const Worker__Document *document, const GError *error)
{
        request->done(request->data, document, error);
        g_bytes_unref(request->document);
        g_free(request->media_type);
        g_free(request);
}

// ---- checks: the answer comes from a worker that read hostile bytes

static bool check_descriptor(const Worker__Descriptor *descriptor, GError **error)
{
        if (descriptor->size < 0)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid size %" G_GINT64_FORMAT " in %s",
                        descriptor->size, descriptor->digest);
        if (strlen(descriptor->media_type) > MAX_MEDIA_TYPE)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "media type is too long");
        if (digest_parse(descriptor->digest, NULL, error))
                return true;
        g_prefix_error(error, "invalid digest \"%.200s\": ", descriptor->digest);
        return false;
}

static bool check_descriptors(Worker__Descriptor *const *descriptors, size_t n_descriptors, GError **error)
{
        for (size_t i = 0; i < n_descriptors; i++) {
                if (!check_descriptor(descriptors[i], error))
                        return false;
        }
        return true;
}

static bool check_document(const Worker__Document *document, GError **error)
{
        if (document->kind == WORKER__DOCUMENT__KIND__KIND_MANIFEST && document->config == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "manifest without a config");
        for (size_t i = 0; i < document->n_diff_ids; i++) {
                if (!digest_parse(document->diff_ids[i], NULL, error))
                        return false;
        }
        return check_descriptors(document->manifests, document->n_manifests, error) &&
               check_descriptors(document->layers, document->n_layers, error) &&
               (document->config == NULL || check_descriptor(document->config, error)) &&
               (document->subject == NULL || check_descriptor(document->subject, error));
}

// ---- the worker

static bool on_record(void *data, const uint8_t *bytes, size_t n_bytes, GError **error)
{
        struct inspector *inspector = data;
        AUTO(arena) arena = arena_new();
        const Worker__Answer *record = unpacker_decode(bytes, n_bytes, arena, error);
        if (record == NULL)
                return false;
        struct request *request = g_queue_pop_head(&inspector->waiting);
        if (request == NULL)
                return error_fail(error, ERROR_INTERNAL, "inspect: answer without a question");
        g_autoptr(GError) failure = NULL;
        const Worker__Document *document = NULL;
        if (record->answer_case == WORKER__ANSWER__ANSWER_FAILURE)
                failure = unpacker_failure(record->failure, "inspect");
        else if (record->answer_case != WORKER__ANSWER__ANSWER_DOCUMENT)
                error_fail(&failure, ERROR_INTERNAL, "inspect: unexpected answer");
        else if (check_document(record->document, &failure))
                document = record->document;
        answer(request, document, failure);
        return true;
}

static void fail_waiting(struct inspector *inspector, const GError *error)
{
        struct request *request;
        while ((request = g_queue_pop_head(&inspector->waiting)) != NULL)
                answer(request, NULL, error);
}

static void on_end(void *data, const GError *error)
{
        struct inspector *inspector = data;
        g_autoptr(GError) ended =
                error != NULL ? g_error_copy(error)
                              : g_error_new(SKIFF_ERROR, ERROR_UNAVAILABLE, "inspect: ended without an answer");
        fail_waiting(inspector, ended);
        worker_unref(g_steal_pointer(&inspector->worker));
        inspector_unref(inspector);
}

static bool ensure_worker(struct inspector *inspector, GError **error)
{
        static const struct worker_handler handler = {on_record, on_end};
        if (inspector->worker != NULL)
                return true;
        const struct unpacker_job job = {
                .name = "inspect",
                .strand = inspector->strand,
                .cancel = inspector->cancel,
                .max_record_bytes = MAX_ANSWER_BYTES,
        };
        inspector->worker = unpacker_launch(inspector->unpacker, &job, &handler, inspector, error);
        if (inspector->worker == NULL)
                return false;
        atomic_fetch_add(&inspector->references, 1);
        return true;
}

static void take_request(void *data)
{
        struct request *request = data;
        struct inspector *inspector = request->inspector;
        g_autoptr(GError) error = NULL;
        size_t n_bytes;
        const void *bytes = g_bytes_get_data(request->document, &n_bytes);
        if (inspector->closed)
                error_fail(&error, ERROR_CANCELED, "inspect: canceled");
        else if (n_bytes > INSPECT_MAX_BYTES)
                error_fail(&error, ERROR_RESOURCE_EXHAUSTED, "document of %zu bytes is too large", n_bytes);
        if (error != NULL || !ensure_worker(inspector, &error)) {
                answer(request, NULL, error);
        } else {
                Worker__InspectJob job = WORKER__INSPECT_JOB__INIT;
                job.media_type = request->media_type;
                job.document = (ProtobufCBinaryData){n_bytes, (uint8_t *)bytes};
                g_queue_push_tail(&inspector->waiting, request);
                worker_send(inspector->worker, &job.base);
        }
        inspector_unref(inspector);
}

// ---- from outside

struct inspector *inspector_new(struct unpacker *unpacker, struct strand *strand, struct cancel *cancel)
{
        struct inspector *inspector = g_new0(struct inspector, 1);
        inspector->references = 1;
        inspector->unpacker = unpacker_ref(unpacker);
        inspector->cancel = cancel != NULL ? cancel_ref(cancel) : NULL;
        inspector->strand = strand != NULL ? strand_ref(strand) : strand_new(unpacker->options.lanes, LANE_SLOW);
        g_queue_init(&inspector->waiting);
        return inspector;
}

static void close_inspector(void *data)
{
        struct inspector *inspector = data;
        inspector->closed = true;
        if (inspector->worker != NULL && inspector->waiting.length > 0)
                worker_kill(inspector->worker, NULL);
        else if (inspector->worker != NULL)
                worker_half_close(inspector->worker);
        inspector_unref(inspector);
}

void inspector_free(struct inspector *inspector)
{
        if (inspector != NULL)
                strand_submit(inspector->strand, close_inspector, inspector);
}

void inspector_inspect(struct inspector *inspector, const char *media_type, const void *bytes, size_t n_bytes,
        inspect_done_fn done, void *data)
{
        struct request *request = g_new(struct request, 1);
        *request = (struct request){inspector, g_strdup(media_type), g_bytes_new(bytes, n_bytes), done, data};
        atomic_fetch_add(&inspector->references, 1);
        strand_submit(inspector->strand, take_request, request);
}
