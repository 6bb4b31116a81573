// SPDX-License-Identifier: Apache-2.0
//
// Makes a container: lease, snapshot, specification, record, with as few waits as the answers' order allows. The lease
// keeps the snapshot until the record does; it is given up without waiting for the answer, and ends by itself if this
// program dies.
#include "client/internal.h"

#include "base/identifier.h"
#include "client/spec_internal.h"

#include <skiff/container.h>

#include "containerd/containers.pb-c.h"
#include "containerd/images.pb-c.h"
#include "containerd/runc.pb-c.h"
#include "containerd/snapshots.pb-c.h"

#include <string.h>

enum { LEASE_S = 3600 };

static const char spec_type[] = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
static const char stop_signal_label[] = "io.containerd.image.config.stop-signal";

struct creation {
        struct skiff_client *client;
        const struct skiff_container_options *options;
        const struct skiff_spec_options *spec_options;
        const char *snapshotter;
        struct arena *arena;
        char *lease;
        const Images__Image *image;
        const struct image_config *config;
        const Snapshots__PrepareSnapshotResponse *prepared;
};

// ---- image

static bool read_image(struct creation *creation, GError **error)
{
        Images__GetImageRequest request = IMAGES__GET_IMAGE_REQUEST__INIT;
        request.name = (char *)creation->options->image;
        struct client_call *lease = lease_create_send(creation->client, creation->lease, LEASE_S);
        const Images__GetImageResponse *response = client_call(creation->client,
                CLIENT_METHOD("containerd.services.images.v1.Images", "Get", images__get_image_response), &request,
                creation->arena, error);
        if (response != NULL && (response->image == NULL || response->image->target == NULL)) {
                error_fail(error, ERROR_INTERNAL, "image \"%s\": empty answer", creation->options->image);
                response = NULL;
        }
        if (response != NULL) {
                creation->image = response->image;
                creation->config = image_config_read(creation->client, response->image->target->digest,
                        response->image->target->media_type, creation->arena, error);
        }
        // The lease is waited for in any case, so that it is there when it is given up.
        return client_receive(lease, NULL, creation->config != NULL ? error : NULL) != NULL && creation->config != NULL;
}

// ---- snapshot

static bool prepare(struct creation *creation, GError **error)
{
        Snapshots__PrepareSnapshotRequest request = SNAPSHOTS__PREPARE_SNAPSHOT_REQUEST__INIT;
        request.snapshotter = (char *)creation->snapshotter;
        request.key = (char *)creation->options->id;
        request.parent = (char *)creation->config->chain_id;
        GError *failure = NULL;
        creation->prepared = client_receive(client_send(creation->client,
                                                    CLIENT_METHOD("containerd.services.snapshots.v1.Snapshots",
                                                            "Prepare", snapshots__prepare_snapshot_response),
                                                    &request, creation->lease),
                creation->arena, &failure);
        if (creation->prepared != NULL)
                return true;
        if (error_is(failure, ERROR_NOT_FOUND))
                error_fail(error, ERROR_NOT_FOUND, "image \"%s\" is not unpacked for snapshotter \"%s\"",
                        creation->options->image, creation->snapshotter);
        else if (error_is(failure, ERROR_ALREADY_EXISTS))
                error_fail(error, ERROR_ALREADY_EXISTS, "container \"%s\": already exists", creation->options->id);
        else
                g_propagate_error(error, g_steal_pointer(&failure));
        g_clear_error(&failure);
        return false;
}

// ---- specification

static char *make_spec(struct creation *creation, GError **error)
{
        const char *text = creation->spec_options->user != NULL ? creation->spec_options->user : creation->config->user;
        // Where it cannot be looked into, numbers still work; user_resolve says so.
        AUTO(rootfs) rootfs = rootfs_open(creation->prepared->mounts, creation->prepared->n_mounts, NULL);
        struct user_ids user;
        if (!user_resolve(rootfs, text, &user, error))
                return NULL;
        struct spec_input input = {
                .name_space = creation->client->name_space,
                .id = creation->options->id,
                .options = creation->spec_options,
                .image = creation->config,
                .user = &user,
        };
        char *spec = spec_make(&input, error);
        user_ids_done(&user);
        return spec;
}

// ---- record

static void add_label(GHashTable *labels, const char *key, const char *value)
{
        if (label_validate(key, value, NULL)) // an image may carry what the daemon would refuse
                g_hash_table_insert(labels, (char *)key, (char *)value);
}

