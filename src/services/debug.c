// SPDX-License-Identifier: Apache-2.0
//
// The list is made under its lock, which no call can end without: so everything is copied into this call's arena.
#include "services/debug.h"

#include "base/clock.h"
#include "services/service.h"

#include "skiff/debug.pb-c.h"

static bool check_peer(const struct debug_service *service, const struct rpc_call *call, GError **error)
{
        struct rpc_peer peer = rpc_call_peer(call);
        return peer.uid == 0 || peer.uid == service->owner ||
               error_fail(error, ERROR_PERMISSION_DENIED, "only root and the socket's owner may see the calls");
}

struct listing {
        struct rpc_call *call;
        int64_t now_ns;
        GPtrArray *calls;
};

static void add_call(void *data, const struct rpc_call *call)
{
        struct listing *listing = data;
        if (call == listing->call)
                return;
        struct arena *arena = rpc_call_arena(listing->call);
        const char *namespace_ = service_namespace(call, NULL);
        int64_t since_ns;
        g_autofree char *waits_for = rpc_call_waits_for(call, &since_ns);
        Debug__Call *message = arena_new0(arena, Debug__Call);
        debug__call__init(message);
        message->service = (char *)rpc_call_service_name(call); // of its table
        message->method = (char *)rpc_call_method_name(call);
        message->namespace_ = arena_strdup(arena, namespace_ != NULL ? namespace_ : "");
        message->client_pid = (uint32_t)rpc_call_peer(call).pid;
        message->age_ns = (uint64_t)MAX(listing->now_ns - rpc_call_started_ns(call), 0);
        message->waits_for = arena_strdup(arena, waits_for);
        message->waited_ns = (uint64_t)MAX(listing->now_ns - since_ns, 0);
        int64_t deadline_ns = rpc_call_deadline_ns(call);
        message->left_ns = deadline_ns == INT64_MAX ? 0 : (uint64_t)MAX(deadline_ns - listing->now_ns, 1);
        message->cancelled = cancel_is_set(rpc_call_cancel(call));
        g_ptr_array_add(listing->calls, message);
}

static void on_list_calls(struct rpc_call *call, void *object)
{
        const struct debug_service *service = object;
        GError *error = NULL;
        if (!check_peer(service, call, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        g_autoptr(GPtrArray) calls = g_ptr_array_new();
        struct listing listing = {call, clock_monotonic_ns(), calls};
        rpc_server_each_call(service->server, add_call, &listing);
        Debug__ListCallsResponse response = DEBUG__LIST_CALLS_RESPONSE__INIT;
        response.calls = (Debug__Call **)calls->pdata;
        response.n_calls = calls->len;
        rpc_call_reply(call, &response.base);
}

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("ListCalls", LANE_FAST, debug__list_calls_request, debug__list_calls_response, on_list_calls,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
};

const struct rpc_service debug_service_table = {
        .name = "skiff.v1.Debug",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};
