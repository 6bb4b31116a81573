// SPDX-License-Identifier: Apache-2.0
#include "plugins/transfer/inspect.h"

#include "plugins/transfer/operation.h"

struct inspection {
        struct operation *operation;
        const char *prefix;
        inspect_fn fn;
        void *data;
};

struct inspector *inspect_new(struct operation *operation)
{
        return inspector_new(operation->service->differ->unpacker, operation->strand, operation->stop);
}

static void fail(struct operation *operation, GError *error, const char *prefix)
{
        if (prefix != NULL)
                g_prefix_error(&error, "%s", prefix);
        operation_fail(operation, error);
}

static void on_inspected(void *data, const Worker__Document *document, const GError *error)
{
        struct inspection *inspection = data;
        struct operation *operation = inspection->operation;
        if (error != NULL)
                fail(operation, g_error_copy(error), inspection->prefix);
        else if (!operation_failed(operation))
                inspection->fn(inspection->data, document);
        g_free(inspection);
        operation_release(operation);
}

void inspect_blob(struct operation *operation, const struct inspect_request *request)
{
        AUTO(arena) arena = arena_new();
        const char *bytes;
        size_t n_bytes;
        GError *error = NULL;
        if (!content_read(operation->service->content, &operation->scope, request->digest, INSPECT_MAX_BYTES, arena,
                    &bytes, &n_bytes, &error)) {
                fail(operation, error, request->prefix);
                return;
        }
        struct inspection *inspection = g_new(struct inspection, 1);
        *inspection = (struct inspection){operation, request->prefix, request->fn, request->data};
        operation_hold(operation);
        inspector_inspect(request->inspector, request->media_type, bytes, n_bytes, on_inspected, inspection);
}
