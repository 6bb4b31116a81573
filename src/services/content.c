// SPDX-License-Identifier: Apache-2.0
//
// containerd.services.content.v1.Content: what is answered with one message.
#include "services/content.h"

#include "base/digest.h"
#include "core/convert.h"
#include "rpc/server.h"
#include "services/service.h"
#include "services/services.h"

#include "google/protobuf/empty.pb-c.h"

Content__Info *content_info_to_proto(const struct blob *blob, struct arena *arena)
{
        Content__Info *message = arena_new0(arena, Content__Info);
        content__info__init(message);
        message->digest = (char *)blob->digest;
        message->size = blob->size;
        message->created_at = timestamp_to_proto(blob->created_ns, arena);
        message->updated_at = timestamp_to_proto(blob->updated_ns, arena);
        message->labels =
                labels_to_proto(&blob->labels, arena, &content__info__labels_entry__descriptor, &message->n_labels);
        return message;
}

static bool check_digest(const char *digest, GError **error)
{
        return digest_parse(digest, NULL, NULL) ||
               error_fail(error, ERROR_INVALID_ARGUMENT, "\"%s\" failed validation", digest);
}

static void on_info(struct rpc_call *call, void *object)
{
        struct content_store *store = object;
        const Content__InfoRequest *request = (const Content__InfoRequest *)rpc_call_request(call);
        struct scope scope;
        struct blob blob;
        GError *error = NULL;
        if (!check_digest(request->digest, &error) || !service_scope(call, &scope, &error) ||
                !store->ops->info(store, &scope, request->digest, rpc_call_arena(call), &blob, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Content__InfoResponse response = CONTENT__INFO_RESPONSE__INIT;
        response.info = content_info_to_proto(&blob, rpc_call_arena(call));
        rpc_call_reply(call, &response.base);
}

static void on_update(struct rpc_call *call, void *object)
{
        struct content_store *store = object;
        const Content__UpdateRequest *request = (const Content__UpdateRequest *)rpc_call_request(call);
        const Content__Info *info = request->info;
        struct arena *arena = rpc_call_arena(call);
        struct scope scope;
        struct blob blob = {.digest = info != NULL ? info->digest : ""};
        GError *error = NULL;
        bool ok = check_digest(blob.digest, &error) && service_scope(call, &scope, &error);
        if (ok) {
                blob.labels = labels_from_proto(info->labels, info->n_labels, arena);
                ok = store->ops->update(store, &scope, service_paths(request->update_mask),
                        service_n_paths(request->update_mask), arena, &blob, &error);
        }
        if (!ok) {
                rpc_call_fail(call, error);
                return;
        }
        Content__UpdateResponse response = CONTENT__UPDATE_RESPONSE__INIT;
        response.info = content_info_to_proto(&blob, arena);
        rpc_call_reply(call, &response.base);
}

static void on_delete(struct rpc_call *call, void *object)
{
        struct content_store *store = object;
        const Content__DeleteContentRequest *request = (const Content__DeleteContentRequest *)rpc_call_request(call);
        struct scope scope;
        GError *error = NULL;
        if (digest_parse(request->digest, NULL, &error) && service_scope(call, &scope, &error))
                store->ops->remove(store, &scope, request->digest, &error);
        service_reply_empty(call, error);
}

static Content__Status *status_to_proto(const struct content_status *status, struct arena *arena)
{
        Content__Status *message = arena_new0(arena, Content__Status);
        content__status__init(message);
        message->ref = arena_strdup(arena, status->ref);
        message->offset = status->offset;
        message->total = status->total;
        message->expected = arena_strdup(arena, status->expected);
        message->started_at = timestamp_to_proto(status->started_ns, arena);
        message->updated_at = timestamp_to_proto(status->updated_ns, arena);
        return message;
}

static void on_status(struct rpc_call *call, void *object)
{
        struct content_store *store = object;
        const Content__StatusRequest *request = (const Content__StatusRequest *)rpc_call_request(call);
        struct scope scope;
        struct content_status status;
        GError *error = NULL;
        if (!service_scope(call, &scope, &error) ||
                !store->ops->status(store, &scope, request->ref, rpc_call_arena(call), &status, &error)) {
                g_prefix_error(&error, "could not get status for ref \"%s\": ", request->ref);
                rpc_call_fail(call, error);
                return;
        }
        Content__StatusResponse response = CONTENT__STATUS_RESPONSE__INIT;
        response.status = status_to_proto(&status, rpc_call_arena(call));
        rpc_call_reply(call, &response.base);
}

struct list {
        GPtrArray *statuses;
        struct arena *arena;
};

static bool add_to_list(void *data, const struct content_status *status)
{
        struct list *list = data;
        g_ptr_array_add(list->statuses, status_to_proto(status, list->arena));
        return true;
}

static void on_list_statuses(struct rpc_call *call, void *object)
{
        struct content_store *store = object;
        const Content__ListStatusesRequest *request = (const Content__ListStatusesRequest *)rpc_call_request(call);
        g_autoptr(GPtrArray) statuses = g_ptr_array_new();
        struct list list = {statuses, rpc_call_arena(call)};
        struct scope scope;
        AUTO(filter) filter = NULL;
        GError *error = NULL;
        if (!service_scope(call, &scope, &error) ||
                (filter = filter_parse(request->filters, request->n_filters, &error)) == NULL ||
                !store->ops->walk_statuses(store, &scope, filter, add_to_list, &list, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Content__ListStatusesResponse response = CONTENT__LIST_STATUSES_RESPONSE__INIT;
        response.n_statuses = statuses->len;
        response.statuses = (Content__Status **)statuses->pdata;
        rpc_call_reply(call, &response.base);
}

static void on_abort(struct rpc_call *call, void *object)
{
        struct content_store *store = object;
        const Content__AbortRequest *request = (const Content__AbortRequest *)rpc_call_request(call);
        struct scope scope;
        GError *error = NULL;
        if (service_scope(call, &scope, &error))
                store->ops->abort(store, &scope, request->ref, &error);
        service_reply_empty(call, error);
}

// Write syncs large files, and hashes again what was there: on the lane that may take long.
static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Info", LANE_FAST, content__info_request, content__info_response, on_info,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Update", LANE_FAST, content__update_request, content__update_response, on_update,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_STREAM("List", RPC_SERVER_STREAM, LANE_FAST, content__list_content_request,
                content__list_content_response, &content_list_handler),
        RPC_METHOD_UNARY("Delete", LANE_FAST, content__delete_content_request, google__protobuf__empty, on_delete,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_STREAM("Read", RPC_SERVER_STREAM, LANE_FAST, content__read_content_request,
                content__read_content_response, &content_read_handler),
        RPC_METHOD_UNARY("Status", LANE_FAST, content__status_request, content__status_response, on_status,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("ListStatuses", LANE_FAST, content__list_statuses_request, content__list_statuses_response,
                on_list_statuses, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_STREAM("Write", RPC_BIDI_STREAM, LANE_SLOW, content__write_content_request,
                content__write_content_response, &content_write_handler),
        RPC_METHOD_UNARY("Abort", LANE_FAST, content__abort_request, google__protobuf__empty, on_abort,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
};

static const struct rpc_service rpc = {
        .name = "containerd.services.content.v1.Content",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

static void *init(struct plugin_host *host, GError **error)
{
        struct content_store *store = plugin_host_get(host, PLUGIN_CONTENT, "content");
        if (store == NULL) {
                error_fail(error, ERROR_FAILED_PRECONDITION, "the content store did not start");
                return NULL;
        }
        struct plugin_service *plugin = g_new(struct plugin_service, 1);
        *plugin = (struct plugin_service){.service = &rpc, .object = store, .protocols = RPC_GRPC};
        return plugin;
}

static const struct plugin_requirement requires_[] = {{PLUGIN_CONTENT, "content"}, {0}};

const struct plugin content_service_plugin = {
        .type = PLUGIN_GRPC,
        .id = "content",
        .requires_ = requires_,
        .init = init,
        .stop = g_free,
};
