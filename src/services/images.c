// SPDX-License-Identifier: Apache-2.0
//
// containerd.services.images.v1.Images.
#include "core/convert.h"
#include "core/gc.h"
#include "core/image.h"
#include "rpc/server.h"
#include "services/service.h"
#include "services/services.h"

#include "containerd/images.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

struct images_service {
        struct image_store store;
        struct gc *gc;
        struct plugin_service plugin;
};

static Types__Descriptor *descriptor_to_proto(const struct descriptor *descriptor, struct arena *arena)
{
        Types__Descriptor *message = arena_new0(arena, Types__Descriptor);
        types__descriptor__init(message);
        message->media_type = (char *)descriptor->media_type;
        message->digest = (char *)descriptor->digest;
        message->size = descriptor->size;
        message->annotations = labels_to_proto(&descriptor->annotations, arena,
                &types__descriptor__annotations_entry__descriptor, &message->n_annotations);
        return message;
}

static Images__Image *image_to_proto(const struct image *image, struct arena *arena)
{
        Images__Image *message = arena_new0(arena, Images__Image);
        images__image__init(message);
        message->name = (char *)image->name;
        message->labels =
                labels_to_proto(&image->labels, arena, &images__image__labels_entry__descriptor, &message->n_labels);
        message->target = descriptor_to_proto(&image->target, arena);
        message->created_at = timestamp_to_proto(image->created_ns, arena);
        message->updated_at = timestamp_to_proto(image->updated_ns, arena);
        return message;
}

// INVALID_ARGUMENT without a name. Times stay 0.
static bool image_from_proto(const Images__Image *message, struct arena *arena, struct image *ret, GError **error)
{
        if (message == NULL || message->name[0] == '\0')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "Image.Name required");
        *ret = (struct image){
                .name = message->name,
                .labels = labels_from_proto(message->labels, message->n_labels, arena),
                .target = {.media_type = "", .digest = ""},
        };
        const Types__Descriptor *target = message->target;
        if (target != NULL)
                ret->target = (struct descriptor){
                        .media_type = target->media_type,
                        .digest = target->digest,
                        .size = target->size,
                        .annotations = labels_from_proto(target->annotations, target->n_annotations, arena),
                };
        return true;
}

