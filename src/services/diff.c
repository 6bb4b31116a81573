// SPDX-License-Identifier: Apache-2.0
//
// containerd.services.diff.v1.Diff: layers applied to mounts, and made from them.
#include "base/fd.h"
#include "containerd/diff.pb-c.h"
#include "core/content.h"
#include "core/convert.h"
#include "core/differ.h"
#include "rpc/server.h"
#include "services/service.h"
#include "services/services.h"

#define MEDIA_TYPE_LAYER "application/vnd.oci.image.layer.v1.tar"

struct diff_service {
        struct plugin_service service;
        struct differ *differ;
        struct content_store *content;
        bool sync_fs;
};

// ---- Apply

static void on_applied(void *data, const struct unpack_result *result, const GError *error)
{
        struct rpc_call *call = data;
        if (result == NULL) {
                rpc_call_fail(call, g_error_copy(error));
                return;
        }
        Types__Descriptor applied = TYPES__DESCRIPTOR__INIT;
        applied.media_type = (char *)MEDIA_TYPE_LAYER;
        applied.digest = (char *)result->diff_id;
        applied.size = result->size;
        Diff__ApplyResponse response = DIFF__APPLY_RESPONSE__INIT;
        response.applied = &applied;
        rpc_call_reply(call, &response.base);
}

static bool apply(struct diff_service *diff, struct rpc_call *call, GError **error)
{
        const Diff__ApplyRequest *request = (const void *)rpc_call_request(call);
        struct scope scope;
        if (!service_scope(call, &scope, error))
                return false;
        if (request->diff == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "diff is required: invalid argument");
        int64_t size;
        fd_auto int fd = diff->content->ops->open(diff->content, &scope, request->diff->digest, &size, error);
        if (fd < 0) {
                g_prefix_error(error, "failed to get reader from content store: ");
                return false;
        }
        g_autoptr(GPtrArray) mounts = mounts_from_proto(request->mounts, request->n_mounts);
        struct differ_apply_request applied = {
                .media_type = request->diff->media_type,
                .fd = fd,
                .available_bytes = size,
                .complete = true,
                .mounts = mounts,
                .sync_fs = request->sync_fs || diff->sync_fs,
                .cancel = rpc_call_cancel(call),
        };
        const struct differ_ops *ops = diff->differ->ops;
        ops->unref(ops->apply(diff->differ, &applied, on_applied, call));
        return true;
}

static void on_apply(struct rpc_call *call, void *service)
{
        GError *error = NULL;
        if (!apply(service, call, &error))
                rpc_call_fail(call, error);
}

// ---- Diff

static void on_compared(void *data, const struct differ_compare_result *result, const GError *error)
{
        struct rpc_call *call = data;
        if (result == NULL) {
                rpc_call_fail(call, g_error_copy(error));
                return;
        }
        Types__Descriptor made = TYPES__DESCRIPTOR__INIT;
        made.media_type = (char *)result->media_type;
        made.digest = (char *)result->digest;
        made.size = result->size;
        Diff__DiffResponse response = DIFF__DIFF_RESPONSE__INIT;
        response.diff = &made;
        rpc_call_reply(call, &response.base);
}

static void on_diff(struct rpc_call *call, void *service)
{
        struct diff_service *diff = service;
        const Diff__DiffRequest *request = (const void *)rpc_call_request(call);
        GError *error = NULL;
        struct scope scope;
        if (!service_scope(call, &scope, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        g_autoptr(GPtrArray) lower = mounts_from_proto(request->left, request->n_left);
        g_autoptr(GPtrArray) upper = mounts_from_proto(request->right, request->n_right);
        const struct differ_compare_request compared = {
                .lower = lower,
                .upper = upper,
                .media_type = request->media_type,
                .ref = request->ref,
                .labels = labels_from_proto(request->labels, request->n_labels, rpc_call_arena(call)),
                .has_epoch = request->source_date_epoch != NULL,
                .epoch_seconds = request->source_date_epoch != NULL ? request->source_date_epoch->seconds : 0,
                .cancel = rpc_call_cancel(call),
        };
        diff->differ->ops->compare(diff->differ, &scope, &compared, on_compared, call);
}

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Apply", LANE_FAST, diff__apply_request, diff__apply_response, on_apply,
                .limit_ms = SERVICE_LIMIT_FILES_MS),
        RPC_METHOD_UNARY("Diff", LANE_FAST, diff__diff_request, diff__diff_response, on_diff,
                .limit_ms = SERVICE_LIMIT_FILES_MS),
};

static const struct rpc_service service = {
        .name = "containerd.services.diff.v1.Diff",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

// ---- plugin

static void *init(struct plugin_host *host, GError **error)
{
        struct differ *differ = plugin_host_get(host, PLUGIN_DIFFER, "walking");
        struct content_store *content = plugin_host_get(host, PLUGIN_CONTENT, "content");
        if (differ == NULL || content == NULL) {
                error_fail(error, ERROR_FAILED_PRECONDITION, "needed differ not loaded: walking");
                return NULL;
        }
        struct diff_service *diff = g_new0(struct diff_service, 1);
        diff->service = (struct plugin_service){&service, diff, RPC_GRPC};
        diff->differ = differ;
        diff->content = content;
        return &diff->service;
}

static const struct plugin_requirement requires_[] = {
        {PLUGIN_DIFFER, "walking"},
        {PLUGIN_CONTENT, "content"},
        {0},
};

const struct plugin diff_service_plugin = {
        .type = PLUGIN_GRPC,
        .id = "diff",
        .requires_ = requires_,
        .init = init,
        .stop = service_free_object,
};
