// SPDX-License-Identifier: Apache-2.0
//
// Tasks.Checkpoint: the shim has CRIU write into a directory, the client's or one of ours; ours becomes a blob, and so
// does the container's spec. Their descriptors are the answer.
#include "services/tasks.h"

#include "base/digest.h"
#include "containerd/runc.pb-c.h"
#include "core/convert.h"
#include "services/service.h"

#include <string.h>

#define MEDIA_TYPE_CHECKPOINT_CONFIG "application/vnd.containerd.container.checkpoint.config.v1+proto"

// In the call's arena.
struct checkpoint {
        struct tasks_service *service;
        struct rpc_call *call;
        struct any spec;
        char *directory; // ours, from the heap; NULL: the client's
};

static void fail(struct checkpoint *checkpoint, GError *error)
{
        checkpoints_remove_directory(checkpoint->service->checkpoints, checkpoint->directory);
        rpc_call_fail(checkpoint->call, error);
}

static bool save_spec(struct checkpoint *checkpoint, Types__Descriptor *descriptor, GError **error)
{
        struct arena *arena = rpc_call_arena(checkpoint->call);
        const Google__Protobuf__Any *spec = any_to_proto(&checkpoint->spec, arena);
        size_t n = spec != NULL ? google__protobuf__any__get_packed_size(spec) : 0;
        uint8_t *bytes = arena_array(arena, uint8_t, n + 1);
        if (spec != NULL)
                google__protobuf__any__pack(spec, bytes);
        g_autofree char *digest = digest_of_bytes(DIGEST_SHA256, bytes, n);
        g_autofree char *ref = g_strconcat(checkpoint->directory, "/spec", NULL);
        const struct content_commit commit = {.size = (int64_t)n, .expected = digest};
        struct scope scope;
        descriptor->media_type = (char *)MEDIA_TYPE_CHECKPOINT_CONFIG;
        descriptor->digest = arena_strdup(arena, digest);
        descriptor->size = (int64_t)n;
        return service_scope(checkpoint->call, &scope, error) &&
               content_write(checkpoint->service->content, &scope, ref, bytes, n, &commit, error);
}

static void on_saved(void *data, const struct differ_compare_result *result, const GError *error)
{
        struct checkpoint *checkpoint = data;
        Types__Descriptor image = TYPES__DESCRIPTOR__INIT, spec = TYPES__DESCRIPTOR__INIT;
        Types__Descriptor *descriptors[] = {&image, &spec};
        GError *failed = error != NULL ? g_error_copy(error) : NULL;
        if (failed != NULL || !save_spec(checkpoint, &spec, &failed)) {
                fail(checkpoint, failed);
                return;
        }
        image.media_type = (char *)MEDIA_TYPE_CHECKPOINT;
        image.digest = (char *)result->digest;
        image.size = result->size;
        checkpoints_remove_directory(checkpoint->service->checkpoints, checkpoint->directory);
        Tasks__CheckpointTaskResponse response = TASKS__CHECKPOINT_TASK_RESPONSE__INIT;
        response.descriptors = descriptors;
        response.n_descriptors = G_N_ELEMENTS(descriptors);
        rpc_call_reply(checkpoint->call, &response.base);
}

static void on_written(void *data, const ProtobufCMessage *message, const GError *error)
{
        struct checkpoint *checkpoint = data;
        struct scope scope;
        GError *failed = error != NULL ? g_error_copy(error) : NULL;
        if (failed != NULL) {
                fail(checkpoint, failed);
        } else if (checkpoint->directory == NULL) {
                Tasks__CheckpointTaskResponse response = TASKS__CHECKPOINT_TASK_RESPONSE__INIT;
                rpc_call_reply(checkpoint->call, &response.base);
        } else if (!service_scope(checkpoint->call, &scope, &failed)) {
                fail(checkpoint, failed);
        } else {
                checkpoints_save(checkpoint->service->checkpoints, &scope, checkpoint->directory,
                        rpc_call_cancel(checkpoint->call), on_saved, checkpoint);
        }
}

// The directory that the client wants CRIU to write to; "": it wants a blob.
static bool image_path(struct rpc_call *call, const struct container *container, const char **ret_path, GError **error)
{
        const Google__Protobuf__Any *any = ((const Tasks__CheckpointTaskRequest *)rpc_call_request(call))->options;
        const Runc__CheckpointOptions *options = NULL;
        if (any != NULL && strcmp(any->type_url, runc__checkpoint_options__descriptor.name) == 0)
                options = runc__checkpoint_options__unpack(
                        arena_allocator(rpc_call_arena(call)), any->value.len, any->value.data);
        if (any != NULL && options == NULL)
                return error_fail(
                        error, ERROR_UNKNOWN, "invalid task checkpoint option for %s", container->runtime_name);
        *ret_path = options != NULL ? options->image_path : "";
        return true;
}

void tasks_on_checkpoint(struct rpc_call *call, void *object)
{
        struct tasks_service *service = object;
        const Tasks__CheckpointTaskRequest *request = (const Tasks__CheckpointTaskRequest *)rpc_call_request(call);
        struct container container;
        if (tasks_begin(service, call, request->container_id, &container) == NULL)
                return;
        struct checkpoint *checkpoint = arena_new0(rpc_call_arena(call), struct checkpoint);
        *checkpoint = (struct checkpoint){.service = service, .call = call, .spec = container.spec};
        const char *path = NULL;
        GError *error = NULL;
        if (image_path(call, &container, &path, &error) && *path == '\0')
                path = checkpoint->directory = checkpoints_make_directory(service->checkpoints, &error);
        if (error != NULL) {
                rpc_call_fail(call, error);
                return;
        }
        ShimV3__CheckpointTaskRequest *message = arena_new0(rpc_call_arena(call), ShimV3__CheckpointTaskRequest);
        shim_v3__checkpoint_task_request__init(message);
        message->id = request->container_id;
        message->path = (char *)path;
        message->options = request->options;
        struct task_call shim_call = {
                .namespace_ = service_namespace(call, NULL),
                .id = request->container_id,
                .method = TASK_CHECKPOINT,
                .request = &message->base,
                .cancel = rpc_call_cancel(call),
        };
        service->runtime->ops->call(service->runtime, &shim_call, on_written, checkpoint);
}