static void on_get(struct rpc_call *call, void *object)
{
        struct images_service *service = object;
        const Images__GetImageRequest *request = (const Images__GetImageRequest *)rpc_call_request(call);
        struct scope scope;
        struct image image;
        GError *error = NULL;
        if (!service_scope(call, &scope, &error) ||
                !image_get(&service->store, scope.namespace_, request->name, rpc_call_arena(call), &image, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Images__GetImageResponse response = IMAGES__GET_IMAGE_RESPONSE__INIT;
        response.image = image_to_proto(&image, rpc_call_arena(call));
        rpc_call_reply(call, &response.base);
}

struct list {
        GPtrArray *images;
        struct arena *arena;
};

static bool add_to_list(void *data, const struct image *image)
{
        struct list *list = data;
        g_ptr_array_add(list->images, image_to_proto(image, list->arena));
        return true;
}

static void on_list(struct rpc_call *call, void *object)
{
        struct images_service *service = object;
        const Images__ListImagesRequest *request = (const Images__ListImagesRequest *)rpc_call_request(call);
        g_autoptr(GPtrArray) images = g_ptr_array_new();
        struct list list = {images, rpc_call_arena(call)};
        struct scope scope;
        AUTO(filter) filter = NULL;
        GError *error = NULL;
        if (!service_scope(call, &scope, &error) ||
                !service_filter(request->filters, request->n_filters, &filter, &error) ||
                !image_list(&service->store, scope.namespace_, filter, list.arena, add_to_list, &list, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Images__ListImagesResponse response = IMAGES__LIST_IMAGES_RESPONSE__INIT;
        response.n_images = images->len;
        response.images = (Images__Image **)images->pdata;
        rpc_call_reply(call, &response.base);
}

static void on_create(struct rpc_call *call, void *object)
{
        struct images_service *service = object;
        const Images__CreateImageRequest *request = (const Images__CreateImageRequest *)rpc_call_request(call);
        struct arena *arena = rpc_call_arena(call);
        struct scope scope;
        struct image image;
        GError *error = NULL;
        bool ok = image_from_proto(request->image, arena, &image, &error) && service_scope(call, &scope, &error);
        if (ok) {
                image.created_ns = timestamp_from_proto(request->source_date_epoch);
                ok = image_create(&service->store, &scope, arena, &image, &error);
        }
        if (!ok) {
                rpc_call_fail(call, error);
                return;
        }
        Images__CreateImageResponse response = IMAGES__CREATE_IMAGE_RESPONSE__INIT;
        response.image = image_to_proto(&image, arena);
        rpc_call_reply(call, &response.base);
}

static void on_update(struct rpc_call *call, void *object)
{
        struct images_service *service = object;
        const Images__UpdateImageRequest *request = (const Images__UpdateImageRequest *)rpc_call_request(call);
        struct arena *arena = rpc_call_arena(call);
        struct scope scope;
        struct image image;
        GError *error = NULL;
        bool ok = image_from_proto(request->image, arena, &image, &error) && service_scope(call, &scope, &error);
        if (ok) {
                image.updated_ns = timestamp_from_proto(request->source_date_epoch);
                ok = image_update(&service->store, &scope, service_paths(request->update_mask),
                        service_n_paths(request->update_mask), arena, &image, &error);
        }
        if (!ok) {
                rpc_call_fail(call, error);
                return;
        }
        Images__UpdateImageResponse response = IMAGES__UPDATE_IMAGE_RESPONSE__INIT;
        response.image = image_to_proto(&image, arena);
        rpc_call_reply(call, &response.base);
}

static void on_delete(struct rpc_call *call, void *object)
{
        struct images_service *service = object;
        const Images__DeleteImageRequest *request = (const Images__DeleteImageRequest *)rpc_call_request(call);
        const char *target =
                request->target != NULL && request->target->digest[0] != '\0' ? request->target->digest : NULL;
        struct scope scope;
        GError *error = NULL;
        if (!service_scope(call, &scope, &error) ||
                !image_delete(&service->store, &scope, request->name, target, &error))
                rpc_call_fail(call, error);
        else
                service_reply_after_gc(call, request->sync ? service->gc : NULL);
}

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Get", LANE_FAST, images__get_image_request, images__get_image_response, on_get,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("List", LANE_FAST, images__list_images_request, images__list_images_response, on_list,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Create", LANE_FAST, images__create_image_request, images__create_image_response, on_create,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Update", LANE_FAST, images__update_image_request, images__update_image_response, on_update,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Delete", LANE_FAST, images__delete_image_request, google__protobuf__empty, on_delete,
                .limit_ms = SERVICE_LIMIT_FILES_MS),
};

static const struct rpc_service rpc = {
        .name = "containerd.services.images.v1.Images",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

static void *init(struct plugin_host *host, GError **error)
{
        struct images_service *service = g_new0(struct images_service, 1);
        service->store.metadata = plugin_host_get(host, PLUGIN_METADATA, "bolt");
        service->store.events = plugin_host_get(host, PLUGIN_EVENT, "exchange");
        service->gc = plugin_host_get(host, PLUGIN_GC, "scheduler");
        service->plugin = (struct plugin_service){.service = &rpc, .object = service, .protocols = RPC_GRPC};
        if (service->store.metadata != NULL)
                return &service->plugin;
        g_free(service);
        error_fail(error, ERROR_FAILED_PRECONDITION, "the metadata store did not start");
        return NULL;
}

static const struct plugin_requirement requires_[] = {
        {PLUGIN_METADATA, "bolt"},
        {PLUGIN_EVENT, "exchange"},
        {PLUGIN_GC, "scheduler"},
        {0},
};

const struct plugin images_service_plugin = {
        .type = PLUGIN_GRPC,
        .id = "images",
        .requires_ = requires_,
        .init = init,
        .stop = service_free_object,
};
