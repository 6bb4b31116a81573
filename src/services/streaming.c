// SPDX-License-Identifier: Apache-2.0
//
// containerd.services.streaming.v1.Streaming. The first message names the stream; once it is registered it is answered
// with an empty message, and from then on messages pass in both directions, as they are, between the client and the
// call that uses the stream. The rpc stream is the carrier of the core's stream: each holds a reference to the other
// until the rpc stream is closed.
#include "base/identifier.h"
#include "core/stream.h"
#include "rpc/server.h"
#include "services/service.h"
#include "services/services.h"

#include "containerd/streaming.pb-c.h"
#include "google/protobuf/any.pb-c.h"

#include <string.h>

struct streaming_service {
        struct stream_manager *manager;
        struct lanes *lanes;
        struct plugin_service served;
};

// The state of one rpc stream.
struct session {
        struct streaming_service *service;
        char *namespace_;
        struct stream *stream; // NULL until it is named
};

// ---- the carrier

static bool carrier_send(void *carrier, const char *type_url, const void *value, size_t n_value)
{
        Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
        any.type_url = (char *)type_url;
        any.value = (ProtobufCBinaryData){n_value, (uint8_t *)value};
        return rpc_stream_send(carrier, &any.base);
}

static void carrier_finish(void *carrier)
{
        rpc_stream_finish(carrier, NULL);
}

static void carrier_pause(void *carrier)
{
        rpc_stream_pause(carrier);
}

static void carrier_resume(void *carrier)
{
        rpc_stream_resume(carrier);
}

static void carrier_release(void *carrier)
{
        rpc_stream_unref(carrier);
}

// ---- the method

static void *on_open(struct rpc_stream *stream, void *service)
{
        struct session *session = g_new0(struct session, 1);
        session->service = service;
        const char *name = rpc_stream_metadata(stream, "containerd-namespace");
        session->namespace_ = g_strdup(name != NULL ? name : "");
        return session;
}

static const char *bare_type(const char *type_url)
{
        const char *slash = strrchr(type_url, '/');
        return slash != NULL ? slash + 1 : type_url;
}

static bool open_stream(
        struct session *session, struct rpc_stream *rpc_stream, const Google__Protobuf__Any *any, GError **error)
{
        static const struct stream_carrier_ops ops = {
                carrier_send, carrier_finish, carrier_pause, carrier_resume, carrier_release};
        if (session->namespace_[0] != '\0' && !identifier_validate(session->namespace_, error))
                return false;
        if (strcmp(bare_type(any->type_url), streaming__stream_init__descriptor.name) != 0)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "can't unmarshal type \"%s\" to output \"%s\"",
                        any->type_url, streaming__stream_init__descriptor.name);
        Streaming__StreamInit *init = streaming__stream_init__unpack(NULL, any->value.len, any->value.data);
        if (init == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "malformed StreamInit: invalid argument");
        AUTO(stream) stream = stream_new(init->id, session->service->lanes, &ops, rpc_stream_ref(rpc_stream));
        streaming__stream_init__free_unpacked(init, NULL);
        if (!session->service->manager->ops->add(session->service->manager, session->namespace_, stream, error))
                return false;
        session->stream = g_steal_pointer(&stream);
        return true;
}

static void on_message(void *state, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        struct session *session = state;
        const Google__Protobuf__Any *any = (const Google__Protobuf__Any *)message;
        if (session->stream != NULL) {
                stream_receive(session->stream, any->type_url, any->value.data, any->value.len);
                return;
        }
        GError *error = NULL;
        if (!open_stream(session, stream, any, &error)) {
                rpc_stream_finish(stream, error);
                return;
        }
        // What upstream answers: an Any of google.protobuf.Empty.
        Google__Protobuf__Any answer = GOOGLE__PROTOBUF__ANY__INIT;
        answer.type_url = (char *)"google.protobuf.Empty";
        rpc_stream_send(stream, &answer.base);
}

static void on_half_close(void *state, struct rpc_stream *stream)
{
        struct session *session = state;
        if (session->stream != NULL)
                stream_ended(session->stream);
        else
                rpc_stream_finish(stream, NULL);
}

static void on_writable(void *state, struct rpc_stream *stream)
{
        struct session *session = state;
        if (session->stream != NULL)
                stream_writable(session->stream);
}

static void on_cancel(void *state, struct rpc_stream *stream)
{
        struct session *session = state;
        if (session->stream != NULL)
                stream_ended(session->stream);
}

static void on_close(void *state)
{
        struct session *session = state;
        if (session->stream != NULL) {
                stream_ended(session->stream);
                stream_gone(session->stream);
                session->service->manager->ops->remove(session->service->manager, session->namespace_, session->stream);
                stream_unref(session->stream);
        }
        g_free(session->namespace_);
        g_free(session);
}

static const struct rpc_stream_handler handler = {on_open, on_message, on_half_close, on_writable, on_cancel, on_close};

static const struct rpc_method methods[] = {
        RPC_METHOD_STREAM("Stream", RPC_BIDI_STREAM, LANE_FAST, google__protobuf__any, google__protobuf__any, &handler),
};

static const struct rpc_service streaming = {
        .name = "containerd.services.streaming.v1.Streaming",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

static void *init(struct plugin_host *host, GError **error)
{
        struct stream_manager *manager = plugin_host_get(host, PLUGIN_STREAMING, "manager");
        if (manager == NULL) {
                error_fail(error, ERROR_FAILED_PRECONDITION, "the stream manager is not running");
                return NULL;
        }
        struct streaming_service *service = g_new0(struct streaming_service, 1);
        service->manager = manager;
        service->lanes = plugin_host_lanes(host);
        service->served =
                (struct plugin_service){.service = &streaming, .object = service, .protocols = RPC_GRPC | RPC_TTRPC};
        return &service->served;
}

const struct plugin streaming_service_plugin = {
        .type = PLUGIN_GRPC,
        .id = "streaming",
        .requires_ = (const struct plugin_requirement[]){{PLUGIN_STREAMING, "manager"}, {NULL, NULL}},
        .init = init,
        .stop = service_free_object,
};
