// SPDX-License-Identifier: Apache-2.0
//
// Content.List and Content.Read: streams to the client that rest while it does not read.
#include "base/digest.h"
#include "base/fd.h"
#include "services/content.h"
#include "services/listing.h"
#include "services/service.h"

#include <errno.h>

enum { INFOS_PER_MESSAGE = 100, CHUNK_BYTES = 1024 * 1024 };

// ---- List

static bool add_info(void *data, const struct blob *blob)
{
        struct listing *listing = data;
        g_ptr_array_add(listing->items, content_info_to_proto(blob, listing->arena));
        return true;
}

static bool read_infos(
        struct listing *listing, const struct scope *scope, const ProtobufCMessage *message, GError **error)
{
        const Content__ListContentRequest *request = (const Content__ListContentRequest *)message;
        struct content_store *store = listing->service;
        AUTO(filter) filter = filter_parse(request->filters, request->n_filters, error);
        return filter != NULL && store->ops->walk(store, scope, filter, listing->arena, add_info, listing, error);
}

static bool send_infos(struct rpc_stream *stream, void **items, size_t n_items)
{
        Content__ListContentResponse response = CONTENT__LIST_CONTENT_RESPONSE__INIT;
        response.info = (Content__Info **)items;
        response.n_info = n_items;
        return rpc_stream_send(stream, &response.base);
}

static void *on_list(struct rpc_stream *stream, void *object)
{
        static const struct listing_kind kind = {INFOS_PER_MESSAGE, read_infos, send_infos};
        return listing_open(&kind, object);
}

const struct rpc_stream_handler content_list_handler = LISTING_HANDLER(on_list);

// ---- Read

struct reading {
        struct content_store *store;
        int fd;
        int64_t start, at, end; // in the blob
        uint8_t *buffer;
};

static void *reading_open(struct rpc_stream *stream, void *service)
{
        struct reading *reading = g_new0(struct reading, 1);
        reading->store = service;
        reading->fd = -1;
        return reading;
}

static void reading_on_writable(void *state, struct rpc_stream *stream)
{
        struct reading *reading = state;
        GError *error = NULL;
        while (reading->at < reading->end) {
                ssize_t n = pread(reading->fd, reading->buffer, (size_t)MIN(reading->end - reading->at, CHUNK_BYTES),
                        reading->at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0) {
                        if (n < 0)
                                error_fail_errno(&error, errno, "read blob");
                        else
                                error_fail(&error, ERROR_DATA_LOSS, "the blob is shorter than its record says");
                        break;
                }
                // containerd counts from the start of what was asked for, and clients ignore it.
                Content__ReadContentResponse response = CONTENT__READ_CONTENT_RESPONSE__INIT;
                response.offset = reading->at - reading->start;
                response.data = (ProtobufCBinaryData){(size_t)n, reading->buffer};
                reading->at += n;
                if (!rpc_stream_send(stream, &response.base))
                        break;
        }
        if (error != NULL || reading->at == reading->end)
                rpc_stream_finish(stream, error);
}

static bool open_range(
        struct reading *reading, const struct scope *scope, const Content__ReadContentRequest *request, GError **error)
{
        int64_t size;
        if (!digest_parse(request->digest, NULL, error)) {
                g_prefix_error(error, "%s: ", request->digest);
                return false;
        }
        reading->fd = reading->store->ops->open(reading->store, scope, request->digest, &size, error);
        if (reading->fd < 0)
                return false;
        reading->start = reading->at = MAX(request->offset, 0);
        if (reading->at > size)
                return error_fail(
                        error, ERROR_OUT_OF_RANGE, "read past object length %" G_GINT64_FORMAT " bytes", size);
        reading->end = request->size <= 0 || request->size > size - reading->at ? size : reading->at + request->size;
        reading->buffer = g_malloc((size_t)MIN(reading->end - reading->at, CHUNK_BYTES));
        return true;
}

static void reading_on_message(void *state, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        struct reading *reading = state;
        struct scope scope;
        GError *error = NULL;
        if (!service_stream_scope(stream, &scope, &error) ||
                !open_range(reading, &scope, (const Content__ReadContentRequest *)message, &error))
                rpc_stream_finish(stream, error);
        else
                reading_on_writable(reading, stream);
}

static void reading_close(void *state)
{
        struct reading *reading = state;
        fd_close(&reading->fd);
        g_free(reading->buffer);
        g_free(reading);
}

const struct rpc_stream_handler content_read_handler = {
        .open = reading_open,
        .on_message = reading_on_message,
        .on_writable = reading_on_writable,
        .close = reading_close,
};
