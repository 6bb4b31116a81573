// SPDX-License-Identifier: Apache-2.0
//
// grpc.health.v1.Health, as kubelets and probes ask it. There is one name, "", the whole server, and it serves as long
// as somebody is there to answer; so Watch sends one state and then waits for its client to go.
#include "grpc/health.pb-c.h"
#include "rpc/server.h"
#include "services/service.h"
#include "services/services.h"

static bool is_known(const Health__HealthCheckRequest *request)
{
        return request->service[0] == '\0';
}

static Health__HealthCheckResponse state_of(const Health__HealthCheckRequest *request)
{
        Health__HealthCheckResponse response = HEALTH__HEALTH_CHECK_RESPONSE__INIT;
        response.status = is_known(request) ? HEALTH__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                                            : HEALTH__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
        return response;
}

static void on_check(struct rpc_call *call, void *service)
{
        const Health__HealthCheckRequest *request = (const Health__HealthCheckRequest *)rpc_call_request(call);
        if (!is_known(request)) {
                rpc_call_fail(call, g_error_new_literal(SKIFF_ERROR, ERROR_NOT_FOUND, "unknown service"));
                return;
        }
        Health__HealthCheckResponse response = state_of(request);
        rpc_call_reply(call, &response.base);
}

static void on_list(struct rpc_call *call, void *service)
{
        Health__HealthCheckRequest whole = HEALTH__HEALTH_CHECK_REQUEST__INIT;
        Health__HealthCheckResponse state = state_of(&whole);
        Health__HealthListResponse__StatusesEntry entry = HEALTH__HEALTH_LIST_RESPONSE__STATUSES_ENTRY__INIT;
        entry.value = &state;
        Health__HealthListResponse__StatusesEntry *entries[] = {&entry};
        Health__HealthListResponse response = HEALTH__HEALTH_LIST_RESPONSE__INIT;
        response.statuses = entries;
        response.n_statuses = G_N_ELEMENTS(entries);
        rpc_call_reply(call, &response.base);
}

static void *on_watch_open(struct rpc_stream *stream, void *service)
{
        return NULL;
}

static void on_watch_message(void *state, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        Health__HealthCheckResponse response = state_of((const Health__HealthCheckRequest *)message);
        rpc_stream_send(stream, &response.base);
}

static void on_watch_close(void *state)
{
}

static const struct rpc_stream_handler watch = {
        .open = on_watch_open,
        .on_message = on_watch_message,
        .close = on_watch_close,
};

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Check", LANE_FAST, health__health_check_request, health__health_check_response, on_check,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("List", LANE_FAST, health__health_list_request, health__health_list_response, on_list,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_STREAM("Watch", RPC_SERVER_STREAM, LANE_FAST, health__health_check_request,
                health__health_check_response, &watch),
};

static const struct rpc_service service = {
        .name = "grpc.health.v1.Health",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

static void *init(struct plugin_host *host, GError **error)
{
        static const struct plugin_service instance = {.service = &service, .protocols = RPC_GRPC};
        return (void *)&instance;
}

const struct plugin healthcheck_service_plugin = {.type = PLUGIN_GRPC, .id = "healthcheck", .init = init};