static void collect_labels(const struct creation *creation, GHashTable *labels)
{
        for (size_t i = 0; i < creation->config->n_labels; i++)
                add_label(labels, creation->config->labels[i].key, creation->config->labels[i].value);
        for (size_t i = 0; i < creation->image->n_labels; i++)
                add_label(labels, creation->image->labels[i]->key, creation->image->labels[i]->value);
        add_label(labels, stop_signal_label,
                creation->config->stop_signal != NULL ? creation->config->stop_signal : "SIGTERM");
        for (size_t i = 0; i < creation->options->n_labels; i++)
                g_hash_table_insert(
                        labels, (char *)creation->options->labels[i].key, (char *)creation->options->labels[i].value);
}

static void fill_labels(struct creation *creation, Containers__Container *record)
{
        g_autoptr(GHashTable) labels = g_hash_table_new(g_str_hash, g_str_equal);
        collect_labels(creation, labels);
        record->labels =
                arena_array(creation->arena, Containers__Container__LabelsEntry *, g_hash_table_size(labels) + 1);
        GHashTableIter iter;
        gpointer key, value;
        g_hash_table_iter_init(&iter, labels);
        while (g_hash_table_iter_next(&iter, &key, &value)) {
                Containers__Container__LabelsEntry *entry =
                        arena_new0(creation->arena, Containers__Container__LabelsEntry);
                containers__container__labels_entry__init(entry);
                entry->key = key;
                entry->value = value;
                record->labels[record->n_labels++] = entry;
        }
}

static void fill_runtime(struct creation *creation, Containers__Container__Runtime *runtime)
{
        const char *name = creation->options->runtime;
        runtime->name = (char *)(name != NULL ? name : SKIFF_DEFAULT_RUNTIME);
        if (creation->options->runtime_binary != NULL) {
                Runc__Options options = RUNC__OPTIONS__INIT;
                options.binary_name = (char *)creation->options->runtime_binary;
                runtime->options = client_pack_any(&options.base, creation->arena);
        }
}

static bool create_record(struct creation *creation, const char *spec, GError **error)
{
        Google__Protobuf__Any spec_any = GOOGLE__PROTOBUF__ANY__INIT;
        spec_any.type_url = (char *)spec_type;
        spec_any.value = (ProtobufCBinaryData){.data = (uint8_t *)spec, .len = strlen(spec)};
        Containers__Container__Runtime runtime = CONTAINERS__CONTAINER__RUNTIME__INIT;
        fill_runtime(creation, &runtime);
        Containers__Container record = CONTAINERS__CONTAINER__INIT;
        record.id = (char *)creation->options->id;
        record.image = (char *)creation->options->image;
        record.runtime = &runtime;
        record.spec = &spec_any;
        record.snapshotter = (char *)creation->snapshotter;
        record.snapshot_key = (char *)creation->options->id;
        fill_labels(creation, &record);
        Containers__CreateContainerRequest request = CONTAINERS__CREATE_CONTAINER_REQUEST__INIT;
        request.container = &record;
        return client_call(creation->client,
                       CLIENT_METHOD("containerd.services.containers.v1.Containers", "Create",
                               containers__create_container_response),
                       &request, NULL, error) != NULL;
}

// ---- all together

static bool create(struct creation *creation, GError **error)
{
        if (!read_image(creation, error) || !prepare(creation, error))
                return false;
        g_autofree char *spec = make_spec(creation, error);
        if (spec != NULL && create_record(creation, spec, error)) {
                client_keep_mounts(creation->client, creation->options->id, creation->prepared->mounts,
                        creation->prepared->n_mounts);
                return true;
        }
        client_receive(
                snapshot_remove_send(creation->client, creation->snapshotter, creation->options->id), NULL, NULL);
        return false;
}

bool skiff_container_create(
        struct skiff_client *client, const struct skiff_container_options *options, struct skiff_error **error)
{
        static const struct skiff_spec_options no_options;
        if (!identifier_validate(options->id, inner(error)))
                return false;
        if (options->image == NULL)
                return error_fail(inner(error), ERROR_INVALID_ARGUMENT, "no image given");
        AUTO(arena) arena = arena_new();
        g_autofree char *random = identifier_random_hex(8);
        g_autofree char *lease = g_strconcat("skiff-", random, NULL);
        struct creation creation = {
                .client = client,
                .options = options,
                .spec_options = options->spec != NULL ? options->spec : &no_options,
                .snapshotter = options->snapshotter != NULL ? options->snapshotter : SKIFF_DEFAULT_SNAPSHOTTER,
                .arena = arena,
                .lease = lease,
        };
        bool ok = create(&creation, inner(error));
        client_leave(client, lease_remove_send(client, lease));
        return ok;
}
