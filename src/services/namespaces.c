// SPDX-License-Identifier: Apache-2.0
//
// containerd.services.namespaces.v1.Namespaces. Get of a namespace that does not exist answers with one without labels,
// as containerd does.
#include "base/fieldmask.h"
#include "base/identifier.h"
#include "base/log.h"
#include "core/content.h"
#include "core/convert.h"
#include "core/event.h"
#include "core/namespace.h"
#include "rpc/server.h"
#include "services/service.h"
#include "services/services.h"

#include "containerd/events.pb-c.h"
#include "containerd/namespaces.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

#include <string.h>

struct namespaces_service {
        struct metadata *metadata;
        struct event_exchange *events;
        struct content_store *content; // NULL: there is none
        struct plugin_service plugin;
};

struct request {
        struct namespaces_service *service;
        struct arena *arena;
        const char *name;
        struct labels labels;
        char *const *paths;
        size_t n_paths;
        GPtrArray *list;
        GPtrArray *ingests; // names of a removed namespace's in the content store
};

static Namespaces__Namespace *to_proto(const struct namespace_record *record, struct arena *arena)
{
        Namespaces__Namespace *message = arena_new0(arena, Namespaces__Namespace);
        namespaces__namespace__init(message);
        message->name = (char *)record->name;
        message->labels = labels_to_proto(
                &record->labels, arena, &namespaces__namespace__labels_entry__descriptor, &message->n_labels);
        return message;
}

static bool get(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        struct namespace_record record;
        g_autoptr(GError) failure = NULL;
        request->labels = (struct labels){0};
        if (request->service->metadata->namespaces->get(tx, request->name, request->arena, &record, &failure))
                request->labels = record.labels;
        if (failure == NULL)
                return true;
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}

