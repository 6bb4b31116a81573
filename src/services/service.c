// SPDX-License-Identifier: Apache-2.0
//
// The texts are containerd's: clients print them.
#include "services/service.h"

#include "base/identifier.h"

#include "google/protobuf/empty.pb-c.h"

const char *service_namespace(const struct rpc_call *call, GError **error)
{
        const char *name = rpc_call_metadata(call, "containerd-namespace");
        if (name == NULL)
                name = rpc_call_metadata(call, "containerd-namespace-ttrpc");
        if (name == NULL || *name == 0) {
                error_fail(error, ERROR_FAILED_PRECONDITION, "namespace is required: failed precondition");
                return NULL;
        }
        if (!identifier_validate(name, error)) {
                g_prefix_error(error, "namespace validation: ");
                return NULL;
        }
        return name;
}

void service_reply_empty(struct rpc_call *call, GError *error)
{
        if (error != NULL) {
                rpc_call_fail(call, error);
                return;
        }
        Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
        rpc_call_reply(call, &empty.base);
}
