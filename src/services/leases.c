// SPDX-License-Identifier: Apache-2.0
//
// containerd.services.leases.v1.Leases. What a lease holds need not exist. Leases come and go with each pull, so their
// transactions are relaxed: a lease that a power cut takes back had only just been given.
#include "base/clock.h"
#include "core/convert.h"
#include "core/gc.h"
#include "core/lease.h"
#include "rpc/server.h"
#include "services/service.h"
#include "services/services.h"

#include "containerd/leases.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

struct leases_service {
        struct metadata *metadata;
        struct gc *gc;
        struct plugin_service plugin;
};

struct request {
        struct leases_service *service;
        struct arena *arena;
        struct scope scope;
        const char *id;
        struct lease lease;
        struct lease_resource resource;
        struct filter *filter;
        GPtrArray *list;
};

// Fails the call where its namespace is not good.
static bool begin(struct request *request, struct rpc_call *call, struct leases_service *service)
{
        GError *error = NULL;
        *request = (struct request){.service = service, .arena = rpc_call_arena(call)};
        if (service_scope(call, &request->scope, &error))
                return true;
        rpc_call_fail(call, error);
        return false;
}

static Leases__Lease *to_proto(const struct lease *lease, struct arena *arena)
{
        Leases__Lease *message = arena_new0(arena, Leases__Lease);
        leases__lease__init(message);
        message->id = (char *)lease->id;
        message->created_at = timestamp_to_proto(lease->created_ns, arena);
        message->labels =
                labels_to_proto(&lease->labels, arena, &leases__lease__labels_entry__descriptor, &message->n_labels);
        return message;
}

static bool create(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        return request->service->metadata->leases->insert(tx, request->scope.namespace_, &request->lease, error);
}

// As containerd makes them: nanoseconds and a few random letters.
static char *make_id(struct arena *arena)
{
        guint32 random = g_random_int();
        g_autofree char *text = g_base64_encode((const guchar *)&random, 3);
        for (char *p = text; *p != '\0'; p++)
                *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
        return arena_printf(arena, "%" G_GINT64_FORMAT "-%s", clock_now_ns() % NS_PER_SECOND, text);
}

