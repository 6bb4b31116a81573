// SPDX-License-Identifier: Apache-2.0
//
// The skeleton that all transfers share. A failure triggers the operation's own cancel token, which everything that was
// started listens to, and then waits for the holds to come back: so an operation ends exactly when nothing of it runs
// any more, and only then are its streams closed and its caller told.
#include "plugins/transfer/operation.h"

#include "base/clock.h"
#include "base/identifier.h"
#include "core/lease.h"
#include "io/loop.h"
#include "plugins/transfer/progress.h"

#define LEASE_SECONDS (24 * 3600)
#define FLUSH_TIMEOUT_MS 2000

struct operation *operation_ref(struct operation *operation)
{
        __atomic_add_fetch(&operation->references, 1, __ATOMIC_RELAXED);
        return operation;
}

void operation_unref(struct operation *operation)
{
        if (__atomic_sub_fetch(&operation->references, 1, __ATOMIC_ACQ_REL) != 0)
                return;
        if (operation->state_free != NULL)
                operation->state_free(operation->state);
        progress_free(operation->progress);
        cancel_unref(operation->stop);
        g_clear_error(&operation->error);
        g_free(operation->own_lease);
        strand_unref(operation->strand);
        arena_free(operation->arena);
        g_free(operation);
}

void operation_submit(struct operation *operation, lane_fn fn, void *data)
{
        strand_submit(operation->strand, fn, data);
}

void operation_hold(struct operation *operation)
{
        operation->n_holds++;
}

bool operation_failed(const struct operation *operation)
{
        return operation->error != NULL;
}

// ---- the lease

static bool insert_lease(struct tx *tx, void *data, GError **error)
{
        struct operation *operation = data;
        struct lease lease = {.id = operation->own_lease, .created_ns = clock_now_ns()};
        g_autofree char *expiry =
                clock_format_rfc3339(lease.created_ns / NS_PER_SECOND * NS_PER_SECOND + LEASE_SECONDS * NS_PER_SECOND);
        labels_set(&lease.labels, operation->arena, "containerd.io/gc.expire", expiry);
        const struct lease_ops *leases = operation->service->metadata->leases;
        return leases->insert(tx, operation->scope.namespace_, &lease, error);
}

static bool remove_lease(struct tx *tx, void *data, GError **error)
{
        struct operation *operation = data;
        struct metadata *metadata = operation->service->metadata;
        metadata->ops->mark_removed(tx);
        return metadata->leases->remove(tx, operation->scope.namespace_, operation->own_lease, error);
}

static void make_lease(struct operation *operation)
{
        if (operation->scope.lease != NULL)
                return;
        g_autofree char *random = identifier_random_hex(4);
        g_autoptr(GError) error = NULL;
        operation->own_lease = g_strdup_printf("%" G_GINT64_FORMAT "-%s", clock_now_ns() % NS_PER_SECOND, random);
        if (metadata_write(operation->service->metadata, TX_RELAXED, insert_lease, operation, &error)) {
                operation->scope.lease = operation->own_lease;
                return;
        }
        g_clear_pointer(&operation->own_lease, g_free);
        operation_fail(operation, g_steal_pointer(&error));
}

// ---- the end

static void answer(struct operation *operation)
{
        if (operation->request == NULL)
                return;
        operation->request = NULL;
        cancel_note_clear(&operation->flush_note);
        operation->done(operation->data, operation->error);
        operation_unref(operation);
}

static void stop_timer(void *data)
{
        struct operation *operation = data;
        if (operation->flush_timer != NULL) {
                loop_timer_stop(g_steal_pointer(&operation->flush_timer));
                operation_unref(operation); // the timer's
        }
        operation_unref(operation);
}

static void one_flushed(struct operation *operation)
{
        if (--operation->n_unflushed > 0 || operation->request == NULL)
                return;
        loop_post(operation->service->loop, stop_timer, operation_ref(operation));
        answer(operation);
}

static void on_flushed_here(void *data)
{
        struct operation *operation = data;
        one_flushed(operation);
        operation_unref(operation);
}

// The client has read all of a stream, or is gone.
static void on_flushed(void *data)
{
        operation_submit(data, on_flushed_here, data);
}

