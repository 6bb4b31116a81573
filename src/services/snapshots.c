// SPDX-License-Identifier: Apache-2.0
//
// Snapshots. What takes its time (copies, measuring, syncing) runs on the SLOW lane. List reads all rows in one
// transaction and then sends them in messages of a hundred, as fast as the client takes them.
#include "base/filter.h"
#include "core/convert.h"
#include "core/snapshotter.h"
#include "rpc/server.h"
#include "services/listing.h"
#include "services/service.h"
#include "services/services.h"

#include "containerd/snapshots.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

enum { INFOS_PER_MESSAGE = 100 };

struct snapshots_service {
        struct plugin_service base;
        struct snapshotters *snapshotters;
};

// What every method begins with.
static struct snapshotter *begin(
        struct rpc_call *call, void *object, const char *name, struct scope *ret_scope, GError **error)
{
        const struct snapshots_service *service = object;
        struct snapshotter *snapshotter = snapshotters_get(service->snapshotters, name, error);
        return snapshotter != NULL && service_scope(call, ret_scope, error) ? snapshotter : NULL;
}

static Snapshots__Kind kind_to_proto(enum snapshot_kind kind)
{
        switch (kind) {
        case SNAPSHOT_VIEW:
                return SNAPSHOTS__KIND__VIEW;
        case SNAPSHOT_ACTIVE:
                return SNAPSHOTS__KIND__ACTIVE;
        case SNAPSHOT_COMMITTED:
                return SNAPSHOTS__KIND__COMMITTED;
        }
        return SNAPSHOTS__KIND__UNKNOWN;
}

static Snapshots__Info *info_to_proto(const struct snapshot *snapshot, struct arena *arena)
{
        Snapshots__Info *info = arena_new0(arena, Snapshots__Info);
        snapshots__info__init(info);
        info->name = (char *)snapshot->key;
        info->parent = (char *)snapshot->parent;
        info->kind = kind_to_proto(snapshot->kind);
        info->created_at = timestamp_to_proto(snapshot->created_ns, arena);
        info->updated_at = timestamp_to_proto(snapshot->updated_ns, arena);
        info->labels =
                labels_to_proto(&snapshot->labels, arena, &snapshots__info__labels_entry__descriptor, &info->n_labels);
        return info;
}

static GPtrArray *prepare(
        struct rpc_call *call, void *object, const char *name, const struct snapshot_request *request, GError **error)
{
        struct scope scope;
        struct snapshotter *snapshotter = begin(call, object, name, &scope, error);
        return snapshotter != NULL ? snapshotter_prepare(snapshotter, &scope, request, error) : NULL;
}

static void on_prepare(struct rpc_call *call, void *object)
{
        const Snapshots__PrepareSnapshotRequest *request =
                (const Snapshots__PrepareSnapshotRequest *)rpc_call_request(call);
        struct arena *arena = rpc_call_arena(call);
        const struct snapshot_request wanted = {
                .key = request->key,
                .parent = request->parent,
                .labels = labels_from_proto(request->labels, request->n_labels, arena),
        };
        GError *error = NULL;
        g_autoptr(GPtrArray) mounts = prepare(call, object, request->snapshotter, &wanted, &error);
        if (mounts == NULL) {
                rpc_call_fail(call, error);
                return;
        }
        Snapshots__PrepareSnapshotResponse response = SNAPSHOTS__PREPARE_SNAPSHOT_RESPONSE__INIT;
        response.mounts = mounts_to_proto(mounts, arena, &response.n_mounts);
        rpc_call_reply(call, &response.base);
}

static void on_view(struct rpc_call *call, void *object)
{
        const Snapshots__ViewSnapshotRequest *request = (const Snapshots__ViewSnapshotRequest *)rpc_call_request(call);
        struct arena *arena = rpc_call_arena(call);
        const struct snapshot_request wanted = {
                .key = request->key,
                .parent = request->parent,
                .labels = labels_from_proto(request->labels, request->n_labels, arena),
                .view = true,
        };
        GError *error = NULL;
        g_autoptr(GPtrArray) mounts = prepare(call, object, request->snapshotter, &wanted, &error);
        if (mounts == NULL) {
                rpc_call_fail(call, error);
                return;
        }
        Snapshots__ViewSnapshotResponse response = SNAPSHOTS__VIEW_SNAPSHOT_RESPONSE__INIT;
        response.mounts = mounts_to_proto(mounts, arena, &response.n_mounts);
        rpc_call_reply(call, &response.base);
}

