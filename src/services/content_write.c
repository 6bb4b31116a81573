// SPDX-License-Identifier: Apache-2.0
//
// Content.Write: the first message names the ref and opens the writer, each message is answered with where the writer
// stands, a commit ends the stream. The writer is closed before the stream is, so that a client that comes again at
// once does not find its own ref locked.
#include "base/fd.h"
#include "core/convert.h"
#include "services/content.h"
#include "services/service.h"

#include <string.h>

struct writing {
        struct content_store *store;
        char *namespace_, *lease, *ref, *expected;
        int64_t total;
        struct content_writer *writer;
        Content__WriteContentResponse response; // what it said last stays, as in containerd
        Google__Protobuf__Timestamp started, updated;
};

static void *writing_open(struct rpc_stream *stream, void *service)
{
        struct writing *writing = g_new0(struct writing, 1);
        writing->store = service;
        content__write_content_response__init(&writing->response);
        return writing;
}

static void close_writer(struct writing *writing)
{
        if (writing->writer != NULL)
                content_writer_close(g_steal_pointer(&writing->writer));
}

static void finish(struct writing *writing, struct rpc_stream *stream, GError *error)
{
        close_writer(writing);
        rpc_stream_finish(stream, error);
}

static bool begin(
        struct writing *writing, struct rpc_stream *stream, const Content__WriteContentRequest *request, GError **error)
{
        struct scope scope;
        if (request->ref[0] == '\0')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "first message must have a reference");
        if (!service_stream_scope(stream, &scope, error))
                return false;
        writing->namespace_ = g_strdup(scope.namespace_);
        writing->lease = g_strdup(scope.lease);
        writing->ref = g_strdup(request->ref);
        writing->expected = g_strdup(request->expected);
        writing->total = request->total;
        const struct content_expect expect = {writing->ref, writing->total, writing->expected};
        writing->writer = writing->store->ops->writer(writing->store, &scope, &expect, error);
        return writing->writer != NULL;
}

// A client may name the digest only now; if it is there already, nothing needs to be written.
static bool take_expected(struct writing *writing, const Content__WriteContentRequest *request, GError **error)
{
        if (request->total > 0)
                writing->total = request->total;
        if (request->expected[0] == '\0')
                return true;
        g_free(writing->expected);
        writing->expected = g_strdup(request->expected);
        const struct scope scope = {writing->namespace_, writing->lease};
        int64_t size;
        fd_auto int fd = writing->store->ops->open(writing->store, &scope, writing->expected, &size, NULL);
        if (fd < 0)
                return true;
        close_writer(writing);
        writing->store->ops->abort(writing->store, &scope, writing->ref, NULL); // as good as gone
        return error_fail(error, ERROR_ALREADY_EXISTS, "blob with expected digest %s exists", request->expected);
}

static bool write_data(
        struct writing *writing, const Content__WriteContentRequest *request, int64_t offset, GError **error)
{
        struct content_writer *writer = writing->writer;
        if (request->offset > 0 && request->offset != offset)
                return error_fail(error, ERROR_OUT_OF_RANGE,
                        "write @%" G_GINT64_FORMAT " must occur at current offset %" G_GINT64_FORMAT, request->offset,
                        offset);
        if (request->offset == 0 && offset > 0) {
                if (!writer->ops->truncate(writer, 0, error)) {
                        g_prefix_error(error, "truncate failed: ");
                        return false;
                }
                writing->response.offset = 0;
        }
        if (request->data.len > 0) {
                if (!writer->ops->write(writer, request->data.data, request->data.len, error))
                        return false;
                writing->response.offset += (int64_t)request->data.len;
        }
        return true;
}

static bool commit(struct writing *writing, const Content__WriteContentRequest *request, GError **error)
{
        AUTO(arena) arena = arena_new();
        const struct content_commit commit = {
                .size = writing->total,
                .expected = writing->expected,
                .labels = labels_from_proto(request->labels, request->n_labels, arena),
        };
        return writing->writer->ops->commit(writing->writer, &commit, error);
}

static bool act(struct writing *writing, const Content__WriteContentRequest *request, GError **error)
{
        Content__WriteContentResponse *response = &writing->response;
        struct content_status status;
        writing->writer->ops->status(writing->writer, &status);
        response->action = request->action;
        response->offset = status.offset;
        if (!take_expected(writing, request, error))
                return false;
        if (request->action == CONTENT__WRITE_ACTION__STAT) {
                AUTO(arena) arena = arena_new();
                writing->started = *timestamp_to_proto(status.started_ns, arena);
                writing->updated = *timestamp_to_proto(status.updated_ns, arena);
                response->started_at = &writing->started;
                response->updated_at = &writing->updated;
                response->total = writing->total;
                return true;
        }
        if (request->action != CONTENT__WRITE_ACTION__WRITE && request->action != CONTENT__WRITE_ACTION__COMMIT)
                return true;
        return write_data(writing, request, status.offset, error) &&
               (request->action != CONTENT__WRITE_ACTION__COMMIT || commit(writing, request, error));
}

static void writing_on_message(void *state, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        struct writing *writing = state;
        const Content__WriteContentRequest *request = (const Content__WriteContentRequest *)message;
        GError *error = NULL;
        if ((writing->ref == NULL && !begin(writing, stream, request, &error)) || !act(writing, request, &error)) {
                finish(writing, stream, error);
                return;
        }
        g_autofree char *digest = writing->writer->ops->digest(writing->writer);
        writing->response.digest = digest;
        bool committed = request->action == CONTENT__WRITE_ACTION__COMMIT;
        if (committed)
                close_writer(writing);
        rpc_stream_send(stream, &writing->response.base);
        writing->response.digest = (char *)protobuf_c_empty_string;
        if (committed)
                rpc_stream_finish(stream, NULL);
}

static void writing_on_half_close(void *state, struct rpc_stream *stream)
{
        struct writing *writing = state;
        GError *error = NULL;
        if (writing->ref == NULL)
                error_fail(&error, ERROR_UNKNOWN, "EOF"); // not one message: containerd's words
        finish(writing, stream, error);
}

static void writing_on_cancel(void *state, struct rpc_stream *stream)
{
        close_writer(state);
}

static void writing_close(void *state)
{
        struct writing *writing = state;
        close_writer(writing);
        g_free(writing->namespace_);
        g_free(writing->lease);
        g_free(writing->ref);
        g_free(writing->expected);
        g_free(writing);
}

const struct rpc_stream_handler content_write_handler = {
        .open = writing_open,
        .on_message = writing_on_message,
        .on_half_close = writing_on_half_close,
        .on_cancel = writing_on_cancel,
        .close = writing_close,
};