static void on_get(struct rpc_call *call, void *object)
{
        const Namespaces__GetNamespaceRequest *message =
                (const Namespaces__GetNamespaceRequest *)rpc_call_request(call);
        struct request request = {.service = object, .arena = rpc_call_arena(call), .name = message->name};
        GError *error = NULL;
        if (!metadata_read(request.service->metadata, get, &request, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        const struct namespace_record record = {request.name, request.labels};
        Namespaces__GetNamespaceResponse response = NAMESPACES__GET_NAMESPACE_RESPONSE__INIT;
        response.namespace_ = to_proto(&record, request.arena);
        rpc_call_reply(call, &response.base);
}

static bool add_to_list(void *data, const struct namespace_record *record)
{
        struct request *request = data;
        g_ptr_array_add(request->list, to_proto(record, request->arena));
        return true;
}

static bool list(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        return request->service->metadata->namespaces->walk(tx, request->arena, add_to_list, request, error);
}

static void on_list(struct rpc_call *call, void *object)
{
        g_autoptr(GPtrArray) found = g_ptr_array_new();
        struct request request = {.service = object, .arena = rpc_call_arena(call), .list = found};
        GError *error = NULL;
        if (!metadata_read(request.service->metadata, list, &request, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Namespaces__ListNamespacesResponse response = NAMESPACES__LIST_NAMESPACES_RESPONSE__INIT;
        response.n_namespaces = found->len;
        response.namespaces = (Namespaces__Namespace **)found->pdata;
        rpc_call_reply(call, &response.base);
}

// The namespace of a request, which must be there.
static bool take_namespace(struct request *request, const Namespaces__Namespace *namespace_, GError **error)
{
        if (namespace_ == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "namespace must be set: invalid argument");
        request->name = namespace_->name;
        request->labels = labels_from_proto(namespace_->labels, namespace_->n_labels, request->arena);
        return labels_validate(&request->labels, "namespace.Labels", error);
}

static bool create(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        const struct namespace_record record = {request->name, labels_copy_filled(&request->labels, request->arena)};
        return request->service->metadata->namespaces->insert(tx, &record, error);
}

static void on_create(struct rpc_call *call, void *object)
{
        const Namespaces__CreateNamespaceRequest *message =
                (const Namespaces__CreateNamespaceRequest *)rpc_call_request(call);
        struct request request = {.service = object, .arena = rpc_call_arena(call)};
        GError *error = NULL;
        if (!take_namespace(&request, message->namespace_, &error) || !identifier_validate(request.name, &error) ||
                !metadata_write(request.service->metadata, TX_DURABLE, create, &request, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Events__NamespaceCreate event = EVENTS__NAMESPACE_CREATE__INIT;
        event.name = (char *)request.name;
        event.labels = labels_to_proto(
                &request.labels, request.arena, &events__namespace_create__labels_entry__descriptor, &event.n_labels);
        event_publish(request.service->events, request.name, "/namespaces/create", &event.base);
        Namespaces__CreateNamespaceResponse response = NAMESPACES__CREATE_NAMESPACE_RESPONSE__INIT;
        response.namespace_ = message->namespace_;
        rpc_call_reply(call, &response.base);
}

static bool update(struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        struct labels wanted = request->labels;
        if (request->n_paths > 0) {
                if (!get(tx, data, error))
                        return false;
                for (size_t i = 0; i < request->n_paths; i++) {
                        if (fieldmask_key(request->paths[i], "labels") == NULL)
                                return error_fail(
                                        error, ERROR_INVALID_ARGUMENT, "cannot update \"%s\" field", request->paths[i]);
                }
                struct labels changed = request->labels;
                request->labels = wanted;
                labels_apply(&changed, &wanted, "labels", request->paths, request->n_paths, request->arena);
                wanted = changed;
        }
        wanted = labels_copy_filled(&wanted, request->arena);
        return request->service->metadata->namespaces->set_labels(tx, request->name, &wanted, error);
}

static void on_update(struct rpc_call *call, void *object)
{
        const Namespaces__UpdateNamespaceRequest *message =
                (const Namespaces__UpdateNamespaceRequest *)rpc_call_request(call);
        struct request request = {
                .service = object,
                .arena = rpc_call_arena(call),
                .paths = service_paths(message->update_mask),
                .n_paths = service_n_paths(message->update_mask),
        };
        GError *error = NULL;
        if (!take_namespace(&request, message->namespace_, &error) || !identifier_validate(request.name, &error) ||
                !metadata_write(request.service->metadata, TX_DURABLE, update, &request, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Events__NamespaceUpdate event = EVENTS__NAMESPACE_UPDATE__INIT;
        event.name = (char *)request.name;
        event.labels = labels_to_proto(
                &request.labels, request.arena, &events__namespace_update__labels_entry__descriptor, &event.n_labels);
        event_publish(request.service->events, request.name, "/namespaces/update", &event.base);
        // containerd's answer is empty.
        Namespaces__UpdateNamespaceResponse response = NAMESPACES__UPDATE_NAMESPACE_RESPONSE__INIT;
        rpc_call_reply(call, &response.base);
}

static bool note_ingest(void *data, const struct ingest *ingest)
{
        g_ptr_array_add(data, g_strdup(ingest->backend));
        return true;
}

static bool delete (struct tx *tx, void *data, GError **error)
{
        struct request *request = data;
        const struct metadata *metadata = request->service->metadata;
        g_ptr_array_set_size(request->ingests, 0);
        return metadata->ingests->walk(tx, request->name, NULL, note_ingest, request->ingests, error) &&
               metadata->namespaces->remove(tx, request->name, error);
}

// Their records went with the namespace. The first sweep of the next start takes what stays now.
static void remove_ingests(const struct request *request)
{
        static const char *const no_digests[] = {NULL};
        struct content_store *content = request->service->content;
        g_autoptr(GError) error = NULL;
        if (content == NULL || request->ingests->len == 0)
                return;
        g_ptr_array_add(request->ingests, NULL);
        if (!content->ops->sweep(content, no_digests, (const char *const *)request->ingests->pdata, &error))
                log_warn("ingests of a removed namespace stay until the next start", "namespace", request->name,
                        "error", error->message);
}

static void on_delete(struct rpc_call *call, void *object)
{
        const Namespaces__DeleteNamespaceRequest *message =
                (const Namespaces__DeleteNamespaceRequest *)rpc_call_request(call);
        g_autoptr(GPtrArray) ingests = g_ptr_array_new_with_free_func(g_free);
        struct request request = {.service = object, .name = message->name, .ingests = ingests};
        GError *error = NULL;
        if (metadata_write(request.service->metadata, TX_DURABLE, delete, &request, &error)) {
                remove_ingests(&request);
                Events__NamespaceDelete event = EVENTS__NAMESPACE_DELETE__INIT;
                event.name = (char *)request.name;
                event_publish(request.service->events, request.name, "/namespaces/delete", &event.base);
        }
        service_reply_empty(call, error);
}

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Get", LANE_FAST, namespaces__get_namespace_request, namespaces__get_namespace_response,
                on_get, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("List", LANE_FAST, namespaces__list_namespaces_request, namespaces__list_namespaces_response,
                on_list, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Create", LANE_FAST, namespaces__create_namespace_request,
                namespaces__create_namespace_response, on_create, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Update", LANE_FAST, namespaces__update_namespace_request,
                namespaces__update_namespace_response, on_update, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Delete", LANE_SLOW, namespaces__delete_namespace_request, google__protobuf__empty, on_delete,
                .limit_ms = SERVICE_LIMIT_FILES_MS),
};

static const struct rpc_service rpc = {
        .name = "containerd.services.namespaces.v1.Namespaces",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

static void *init(struct plugin_host *host, GError **error)
{
        struct metadata *metadata;
        struct event_exchange *events;
        if (!service_find_records(host, &metadata, &events, error))
                return NULL;
        struct namespaces_service *service = g_new0(struct namespaces_service, 1);
        service->metadata = metadata;
        service->events = events;
        service->content = plugin_host_get(host, PLUGIN_CONTENT, "content");
        service->plugin = (struct plugin_service){.service = &rpc, .object = service, .protocols = RPC_GRPC};
        return &service->plugin;
}

static const struct plugin_requirement requires_[] = {
        {PLUGIN_METADATA, "bolt"}, {PLUGIN_EVENT, "exchange"}, {PLUGIN_CONTENT, NULL}, {0}};

const struct plugin namespaces_service_plugin = {
        .type = PLUGIN_GRPC,
        .id = "namespaces",
        .requires_ = requires_,
        .init = init,
        .stop = service_free_object,
};
