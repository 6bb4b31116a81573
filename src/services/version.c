// SPDX-License-Identifier: Apache-2.0
//
// containerd.services.version.v1.Version. Clients read a version of containerd from it and decide what they may call,
// so it names the containerd release whose API this is; skiff's own version is its build metadata (semver section 10).
#include "containerd/version.pb-c.h"
#include "rpc/server.h"
#include "services/revision.h"
#include "services/service.h"
#include "services/services.h"

static void on_version(struct rpc_call *call, void *service)
{
        Version__VersionResponse response = VERSION__VERSION_RESPONSE__INIT;
        response.version = (char *)"v" CONTAINERD_API_VERSION "+skiff." SKIFF_VERSION;
        response.revision = (char *)SKIFF_REVISION;
        rpc_call_reply(call, &response.base);
}

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Version", LANE_FAST, google__protobuf__empty, version__version_response, on_version,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
};

static const struct rpc_service service = {
        .name = "containerd.services.version.v1.Version",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

static void *init(struct plugin_host *host, GError **error)
{
        static const struct plugin_service instance = {.service = &service, .protocols = RPC_GRPC};
        return (void *)&instance;
}

const struct plugin version_service_plugin = {.type = PLUGIN_GRPC, .id = "version", .init = init};