static void on_mounts(struct rpc_call *call, void *object)
{
        const Snapshots__MountsRequest *request = (const Snapshots__MountsRequest *)rpc_call_request(call);
        struct scope scope;
        GError *error = NULL;
        struct snapshotter *snapshotter = begin(call, object, request->snapshotter, &scope, &error);
        g_autoptr(GPtrArray) mounts =
                snapshotter != NULL ? snapshotter_mounts(snapshotter, &scope, request->key, &error) : NULL;
        if (mounts == NULL) {
                rpc_call_fail(call, error);
                return;
        }
        Snapshots__MountsResponse response = SNAPSHOTS__MOUNTS_RESPONSE__INIT;
        response.mounts = mounts_to_proto(mounts, rpc_call_arena(call), &response.n_mounts);
        rpc_call_reply(call, &response.base);
}

static void on_commit(struct rpc_call *call, void *object)
{
        const Snapshots__CommitSnapshotRequest *request =
                (const Snapshots__CommitSnapshotRequest *)rpc_call_request(call);
        struct scope scope;
        GError *error = NULL;
        struct snapshotter *snapshotter = begin(call, object, request->snapshotter, &scope, &error);
        const struct snapshot_commit commit = {
                .name = request->name,
                .key = request->key,
                .parent = request->parent,
                .labels = labels_from_proto(request->labels, request->n_labels, rpc_call_arena(call)),
        };
        if (snapshotter != NULL)
                snapshotter_commit(snapshotter, &scope, &commit, &error);
        service_reply_empty(call, error);
}

static void on_remove(struct rpc_call *call, void *object)
{
        const Snapshots__RemoveSnapshotRequest *request =
                (const Snapshots__RemoveSnapshotRequest *)rpc_call_request(call);
        struct scope scope;
        GError *error = NULL;
        struct snapshotter *snapshotter = begin(call, object, request->snapshotter, &scope, &error);
        if (snapshotter != NULL)
                snapshotter_remove(snapshotter, &scope, request->key, &error);
        service_reply_empty(call, error);
}