static void on_flush_timeout_here(void *data)
{
        struct operation *operation = data;
        answer(operation);
        operation_unref(operation);
}

static void on_flush_timeout(void *data)
{
        struct operation *operation = data;
        operation->flush_timer = NULL;
        operation_submit(operation, on_flush_timeout_here, operation);
}

static void start_timer(void *data)
{
        struct operation *operation = data;
        operation->flush_timer =
                loop_timer_start(operation->service->loop, FLUSH_TIMEOUT_MS, on_flush_timeout, operation);
}

static void end(struct operation *operation)
{
        const struct transfer_request *request = operation->request;
        operation->ended = true;
        if (operation->watch != 0 && cancel_unwatch(request->cancel, operation->watch))
                operation_unref(operation); // the watcher's reference
        if (operation->own_lease != NULL)
                metadata_write(operation->service->metadata, TX_RELAXED, remove_lease, operation, NULL);
        progress_stop(operation->progress);
        struct stream *streams[] = {request->source.stream, request->destination.stream, request->progress};
        for (size_t i = 0; i < G_N_ELEMENTS(streams); i++)
                if (streams[i] != NULL)
                        stream_close(streams[i]);
        // Clients stop listening when they have the answer: the last events and bytes must be there first.
        struct stream *awaited[] = {request->progress,
                request->destination.kind == TRANSFER_EXPORT_STREAM ? request->destination.stream : NULL};
        operation->n_unflushed = 1;
        cancel_note_set(&operation->flush_note, request->cancel, "the client, to read the end of its streams");
        for (size_t i = 0; i < G_N_ELEMENTS(awaited); i++) {
                if (awaited[i] == NULL)
                        continue;
                operation->n_unflushed++;
                stream_watch_gone(awaited[i], on_flushed, operation_ref(operation));
        }
        if (operation->n_unflushed > 1)
                loop_post(operation->service->loop, start_timer, operation_ref(operation));
        one_flushed(operation);
}

void operation_release(struct operation *operation)
{
        g_assert(operation->n_holds > 0);
        if (--operation->n_holds > 0)
                return;
        operation_fn next = g_steal_pointer(&operation->next);
        if (operation->error == NULL && next != NULL) {
                operation->n_holds++;
                next(operation);
                operation_release(operation);
        } else if (operation->on_close != NULL) {
                operation->n_holds++;
                g_steal_pointer (&operation->on_close)(operation);
        } else {
                end(operation);
        }
}

void operation_fail(struct operation *operation, GError *error)
{
        if (operation->error != NULL || operation->ended) {
                g_error_free(error);
                return;
        }
        operation->error = error;
        operation->next = NULL;
        cancel_trigger(operation->stop, error_class(error), error->message);
        if (operation->on_fail != NULL)
                operation->on_fail(operation);
}

// ---- the start

static void on_cancelled(void *data)
{
        struct operation *operation = data;
        if (operation->request != NULL) {
                g_autoptr(GError) error = NULL;
                cancel_check(operation->request->cancel, &error);
                if (error != NULL)
                        operation_fail(operation, g_steal_pointer(&error));
        }
        operation_unref(operation);
}

static void on_cancel(void *data)
{
        struct operation *operation = data;
        operation_submit(operation, on_cancelled, operation);
}

static void begin(void *data)
{
        struct operation *operation = data;
        operation_hold(operation);
        if (operation->request->cancel != NULL) {
                operation_ref(operation);
                operation->watch = cancel_watch(operation->request->cancel, on_cancel, operation);
        }
        make_lease(operation);
        operation_release(operation);
}

void operation_start(struct transfer_service *service, const struct transfer_request *request, operation_fn first,
        transfer_done_fn done, void *data)
{
        struct operation *operation = g_new0(struct operation, 1);
        operation->references = 1;
        operation->service = service;
        operation->request = request;
        operation->done = done;
        operation->data = data;
        operation->strand = strand_new(service->lanes, LANE_SLOW);
        operation->scope = request->scope;
        operation->arena = arena_new();
        operation->stop = cancel_new_part(request->cancel);
        operation->progress = progress_new(operation, request->progress);
        operation->next = first;
        operation_submit(operation, begin, operation);
}