static void on_create(struct rpc_call *call, void *object)
{
        const Leases__CreateRequest *message = (const Leases__CreateRequest *)rpc_call_request(call);
        struct request request;
        if (!begin(&request, call, object))
                return;
        struct labels labels = labels_from_proto(message->labels, message->n_labels, request.arena);
        request.lease = (struct lease){
                .id = message->id[0] != '\0' ? message->id : make_id(request.arena),
                .labels = labels_copy_filled(&labels, request.arena),
                .created_ns = clock_now_ns(),
        };
        GError *error = NULL;
        if (!metadata_write(request.service->metadata, TX_RELAXED, create, &request, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Leases__CreateResponse response = LEASES__CREATE_RESPONSE__INIT;
        response.lease = to_proto(&request.lease, request.arena);
        rpc_call_reply(call, &response.base);
}

static bool delete (struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        struct metadata *metadata = request->service->metadata;
        metadata->ops->mark_removed(tx);
        return metadata->leases->remove(tx, request->scope.namespace_, request->id, error);
}

static void on_delete(struct rpc_call *call, void *object)
{
        const Leases__DeleteRequest *message = (const Leases__DeleteRequest *)rpc_call_request(call);
        struct request request;
        if (!begin(&request, call, object))
                return;
        request.id = message->id;
        GError *error = NULL;
        if (!metadata_write(request.service->metadata, TX_RELAXED, delete, &request, &error))
                rpc_call_fail(call, error);
        else
                service_reply_after_gc(call, message->sync ? request.service->gc : NULL);
}

static bool add_to_list(void *data, const struct lease *lease)
{
        struct request *request = data;
        if (request->filter == NULL || filter_match(request->filter, lease_field, (void *)lease))
                g_ptr_array_add(request->list, to_proto(lease, request->arena));
        return true;
}

static bool list(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        return request->service->metadata->leases->walk(
                tx, request->scope.namespace_, request->arena, add_to_list, request, error);
}

static void on_list(struct rpc_call *call, void *object)
{
        const Leases__ListRequest *message = (const Leases__ListRequest *)rpc_call_request(call);
        struct request request;
        if (!begin(&request, call, object))
                return;
        AUTO(filter) filter = NULL;
        g_autoptr(GPtrArray) found = g_ptr_array_new();
        GError *error = NULL;
        bool ok = service_filter(message->filters, message->n_filters, &filter, &error);
        request.filter = filter;
        request.list = found;
        if (!ok || !metadata_read(request.service->metadata, list, &request, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Leases__ListResponse response = LEASES__LIST_RESPONSE__INIT;
        response.n_leases = found->len;
        response.leases = (Leases__Lease **)found->pdata;
        rpc_call_reply(call, &response.base);
}

// ---- resources

static bool add(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        const struct lease_ops *leases = request->service->metadata->leases;
        return leases->get(tx, request->scope.namespace_, request->id, request->arena, &request->lease, error) &&
               lease_resource_validate(&request->resource, error) &&
               leases->add(tx, request->scope.namespace_, request->id, &request->resource, error);
}

static bool drop(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        struct metadata *metadata = request->service->metadata;
        metadata->ops->mark_removed(tx);
        return metadata->leases->get(
                       tx, request->scope.namespace_, request->id, request->arena, &request->lease, error) &&
               lease_resource_validate(&request->resource, error) &&
               metadata->leases->drop(tx, request->scope.namespace_, request->id, &request->resource, error);
}

static void change(struct rpc_call *call, struct leases_service *service, const char *id,
        const Leases__Resource *resource, tx_fn fn)
{
        struct request request;
        GError *error = NULL;
        if (!begin(&request, call, service))
                return;
        request.id = id;
        if (resource == NULL) {
                error_fail(&error, ERROR_INVALID_ARGUMENT, "resource must be set: invalid argument");
        } else {
                request.resource = (struct lease_resource){resource->type, resource->id};
                metadata_write(service->metadata, TX_RELAXED, fn, &request, &error);
        }
        service_reply_empty(call, error);
}

static void on_add_resource(struct rpc_call *call, void *object)
{
        const Leases__AddResourceRequest *message = (const Leases__AddResourceRequest *)rpc_call_request(call);
        change(call, object, message->id, message->resource, add);
}

static void on_delete_resource(struct rpc_call *call, void *object)
{
        const Leases__DeleteResourceRequest *message = (const Leases__DeleteResourceRequest *)rpc_call_request(call);
        change(call, object, message->id, message->resource, drop);
}

static bool add_resource_to_list(void *data, const struct lease_resource *resource)
{
        struct request *request = data;
        Leases__Resource *message = arena_new0(request->arena, Leases__Resource);
        leases__resource__init(message);
        message->id = (char *)resource->id;
        message->type = (char *)resource->type;
        g_ptr_array_add(request->list, message);
        return true;
}

static bool list_resources(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        return request->service->metadata->leases->walk_resources(
                tx, request->scope.namespace_, request->id, request->arena, add_resource_to_list, request, error);
}

static void on_list_resources(struct rpc_call *call, void *object)
{
        const Leases__ListResourcesRequest *message = (const Leases__ListResourcesRequest *)rpc_call_request(call);
        struct request request;
        if (!begin(&request, call, object))
                return;
        g_autoptr(GPtrArray) found = g_ptr_array_new();
        GError *error = NULL;
        request.id = message->id;
        request.list = found;
        if (!metadata_read(request.service->metadata, list_resources, &request, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Leases__ListResourcesResponse response = LEASES__LIST_RESOURCES_RESPONSE__INIT;
        response.n_resources = found->len;
        response.resources = (Leases__Resource **)found->pdata;
        rpc_call_reply(call, &response.base);
}

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Create", LANE_FAST, leases__create_request, leases__create_response, on_create,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Delete", LANE_FAST, leases__delete_request, google__protobuf__empty, on_delete,
                .limit_ms = SERVICE_LIMIT_FILES_MS),
        RPC_METHOD_UNARY("List", LANE_FAST, leases__list_request, leases__list_response, on_list,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("AddResource", LANE_FAST, leases__add_resource_request, google__protobuf__empty,
                on_add_resource, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("DeleteResource", LANE_FAST, leases__delete_resource_request, google__protobuf__empty,
                on_delete_resource, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("ListResources", LANE_FAST, leases__list_resources_request, leases__list_resources_response,
                on_list_resources, .limit_ms = SERVICE_LIMIT_RECORD_MS),
};

static const struct rpc_service rpc = {
        .name = "containerd.services.leases.v1.Leases",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

static void *init(struct plugin_host *host, GError **error)
{
        struct leases_service *service = g_new0(struct leases_service, 1);
        service->metadata = plugin_host_get(host, PLUGIN_METADATA, "bolt");
        service->gc = plugin_host_get(host, PLUGIN_GC, "scheduler");
        service->plugin = (struct plugin_service){.service = &rpc, .object = service, .protocols = RPC_GRPC};
        if (service->metadata != NULL)
                return &service->plugin;
        g_free(service);
        error_fail(error, ERROR_FAILED_PRECONDITION, "the metadata store did not start");
        return NULL;
}

static const struct plugin_requirement requires_[] = {{PLUGIN_METADATA, "bolt"}, {PLUGIN_GC, "scheduler"}, {0}};

const struct plugin leases_service_plugin = {
        .type = PLUGIN_GRPC,
        .id = "leases",
        .requires_ = requires_,
        .init = init,
        .stop = service_free_object,
};
