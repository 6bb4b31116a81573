// SPDX-License-Identifier: Apache-2.0
//
// Mounts. Clients send every list of mounts through Activate first and take UNIMPLEMENTED as "mount them yourself".
#include "core/convert.h"
#include "core/mount_manager.h"
#include "rpc/server.h"
#include "services/listing.h"
#include "services/service.h"
#include "services/services.h"

#include "containerd/mounts.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

struct mounts_service {
        struct plugin_service base;
        struct mount_manager *manager;
};

static void on_activate(struct rpc_call *call, void *object)
{
        const struct mounts_service *service = object;
        const Mounts__ActivateRequest *request = (const Mounts__ActivateRequest *)rpc_call_request(call);
        struct arena *arena = rpc_call_arena(call);
        struct scope scope;
        GError *error = NULL;
        g_autoptr(GPtrArray) mounts = mounts_from_proto(request->mounts, request->n_mounts);
        const struct mount_activation activation = {
                .name = request->name,
                .mounts = mounts,
                .labels = labels_from_proto(request->labels, request->n_labels, arena),
                .temporary = request->temporary,
        };
        const Types__ActivationInfo *info =
                service_scope(call, &scope, &error)
                        ? service->manager->ops->activate(service->manager, &scope, &activation, arena, &error)
                        : NULL;
        if (info == NULL) {
                rpc_call_fail(call, error);
                return;
        }
        Mounts__ActivateResponse response = MOUNTS__ACTIVATE_RESPONSE__INIT;
        response.info = (Types__ActivationInfo *)info;
        rpc_call_reply(call, &response.base);
}

static void on_deactivate(struct rpc_call *call, void *object)
{
        const struct mounts_service *service = object;
        const Mounts__DeactivateRequest *request = (const Mounts__DeactivateRequest *)rpc_call_request(call);
        GError *error = NULL;
        const char *namespace_ = service_namespace(call, &error);
        if (namespace_ != NULL)
                service->manager->ops->deactivate(service->manager, namespace_, request->name, &error);
        service_reply_empty(call, error);
}

static void on_info(struct rpc_call *call, void *object)
{
        const struct mounts_service *service = object;
        const Mounts__InfoRequest *request = (const Mounts__InfoRequest *)rpc_call_request(call);
        GError *error = NULL;
        const char *namespace_ = service_namespace(call, &error);
        const Types__ActivationInfo *info = namespace_ != NULL
                                                    ? service->manager->ops->info(service->manager, namespace_,
                                                              request->name, rpc_call_arena(call), &error)
                                                    : NULL;
        if (info == NULL) {
                rpc_call_fail(call, error);
                return;
        }
        Mounts__InfoResponse response = MOUNTS__INFO_RESPONSE__INIT;
        response.info = (Types__ActivationInfo *)info;
        rpc_call_reply(call, &response.base);
}

// containerd does not have it either.
static void on_update(struct rpc_call *call, void *object)
{
        rpc_call_fail(call, g_error_new_literal(SKIFF_ERROR, ERROR_UNIMPLEMENTED, "not implemented"));
}

// ---- List

static bool add_info(void *data, const Types__ActivationInfo *info)
{
        g_ptr_array_add(((struct listing *)data)->items, (gpointer)info);
        return true;
}

static bool read_infos(
        struct listing *listing, const struct scope *scope, const ProtobufCMessage *request, GError **error)
{
        struct mount_manager *manager = ((const struct mounts_service *)listing->service)->manager;
        return manager->ops->list(manager, scope->namespace_, listing->arena, add_info, listing, error);
}

static bool send_info(struct rpc_stream *stream, void **items, size_t n_items)
{
        Mounts__ListMessage message = MOUNTS__LIST_MESSAGE__INIT;
        message.info = items[0];
        return rpc_stream_send(stream, &message.base);
}

static void *on_list(struct rpc_stream *stream, void *object)
{
        static const struct listing_kind kind = {1, read_infos, send_info};
        return listing_open(&kind, object);
}

static const struct rpc_stream_handler list_handler = LISTING_HANDLER(on_list);

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Activate", LANE_SLOW, mounts__activate_request, mounts__activate_response, on_activate,
                .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY("Deactivate", LANE_SLOW, mounts__deactivate_request, google__protobuf__empty, on_deactivate,
                .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
        RPC_METHOD_UNARY("Info", LANE_FAST, mounts__info_request, mounts__info_response, on_info,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Update", LANE_FAST, mounts__update_request, mounts__update_response, on_update,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_STREAM(
                "List", RPC_SERVER_STREAM, LANE_FAST, mounts__list_request, mounts__list_message, &list_handler),
};

static const struct rpc_service rpc = {
        .name = "containerd.services.mounts.v1.Mounts",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

static void *init(struct plugin_host *host, GError **error)
{
        struct mount_manager *manager = plugin_host_get(host, PLUGIN_MOUNT_MANAGER, "bolt");
        if (manager == NULL) {
                error_fail(error, ERROR_NOT_FOUND, "no mount manager: not found");
                return NULL;
        }
        struct mounts_service *service = g_new0(struct mounts_service, 1);
        service->base = (struct plugin_service){.service = &rpc, .object = service, .protocols = RPC_GRPC};
        service->manager = manager;
        return &service->base;
}

const struct plugin mounts_service_plugin = {
        .type = PLUGIN_GRPC,
        .id = "mounts",
        .requires_ = (const struct plugin_requirement[]){{PLUGIN_MOUNT_MANAGER, "bolt"}, {NULL, NULL}},
        .init = init,
        .stop = service_free_object,
};
