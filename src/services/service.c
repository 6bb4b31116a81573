// SPDX-License-Identifier: Apache-2.0
//
// The texts are containerd's: clients print them.
#include "services/service.h"

#include "base/identifier.h"
#include "core/gc.h"
#include "core/plugin.h"

#include "google/protobuf/empty.pb-c.h"

static bool check_namespace(const char *name, GError **error)
{
        if (name == NULL || *name == 0)
                return error_fail(error, ERROR_FAILED_PRECONDITION, "namespace is required: failed precondition");
        if (identifier_validate(name, error))
                return true;
        g_prefix_error(error, "namespace validation: ");
        return false;
}

static struct scope make_scope(const char *namespace_, const char *lease)
{
        return (struct scope){.namespace_ = namespace_, .lease = lease != NULL && *lease != 0 ? lease : NULL};
}

const char *service_namespace(const struct rpc_call *call, GError **error)
{
        const char *name = rpc_call_metadata(call, "containerd-namespace");
        if (name == NULL)
                name = rpc_call_metadata(call, "containerd-namespace-ttrpc");
        return check_namespace(name, error) ? name : NULL;
}

bool service_scope(const struct rpc_call *call, struct scope *ret_scope, GError **error)
{
        const char *namespace_ = service_namespace(call, error);
        if (namespace_ == NULL)
                return false;
        *ret_scope = make_scope(namespace_, rpc_call_metadata(call, "containerd-lease"));
        return true;
}

bool service_stream_scope(const struct rpc_stream *stream, struct scope *ret_scope, GError **error)
{
        const char *namespace_ = rpc_stream_metadata(stream, "containerd-namespace");
        if (!check_namespace(namespace_, error))
                return false;
        *ret_scope = make_scope(namespace_, rpc_stream_metadata(stream, "containerd-lease"));
        return true;
}

bool service_find_records(
        struct plugin_host *host, struct metadata **ret_metadata, struct event_exchange **ret_events, GError **error)
{
        struct metadata *metadata = plugin_host_get(host, PLUGIN_METADATA, "bolt");
        struct event_exchange *events = plugin_host_get(host, PLUGIN_EVENT, "exchange");
        if (metadata == NULL || events == NULL)
                return error_fail(
                        error, ERROR_FAILED_PRECONDITION, "the metadata store or the event exchange did not start");
        *ret_metadata = metadata;
        *ret_events = events;
        return true;
}

void service_free_object(void *instance)
{
        const struct plugin_service *service = instance;
        g_free(service->object); // which service is a part of
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

static void on_collected(void *data, const GError *error)
{
        service_reply_empty(data, error != NULL ? g_error_copy(error) : NULL);
}

void service_reply_after_gc(struct rpc_call *call, struct gc *gc)
{
        if (gc == NULL)
                service_reply_empty(call, NULL);
        else
                gc->ops->collect(gc, on_collected, call);
}

bool service_filter(char *const *texts, size_t n, struct filter **ret, GError **error)
{
        *ret = NULL;
        if (n == 0)
                return true;
        g_autoptr(GError) failure = NULL;
        *ret = filter_parse(texts, n, &failure);
        return *ret != NULL || error_fail(error, ERROR_INVALID_ARGUMENT, "%s: invalid argument", failure->message);
}