static void on_stat(struct rpc_call *call, void *object)
{
        const Snapshots__StatSnapshotRequest *request = (const Snapshots__StatSnapshotRequest *)rpc_call_request(call);
        struct arena *arena = rpc_call_arena(call);
        struct scope scope;
        struct snapshot snapshot;
        GError *error = NULL;
        struct snapshotter *snapshotter = begin(call, object, request->snapshotter, &scope, &error);
        if (snapshotter == NULL || !snapshotter_stat(snapshotter, &scope, request->key, arena, &snapshot, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Snapshots__StatSnapshotResponse response = SNAPSHOTS__STAT_SNAPSHOT_RESPONSE__INIT;
        response.info = info_to_proto(&snapshot, arena);
        rpc_call_reply(call, &response.base);
}

static void on_update(struct rpc_call *call, void *object)
{
        const Snapshots__UpdateSnapshotRequest *request =
                (const Snapshots__UpdateSnapshotRequest *)rpc_call_request(call);
        const Snapshots__Info *info = request->info;
        const Google__Protobuf__FieldMask *mask = request->update_mask;
        struct arena *arena = rpc_call_arena(call);
        struct scope scope;
        struct snapshot snapshot = {.key = ""};
        GError *error = NULL;
        struct snapshotter *snapshotter = begin(call, object, request->snapshotter, &scope, &error);
        if (info != NULL) {
                snapshot.key = info->name;
                snapshot.labels = labels_from_proto(info->labels, info->n_labels, arena);
        }
        if (snapshotter == NULL ||
                !snapshotter_update(snapshotter, &scope, &snapshot, mask != NULL ? mask->paths : NULL,
                        mask != NULL ? mask->n_paths : 0, arena, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Snapshots__UpdateSnapshotResponse response = SNAPSHOTS__UPDATE_SNAPSHOT_RESPONSE__INIT;
        response.info = info_to_proto(&snapshot, arena);
        rpc_call_reply(call, &response.base);
}

static void on_usage(struct rpc_call *call, void *object)
{
        const Snapshots__UsageRequest *request = (const Snapshots__UsageRequest *)rpc_call_request(call);
        struct scope scope;
        struct snapshot_usage usage;
        GError *error = NULL;
        struct snapshotter *snapshotter = begin(call, object, request->snapshotter, &scope, &error);
        if (snapshotter == NULL || !snapshotter_usage(snapshotter, &scope, request->key, &usage, &error)) {
                rpc_call_fail(call, error);
                return;
        }
        Snapshots__UsageResponse response = SNAPSHOTS__USAGE_RESPONSE__INIT;
        response.size = usage.size_bytes;
        response.inodes = usage.inodes;
        rpc_call_reply(call, &response.base);
}

static void on_cleanup(struct rpc_call *call, void *object)
{
        const struct snapshots_service *service = object;
        const Snapshots__CleanupRequest *request = (const Snapshots__CleanupRequest *)rpc_call_request(call);
        GError *error = NULL;
        struct snapshotter *snapshotter = snapshotters_get(service->snapshotters, request->snapshotter, &error);
        if (snapshotter != NULL)
                snapshotter_cleanup(snapshotter, &error);
        service_reply_empty(call, error);
}

// ---- List

static bool add_info(void *data, const struct snapshot *snapshot)
{
        struct listing *listing = data;
        g_ptr_array_add(listing->items, info_to_proto(snapshot, listing->arena));
        return true;
}

static bool read_infos(
        struct listing *listing, const struct scope *scope, const ProtobufCMessage *message, GError **error)
{
        const Snapshots__ListSnapshotsRequest *request = (const Snapshots__ListSnapshotsRequest *)message;
        const struct snapshots_service *service = listing->service;
        struct snapshotter *snapshotter = snapshotters_get(service->snapshotters, request->snapshotter, error);
        AUTO(filter) filter = snapshotter != NULL ? filter_parse(request->filters, request->n_filters, error) : NULL;
        return filter != NULL && snapshotter_walk(snapshotter, scope, filter, listing->arena, add_info, listing, error);
}

static bool send_infos(struct rpc_stream *stream, void **items, size_t n_items)
{
        Snapshots__ListSnapshotsResponse response = SNAPSHOTS__LIST_SNAPSHOTS_RESPONSE__INIT;
        response.info = (Snapshots__Info **)items;
        response.n_info = n_items;
        return rpc_stream_send(stream, &response.base);
}

static void *on_list(struct rpc_stream *stream, void *object)
{
        static const struct listing_kind kind = {INFOS_PER_MESSAGE, read_infos, send_infos};
        return listing_open(&kind, object);
}

static const struct rpc_stream_handler list_handler = LISTING_HANDLER(on_list);

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Prepare", LANE_SLOW, snapshots__prepare_snapshot_request,
                snapshots__prepare_snapshot_response, on_prepare, .limit_ms = SERVICE_LIMIT_FILES_MS),
        RPC_METHOD_UNARY("View", LANE_SLOW, snapshots__view_snapshot_request, snapshots__view_snapshot_response,
                on_view, .limit_ms = SERVICE_LIMIT_FILES_MS),
        RPC_METHOD_UNARY("Mounts", LANE_FAST, snapshots__mounts_request, snapshots__mounts_response, on_mounts,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Commit", LANE_SLOW, snapshots__commit_snapshot_request, google__protobuf__empty, on_commit,
                .limit_ms = SERVICE_LIMIT_FILES_MS),
        RPC_METHOD_UNARY("Remove", LANE_SLOW, snapshots__remove_snapshot_request, google__protobuf__empty, on_remove,
                .limit_ms = SERVICE_LIMIT_FILES_MS),
        RPC_METHOD_UNARY("Stat", LANE_FAST, snapshots__stat_snapshot_request, snapshots__stat_snapshot_response,
                on_stat, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Update", LANE_FAST, snapshots__update_snapshot_request, snapshots__update_snapshot_response,
                on_update, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_STREAM("List", RPC_SERVER_STREAM, LANE_FAST, snapshots__list_snapshots_request,
                snapshots__list_snapshots_response, &list_handler),
        RPC_METHOD_UNARY("Usage", LANE_SLOW, snapshots__usage_request, snapshots__usage_response, on_usage,
                .limit_ms = SERVICE_LIMIT_FILES_MS),
        RPC_METHOD_UNARY("Cleanup", LANE_SLOW, snapshots__cleanup_request, google__protobuf__empty, on_cleanup,
                .limit_ms = SERVICE_LIMIT_FILES_MS),
};

static const struct rpc_service rpc = {
        .name = "containerd.services.snapshots.v1.Snapshots",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

static void *init(struct plugin_host *host, GError **error)
{
        struct snapshotters *snapshotters = plugin_host_get(host, PLUGIN_SERVICE, "snapshots-service");
        if (snapshotters == NULL) {
                error_fail(error, ERROR_NOT_FOUND, "no snapshots service: not found");
                return NULL;
        }
        struct snapshots_service *service = g_new0(struct snapshots_service, 1);
        service->base = (struct plugin_service){.service = &rpc, .object = service, .protocols = RPC_GRPC};
        service->snapshotters = snapshotters;
        return &service->base;
}

const struct plugin snapshots_service_plugin = {
        .type = PLUGIN_GRPC,
        .id = "snapshots",
        .requires_ = (const struct plugin_requirement[]){{PLUGIN_SERVICE, "snapshots-service"}, {NULL}},
        .init = init,
        .stop = service_free_object,
};
