// SPDX-License-Identifier: Apache-2.0
//
// containerd.services.transfer.v1.Transfer: both ends come as an Any whose type says what they are; streams that they
// name were opened before, by the Streaming service. The call is kept until the transfer is done.
#include "core/transfer.h"

#include "base/identifier.h"
#include "rpc/server.h"
#include "services/service.h"
#include "services/services.h"

#include "containerd/transfer.pb-c.h"

#include <string.h>

struct transfer_service {
        struct transferrer *transferrer;
        struct stream_manager *streams;
        struct plugin_service served;
};

struct transfer_call {
        struct rpc_call *call;
        struct transfer_request request;
        const char *source_type, *destination_type;
};

static const char *bare_type(const char *type_url)
{
        const char *slash = strrchr(type_url, '/');
        return slash != NULL ? slash + 1 : type_url;
}

static void call_free(struct transfer_call *call)
{
        stream_unref(call->request.source.stream);
        stream_unref(call->request.destination.stream);
        stream_unref(call->request.progress);
        cancel_unref(call->request.cancel);
        g_free(call);
}

static bool find_stream(struct transfer_service *service, const char *namespace_, const char *id,
        struct stream **ret_stream, GError **error)
{
        *ret_stream = service->streams->ops->get(service->streams, namespace_, id, error);
        return *ret_stream != NULL;
}

static bool decode_end(struct transfer_service *service, struct transfer_call *call, const Google__Protobuf__Any *any,
        struct transfer_end *end, GError **error)
{
        static const struct {
                const ProtobufCMessageDescriptor *type;
                enum transfer_kind kind;
        } kinds[] = {
                {&transfer_types__ociregistry__descriptor, TRANSFER_REGISTRY},
                {&transfer_types__image_store__descriptor, TRANSFER_IMAGE_STORE},
                {&transfer_types__image_import_stream__descriptor, TRANSFER_IMPORT_STREAM},
                {&transfer_types__image_export_stream__descriptor, TRANSFER_EXPORT_STREAM},
        };
        if (any == NULL)
                return error_fail(
                        error, ERROR_INVALID_ARGUMENT, "source and destination are required: invalid argument");
        const char *type = bare_type(any->type_url);
        size_t i = 0;
        while (i < G_N_ELEMENTS(kinds) && strcmp(kinds[i].type->name, type) != 0)
                i++;
        if (i == G_N_ELEMENTS(kinds))
                return error_fail(error, ERROR_UNIMPLEMENTED, "method Transfer not implemented for %s to %s",
                        call->source_type, call->destination_type);
        const void *message = protobuf_c_message_unpack(
                kinds[i].type, arena_allocator(rpc_call_arena(call->call)), any->value.len, any->value.data);
        if (message == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "malformed %s: invalid argument", type);
        const char *namespace_ = call->request.scope.namespace_;
        end->kind = kinds[i].kind;
        switch (end->kind) {
        case TRANSFER_REGISTRY:
                end->registry = message;
                return end->registry->resolver == NULL || end->registry->resolver->auth_stream[0] == '\0' ||
                       find_stream(service, namespace_, end->registry->resolver->auth_stream, &end->stream, error);
        case TRANSFER_IMAGE_STORE:
                end->store = message;
                return true;
        case TRANSFER_IMPORT_STREAM:
                end->import = message;
                return find_stream(service, namespace_, end->import->stream, &end->stream, error);
        default:
                end->export = message;
                return find_stream(service, namespace_, end->export->stream, &end->stream, error);
        }
}

static bool decode(struct transfer_service *service, struct transfer_call *call, GError **error)
{
        const Transfer__TransferRequest *request = (const Transfer__TransferRequest *)rpc_call_request(call->call);
        const char *namespace_ = rpc_call_metadata(call->call, "containerd-namespace");
        if (namespace_ == NULL || namespace_[0] == '\0')
                return error_fail(error, ERROR_FAILED_PRECONDITION, "namespace is required: failed precondition");
        if (!identifier_validate(namespace_, error)) {
                g_prefix_error(error, "namespace validation: ");
                return false;
        }
        const char *lease = rpc_call_metadata(call->call, "containerd-lease");
        call->request.scope = (struct scope){namespace_, lease != NULL && lease[0] != '\0' ? lease : NULL};
        call->source_type = request->source != NULL ? request->source->type_url : "";
        call->destination_type = request->destination != NULL ? request->destination->type_url : "";
        if (request->options != NULL && request->options->progress_stream[0] != '\0' &&
                !find_stream(service, namespace_, request->options->progress_stream, &call->request.progress, error))
                return false;
        return decode_end(service, call, request->source, &call->request.source, error) &&
               decode_end(service, call, request->destination, &call->request.destination, error);
}

static void on_transferred(void *data, const GError *error)
{
        struct transfer_call *call = data;
        struct rpc_call *rpc = call->call;
        call_free(call);
        if (error != NULL) {
                rpc_call_fail(rpc, g_error_copy(error));
                return;
        }
        Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
        rpc_call_reply(rpc, &empty.base);
}

static void on_transfer(struct rpc_call *rpc, void *object)
{
        struct transfer_service *service = object;
        struct transfer_call *call = g_new0(struct transfer_call, 1);
        call->call = rpc;
        call->request.cancel = cancel_ref(rpc_call_cancel(rpc));
        GError *error = NULL;
        if (decode(service, call, &error)) {
                service->transferrer->ops->transfer(service->transferrer, &call->request, on_transferred, call);
                return;
        }
        if (call->request.progress != NULL)
                stream_close(call->request.progress);
        call_free(call);
        rpc_call_fail(rpc, error);
}

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Transfer", LANE_FAST, transfer__transfer_request, google__protobuf__empty, on_transfer),
};

static const struct rpc_service transfer = {
        .name = "containerd.services.transfer.v1.Transfer",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

static void *init(struct plugin_host *host, GError **error)
{
        struct transfer_service *service = g_new0(struct transfer_service, 1);
        service->transferrer = plugin_host_get(host, PLUGIN_TRANSFER, "local");
        service->streams = plugin_host_get(host, PLUGIN_STREAMING, "manager");
        if (service->transferrer == NULL || service->streams == NULL) {
                error_fail(error, ERROR_FAILED_PRECONDITION, "transfers or streams are not running");
                g_free(service);
                return NULL;
        }
        service->served =
                (struct plugin_service){.service = &transfer, .object = service, .protocols = RPC_GRPC | RPC_TTRPC};
        return &service->served;
}

const struct plugin transfer_service_plugin = {
        .type = PLUGIN_GRPC,
        .id = "transfer",
        .requires_ =
                (const struct plugin_requirement[]){{PLUGIN_TRANSFER, "local"}, {PLUGIN_STREAMING, "manager"}, {0}},
        .init = init,
        .stop = service_free_object,
};
