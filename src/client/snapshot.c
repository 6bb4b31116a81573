// SPDX-License-Identifier: Apache-2.0
//
// Snapshots and leases.
#include "client/internal.h"

#include "base/clock.h"

#include <skiff/snapshot.h>

#include "containerd/leases.pb-c.h"
#include "containerd/snapshots.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

#define SNAPSHOTS "containerd.services.snapshots.v1.Snapshots"
#define LEASES "containerd.services.leases.v1.Leases"

struct skiff_mounts {
        struct arena *arena;
        struct skiff_mount *mounts;
        size_t n;
};

static const char *snapshotter_or_default(const char *name)
{
        return name != NULL ? name : SKIFF_DEFAULT_SNAPSHOTTER;
}

static struct skiff_mounts *mounts_new(struct arena *arena, Types__Mount *const *given, size_t n)
{
        struct skiff_mounts *list = g_new0(struct skiff_mounts, 1);
        list->arena = arena;
        list->n = n;
        list->mounts = arena_array(arena, struct skiff_mount, n + 1);
        for (size_t i = 0; i < n; i++) {
                const char **options = arena_array(arena, const char *, given[i]->n_options + 1);
                for (size_t k = 0; k < given[i]->n_options; k++)
                        options[k] = given[i]->options[k];
                list->mounts[i] = (struct skiff_mount){
                        .type = given[i]->type,
                        .source = given[i]->source,
                        .destination = given[i]->target,
                        .options = options,
                };
        }
        return list;
}

size_t skiff_mounts_count(const struct skiff_mounts *list)
{
        return list->n;
}

const struct skiff_mount *skiff_mounts_at(const struct skiff_mounts *list, size_t index)
{
        return &list->mounts[index];
}

void skiff_mounts_free(struct skiff_mounts *list)
{
        if (list == NULL)
                return;
        arena_free(list->arena);
        g_free(list);
}

static struct skiff_mounts *view(
        struct skiff_client *client, const struct skiff_snapshot_options *options, GError **error)
{
        AUTO(arena) arena = arena_new();
        Snapshots__ViewSnapshotRequest request = SNAPSHOTS__VIEW_SNAPSHOT_REQUEST__INIT;
        request.snapshotter = (char *)snapshotter_or_default(options->snapshotter);
        request.key = (char *)options->key;
        request.parent = (char *)(options->parent != NULL ? options->parent : "");
        const Snapshots__ViewSnapshotResponse *response =
                client_receive(client_send(client, CLIENT_METHOD(SNAPSHOTS, "View", snapshots__view_snapshot_response),
                                       &request, options->lease),
                        arena, error);
        return response == NULL ? NULL : mounts_new(g_steal_pointer(&arena), response->mounts, response->n_mounts);
}

static struct skiff_mounts *prepare(
        struct skiff_client *client, const struct skiff_snapshot_options *options, GError **error)
{
        AUTO(arena) arena = arena_new();
        Snapshots__PrepareSnapshotRequest request = SNAPSHOTS__PREPARE_SNAPSHOT_REQUEST__INIT;
        request.snapshotter = (char *)snapshotter_or_default(options->snapshotter);
        request.key = (char *)options->key;
        request.parent = (char *)(options->parent != NULL ? options->parent : "");
        const Snapshots__PrepareSnapshotResponse *response = client_receive(
                client_send(client, CLIENT_METHOD(SNAPSHOTS, "Prepare", snapshots__prepare_snapshot_response), &request,
                        options->lease),
                arena, error);
        return response == NULL ? NULL : mounts_new(g_steal_pointer(&arena), response->mounts, response->n_mounts);
}

struct skiff_mounts *skiff_snapshot_prepare(
        struct skiff_client *client, const struct skiff_snapshot_options *options, struct skiff_error **error)
{
        return options->read_only ? view(client, options, inner(error)) : prepare(client, options, inner(error));
}

struct skiff_mounts *skiff_snapshot_mounts(
        struct skiff_client *client, const char *snapshotter, const char *key, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        Snapshots__MountsRequest request = SNAPSHOTS__MOUNTS_REQUEST__INIT;
        request.snapshotter = (char *)snapshotter_or_default(snapshotter);
        request.key = (char *)key;
        const Snapshots__MountsResponse *response = client_call(
                client, CLIENT_METHOD(SNAPSHOTS, "Mounts", snapshots__mounts_response), &request, arena, inner(error));
        return response == NULL ? NULL : mounts_new(g_steal_pointer(&arena), response->mounts, response->n_mounts);
}

struct client_call *snapshot_remove_send(struct skiff_client *client, const char *snapshotter, const char *key)
{
        Snapshots__RemoveSnapshotRequest request = SNAPSHOTS__REMOVE_SNAPSHOT_REQUEST__INIT;
        request.snapshotter = (char *)snapshotter_or_default(snapshotter);
        request.key = (char *)key;
        return client_send(client, CLIENT_METHOD(SNAPSHOTS, "Remove", google__protobuf__empty), &request, NULL);
}

bool skiff_snapshot_remove(
        struct skiff_client *client, const char *snapshotter, const char *key, struct skiff_error **error)
{
        return client_receive(snapshot_remove_send(client, snapshotter, key), NULL, inner(error)) != NULL;
}

// ---- leases

struct client_call *lease_create_send(struct skiff_client *client, const char *id, unsigned expire_s)
{
        g_autofree char *end = clock_format_rfc3339((clock_now_ns() / NS_PER_SECOND + expire_s) * NS_PER_SECOND);
        Leases__CreateRequest__LabelsEntry label = LEASES__CREATE_REQUEST__LABELS_ENTRY__INIT;
        Leases__CreateRequest__LabelsEntry *labels[] = {&label};
        label.key = (char *)"containerd.io/gc.expire";
        label.value = end;
        Leases__CreateRequest request = LEASES__CREATE_REQUEST__INIT;
        request.id = (char *)id;
        request.labels = labels;
        request.n_labels = expire_s > 0 ? 1 : 0;
        return client_send(client, CLIENT_METHOD(LEASES, "Create", leases__create_response), &request, NULL);
}

struct client_call *lease_remove_send(struct skiff_client *client, const char *id)
{
        Leases__DeleteRequest request = LEASES__DELETE_REQUEST__INIT;
        request.id = (char *)id;
        return client_send(client, CLIENT_METHOD(LEASES, "Delete", google__protobuf__empty), &request, NULL);
}

bool skiff_lease_create(struct skiff_client *client, const char *id, unsigned expire_s, struct skiff_error **error)
{
        return client_receive(lease_create_send(client, id, expire_s), NULL, inner(error)) != NULL;
}

bool skiff_lease_remove(struct skiff_client *client, const char *id, struct skiff_error **error)
{
        return client_receive(lease_remove_send(client, id), NULL, inner(error)) != NULL;
}
