// SPDX-License-Identifier: Apache-2.0
//
// The bytes go through a worker back into the store. They arrive on the pack's strand, where the writer is used, and
// which the operation's strand leaves alone until the end.
#include "plugins/transfer/compress.h"

#include "base/fd.h"
#include "plugins/transfer/operation.h"

#include <string.h>

#define LABEL_UNCOMPRESSED "containerd.io/uncompressed"

struct compress {
        struct operation *operation;
        char *digest; // of the plain layer
        void (*done)(void *data);
        void *data;
        struct pack *pack;
        struct content_writer *writer;
        GError *error;
};

static void end_here(void *data)
{
        struct compress *compress = data;
        struct operation *operation = compress->operation;
        if (compress->error != NULL) {
                g_prefix_error(&compress->error, "failed to compress layer %s: ", compress->digest);
                operation_fail(operation, compress->error);
        } else if (!operation_failed(operation)) {
                compress->done(compress->data);
        }
        pack_unref(compress->pack);
        g_free(compress->digest);
        g_free(compress);
        operation_release(operation);
}

static bool on_bytes(void *data, const void *bytes, size_t n_bytes, GError **error)
{
        struct content_writer *writer = ((struct compress *)data)->writer;
        return writer->ops->write(writer, bytes, n_bytes, error);
}

static bool commit(struct compress *compress, GError **error)
{
        struct label label = {LABEL_UNCOMPRESSED, compress->digest};
        const struct content_commit request = {.labels = {&label, 1}};
        g_autoptr(GError) failure = NULL;
        if (compress->writer->ops->commit(compress->writer, &request, &failure) ||
                error_is(failure, ERROR_ALREADY_EXISTS))
                return true;
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}

static void on_end(void *data, const char *diff_id, const GError *error)
{
        struct compress *compress = data;
        if (error != NULL)
                compress->error = g_error_copy(error);
        else if (strcmp(diff_id, compress->digest) != 0)
                error_fail(&compress->error, ERROR_DATA_LOSS, "the content store gave %s", diff_id);
        else
                commit(compress, &compress->error);
        content_writer_close(g_steal_pointer(&compress->writer));
        operation_submit(compress->operation, end_here, compress);
}

static bool start(struct compress *compress, GError **error)
{
        static const struct pack_handler handler = {on_bytes, on_end};
        struct operation *operation = compress->operation;
        struct content_store *content = operation->service->content;
        g_autofree char *ref = g_strconcat("compress-blob-", compress->digest, NULL);
        const struct content_expect expect = {.ref = g_strdelimit(ref, ":", '-')};
        int64_t n_bytes;
        fd_auto int fd = content->ops->open(content, &operation->scope, compress->digest, &n_bytes, error);
        if (fd < 0)
                return false;
        compress->writer = content->ops->writer(content, &operation->scope, &expect, error);
        if (compress->writer == NULL)
                return false;
        // What an earlier attempt left may come from another version of the compressor.
        if (!compress->writer->ops->truncate(compress->writer, 0, error)) {
                content_writer_close(g_steal_pointer(&compress->writer));
                return false;
        }
        compress->pack = pack_start(operation->service->differ->unpacker,
                &(struct pack_request){.fd = fd, .n_bytes = n_bytes, .compression = "gzip", .cancel = operation->stop},
                &handler, compress);
        return true;
}

void compress_layer(struct operation *operation, const char *digest, void (*done)(void *data), void *data)
{
        struct compress *compress = g_new0(struct compress, 1);
        *compress = (struct compress){.operation = operation, .digest = g_strdup(digest), .done = done, .data = data};
        operation_hold(operation);
        if (!start(compress, &compress->error))
                operation_submit(operation, end_here, compress);
}
