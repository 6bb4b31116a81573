// SPDX-License-Identifier: Apache-2.0
//
// containerd.services.containers.v1.Containers. ListStream sends one container per message, as fast as the client
// takes them.
#include "base/clock.h"
#include "core/container.h"
#include "core/convert.h"
#include "core/event.h"
#include "rpc/server.h"
#include "services/listing.h"
#include "services/service.h"
#include "services/services.h"

#include "containerd/containers.pb-c.h"
#include "containerd/events.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

struct containers_service {
        struct metadata *metadata;
        struct event_exchange *events;
        struct plugin_service plugin;
};

struct request {
        struct containers_service *service;
        struct arena *arena;
        struct scope scope;
        const char *id;
        struct container container;
        char *const *paths;
        size_t n_paths;
        struct filter *filter;
        GPtrArray *list;
};

// Fails the call where its namespace is not good.
static bool begin(struct request *request, struct rpc_call *call, struct containers_service *service)
{
        GError *error = NULL;
        *request = (struct request){.service = service, .arena = rpc_call_arena(call)};
        if (service_scope(call, &request->scope, &error))
                return true;
        rpc_call_fail(call, error);
        return false;
}

static Containers__Container *to_proto(const struct container *container, struct arena *arena)
{
        Containers__Container *message = arena_new0(arena, Containers__Container);
        Containers__Container__Runtime *runtime = arena_new0(arena, Containers__Container__Runtime);
        containers__container__init(message);
        containers__container__runtime__init(runtime);
        runtime->name = (char *)container->runtime_name;
        runtime->options = any_to_proto(&container->runtime_options, arena);
        message->id = (char *)container->id;
        message->labels = labels_to_proto(
                &container->labels, arena, &containers__container__labels_entry__descriptor, &message->n_labels);
        message->image = (char *)container->image;
        message->runtime = runtime;
        message->spec = any_to_proto(&container->spec, arena);
        message->snapshotter = (char *)container->snapshotter;
        message->snapshot_key = (char *)container->snapshot_key;
        message->created_at = timestamp_to_proto(container->created_ns, arena);
        message->updated_at = timestamp_to_proto(container->updated_ns, arena);
        message->extensions = extensions_to_proto(&container->extensions, arena,
                &containers__container__extensions_entry__descriptor, &message->n_extensions);
        message->sandbox = (char *)container->sandbox;
        return message;
}

static bool from_proto(const Containers__Container *message, struct arena *arena, struct container *ret, GError **error)
{
        if (message == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "container must be set: invalid argument");
        const Containers__Container__Runtime *runtime = message->runtime;
        *ret = (struct container){
                .id = message->id,
                .labels = labels_from_proto(message->labels, message->n_labels, arena),
                .image = message->image,
                .runtime_name = runtime != NULL ? runtime->name : "",
                .runtime_options = any_from_proto(runtime != NULL ? runtime->options : NULL),
                .spec = any_from_proto(message->spec),
                .snapshotter = message->snapshotter,
                .snapshot_key = message->snapshot_key,
                .extensions = extensions_from_proto(message->extensions, message->n_extensions, arena),
                .sandbox = message->sandbox,
        };
        return true;
}

// ---- reading

