// SPDX-License-Identifier: Apache-2.0
//
// What a runtime says of itself: its shim is run with -info, reads its options and prints a RuntimeInfo.
#include "plugins/runtime_v2/internal.h"

#include "io/program.h"

#include "containerd/types.pb-c.h"

#include <string.h>

enum { INFO_TIMEOUT_MS = 10 * 1000 };

struct asking {
        struct manager *manager;
        char *path;
        GBytes *input;
        GError *error;
        task_done_fn done;
        void *data;
};

static void asking_finish(struct asking *asking, const ProtobufCMessage *info, const GError *error)
{
        asking->done(asking->data, info, error);
        asking->manager->n_busy--;
        g_clear_error(&asking->error);
        g_bytes_unref(asking->input);
        g_free(asking->path);
        g_free(asking);
}

static void on_end(void *data, const struct program_result *result, const GError *error)
{
        struct asking *asking = data;
        g_autoptr(GError) failed = NULL;
        if (error != NULL || result->status != 0) {
                gsize n = 0;
                const char *text = result != NULL ? g_bytes_get_data(result->err, &n) : NULL;
                g_autofree char *valid = g_utf8_make_valid(text != NULL ? text : "", (gssize)n);
                g_autofree char *how = error != NULL
                                               ? g_strdup(error->message)
                                               : g_strdup_printf("exit status %d", child_exit_code(result->status));
                error_fail(&failed, ERROR_UNKNOWN, "failed to run [%s -info]: %s (stderr: \"%s\")", asking->path, how,
                        valid);
                asking_finish(asking, NULL, failed);
                return;
        }
        gsize n;
        const void *bytes = g_bytes_get_data(result->out, &n);
        Types__RuntimeInfo *info = types__runtime_info__unpack(NULL, n, bytes);
        if (info == NULL)
                error_fail(&failed, ERROR_UNKNOWN, "failed to unmarshal stdout from [%s -info]", asking->path);
        asking_finish(asking, info != NULL ? &info->base : NULL, failed);
        types__runtime_info__free_unpacked(info, NULL);
}

static void finish_unresolved(void *data)
{
        struct asking *asking = data;
        asking_finish(asking, NULL, asking->error);
}

// On a worker: a program's start takes time.
static void run_info(void *data)
{
        struct asking *asking = data;
        if (asking->error != NULL) {
                loop_post(asking->manager->loop, finish_unresolved, asking);
                return;
        }
        const char *argv[] = {asking->path, "-info", NULL};
        struct spawn_options options = {.path = asking->path, .argv = argv};
        program_run(asking->manager->loop, &options, asking->input, INFO_TIMEOUT_MS, on_end, asking);
}

static void begin(void *data)
{
        struct asking *asking = data;
        asking->manager->n_busy++;
        lanes_submit(asking->manager->lanes, LANE_SLOW, run_info, asking);
}

static GBytes *pack_options(const Google__Protobuf__Any *options)
{
        size_t n = options != NULL ? google__protobuf__any__get_packed_size(options) : 0;
        uint8_t *packed = g_malloc(n + 1);
        if (options != NULL)
                google__protobuf__any__pack(options, packed);
        return g_bytes_new_take(packed, n);
}

void runtime_info(void *instance, const struct any *request, plugin_info_fn done, void *data)
{
        struct asking *asking = g_new0(struct asking, 1);
        *asking = (struct asking){.manager = instance, .done = done, .data = data};
        Types__RuntimeRequest *message = NULL;
        if (request->type_url == NULL || strcmp(request->type_url, types__runtime_request__descriptor.name) != 0)
                error_fail(&asking->error, ERROR_UNIMPLEMENTED, "unknown request type %s: not implemented",
                        request->type_url != NULL ? request->type_url : "");
        else if ((message = types__runtime_request__unpack(NULL, request->n_value, request->value)) == NULL)
                error_fail(&asking->error, ERROR_INVALID_ARGUMENT, "the request cannot be parsed");
        else if ((asking->path = manager_resolve_runtime(asking->manager, message->runtime_path, &asking->error)) ==
                 NULL)
                g_prefix_error(&asking->error, "failed to resolve runtime path: ");
        asking->input = pack_options(message != NULL ? message->options : NULL);
        types__runtime_request__free_unpacked(message, NULL);
        loop_post(asking->manager->loop, begin, asking);
}