static void on_get(struct rpc_call *call, void *object)
{
        const Containers__GetContainerRequest *message =
                (const Containers__GetContainerRequest *)rpc_call_request(call);
        struct request request;
        GError *error = NULL;
        if (!begin(&request, call, object))
                return;
        if (!container_get(request.service->metadata, request.scope.namespace_, message->id, request.arena,
                    &request.container, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Containers__GetContainerResponse response = CONTAINERS__GET_CONTAINER_RESPONSE__INIT;
        response.container = to_proto(&request.container, request.arena);
        rpc_call_reply(call, &response.base);
}

static bool add_to_list(void *data, const struct container *container)
{
        struct request *request = data;
        if (request->filter == NULL || filter_match(request->filter, container_field, (void *)container))
                g_ptr_array_add(request->list, to_proto(container, request->arena));
        return true;
}

static bool list(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        return request->service->metadata->containers->walk(
                tx, request->scope.namespace_, request->arena, add_to_list, request, error);
}

static bool run_list(struct request *request, const Containers__ListContainersRequest *message, GError **error)
{
        AUTO(filter) filter = NULL;
        if (!service_filter(message->filters, message->n_filters, &filter, error))
                return false;
        request->filter = filter;
        return metadata_read(request->service->metadata, list, request, error);
}

static void on_list(struct rpc_call *call, void *object)
{
        struct request request;
        GError *error = NULL;
        if (!begin(&request, call, object))
                return;
        g_autoptr(GPtrArray) found = g_ptr_array_new();
        request.list = found;
        if (!run_list(&request, (const Containers__ListContainersRequest *)rpc_call_request(call), &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Containers__ListContainersResponse response = CONTAINERS__LIST_CONTAINERS_RESPONSE__INIT;
        response.n_containers = found->len;
        response.containers = (Containers__Container **)found->pdata;
        rpc_call_reply(call, &response.base);
}

// ---- the stream

static bool read_containers(
        struct listing *listing, const struct scope *scope, const ProtobufCMessage *message, GError **error)
{
        struct request request = {
                .service = listing->service, .arena = listing->arena, .scope = *scope, .list = listing->items};
        return run_list(&request, (const Containers__ListContainersRequest *)message, error);
}

static bool send_container(struct rpc_stream *stream, void **items, size_t n_items)
{
        Containers__ListContainerMessage message = CONTAINERS__LIST_CONTAINER_MESSAGE__INIT;
        message.container = items[0];
        return rpc_stream_send(stream, &message.base);
}

static void *on_list_stream(struct rpc_stream *stream, void *object)
{
        static const struct listing_kind kind = {1, read_containers, send_container};
        return listing_open(&kind, object);
}

static const struct rpc_stream_handler list_stream_handler = LISTING_HANDLER(on_list_stream);

// ---- changing

static bool create(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        return request->service->metadata->containers->insert(
                tx, request->scope.namespace_, &request->container, error);
}

static void publish_create(struct request *request)
{
        const struct container *container = &request->container;
        Events__ContainerCreate__Runtime runtime = EVENTS__CONTAINER_CREATE__RUNTIME__INIT;
        runtime.name = (char *)container->runtime_name;
        runtime.options = any_to_proto(&container->runtime_options, request->arena);
        Events__ContainerCreate event = EVENTS__CONTAINER_CREATE__INIT;
        event.id = (char *)container->id;
        event.image = (char *)container->image;
        event.runtime = &runtime;
        event_publish(request->service->events, request->scope.namespace_, "/containers/create", &event.base);
}

static void on_create(struct rpc_call *call, void *object)
{
        const Containers__CreateContainerRequest *message =
                (const Containers__CreateContainerRequest *)rpc_call_request(call);
        struct request request;
        GError *error = NULL;
        if (!begin(&request, call, object))
                return;
        bool ok = from_proto(message->container, request.arena, &request.container, &error);
        if (ok && !container_validate(&request.container, &error)) {
                g_prefix_error(&error, "create container failed validation: ");
                ok = false;
        }
        if (ok) {
                request.container.created_ns = request.container.updated_ns = clock_now_ns();
                request.container.labels = labels_copy_filled(&request.container.labels, request.arena);
                ok = metadata_write(request.service->metadata, TX_DURABLE, create, &request, &error);
        }
        if (!ok) {
                rpc_call_fail(call, error);
                return;
        }
        publish_create(&request);
        Containers__CreateContainerResponse response = CONTAINERS__CREATE_CONTAINER_RESPONSE__INIT;
        response.container = to_proto(&request.container, request.arena);
        rpc_call_reply(call, &response.base);
}

static bool update(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        struct metadata *metadata = request->service->metadata;
        const char *namespace_ = request->scope.namespace_;
        struct container container;
        g_autoptr(GError) missing = NULL;
        if (!metadata->containers->get(tx, namespace_, request->container.id, request->arena, &container, &missing)) {
                if (error_is(missing, ERROR_NOT_FOUND))
                        return error_fail(error, ERROR_NOT_FOUND, "container \"%s\": not found", request->container.id);
                g_propagate_error(error, g_steal_pointer(&missing));
                return false;
        }
        if (!container_apply(&container, &request->container, request->paths, request->n_paths, request->arena, error))
                return false;
        if (!container_validate(&container, error)) {
                g_prefix_error(error, "update failed validation: ");
                return false;
        }
        container.labels = labels_copy_filled(&container.labels, request->arena);
        container.updated_ns = clock_now_ns();
        if (!metadata->containers->update(tx, namespace_, &container, error))
                return false;
        request->container = container;
        return true;
}

static void publish_update(struct request *request)
{
        const struct container *container = &request->container;
        Events__ContainerUpdate event = EVENTS__CONTAINER_UPDATE__INIT;
        event.id = (char *)container->id;
        event.image = (char *)container->image;
        event.labels = labels_to_proto(&container->labels, request->arena,
                &events__container_update__labels_entry__descriptor, &event.n_labels);
        event.snapshot_key = (char *)container->snapshot_key;
        event_publish(request->service->events, request->scope.namespace_, "/containers/update", &event.base);
}

static void on_update(struct rpc_call *call, void *object)
{
        const Containers__UpdateContainerRequest *message =
                (const Containers__UpdateContainerRequest *)rpc_call_request(call);
        struct request request;
        GError *error = NULL;
        if (!begin(&request, call, object))
                return;
        request.paths = service_paths(message->update_mask);
        request.n_paths = service_n_paths(message->update_mask);
        bool ok = from_proto(message->container, request.arena, &request.container, &error);
        if (ok && request.container.id[0] == '\0')
                ok = error_fail(&error, ERROR_INVALID_ARGUMENT, "Container.ID required");
        if (!ok || !metadata_write(request.service->metadata, TX_DURABLE, update, &request, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        publish_update(&request);
        Containers__UpdateContainerResponse response = CONTAINERS__UPDATE_CONTAINER_RESPONSE__INIT;
        response.container = to_proto(&request.container, request.arena);
        rpc_call_reply(call, &response.base);
}

static bool delete (struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        struct metadata *metadata = request->service->metadata;
        metadata->ops->mark_removed(tx);
        return metadata->containers->remove(tx, request->scope.namespace_, request->id, error);
}

static void on_delete(struct rpc_call *call, void *object)
{
        const Containers__DeleteContainerRequest *message =
                (const Containers__DeleteContainerRequest *)rpc_call_request(call);
        struct request request;
        GError *error = NULL;
        if (!begin(&request, call, object))
                return;
        request.id = message->id;
        if (metadata_write(request.service->metadata, TX_DURABLE, delete, &request, &error)) {
                Events__ContainerDelete event = EVENTS__CONTAINER_DELETE__INIT;
                event.id = message->id;
                event_publish(request.service->events, request.scope.namespace_, "/containers/delete", &event.base);
        }
        service_reply_empty(call, error);
}

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Get", LANE_FAST, containers__get_container_request, containers__get_container_response,
                on_get, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("List", LANE_FAST, containers__list_containers_request, containers__list_containers_response,
                on_list, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_STREAM("ListStream", RPC_SERVER_STREAM, LANE_FAST, containers__list_containers_request,
                containers__list_container_message, &list_stream_handler),
        RPC_METHOD_UNARY("Create", LANE_FAST, containers__create_container_request,
                containers__create_container_response, on_create, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Update", LANE_FAST, containers__update_container_request,
                containers__update_container_response, on_update, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Delete", LANE_FAST, containers__delete_container_request, google__protobuf__empty, on_delete,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
};

static const struct rpc_service rpc = {
        .name = "containerd.services.containers.v1.Containers",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

static void *init(struct plugin_host *host, GError **error)
{
        struct metadata *metadata;
        struct event_exchange *events;
        if (!service_find_records(host, &metadata, &events, error))
                return NULL;
        struct containers_service *service = g_new0(struct containers_service, 1);
        service->metadata = metadata;
        service->events = events;
        service->plugin = (struct plugin_service){.service = &rpc, .object = service, .protocols = RPC_GRPC};
        return &service->plugin;
}

static const struct plugin_requirement requires_[] = {{PLUGIN_METADATA, "bolt"}, {PLUGIN_EVENT, "exchange"}, {0}};

const struct plugin containers_service_plugin = {
        .type = PLUGIN_GRPC,
        .id = "containers",
        .requires_ = requires_,
        .init = init,
        .stop = service_free_object,
};
