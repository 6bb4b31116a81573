// SPDX-License-Identifier: Apache-2.0
//
// What clients do with images: each change is one durable transaction, and its event is published once that is
// committed. A lease holds an image only if the image could expire (label containerd.io/gc.expire); other images are
// roots anyhow.
#include "core/image.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/fieldmask.h"
#include "base/filter.h"
#include "core/convert.h"
#include "core/event.h"
#include "core/lease.h"

#include "containerd/images.pb-c.h"

#include <string.h>

const char *image_field(void *object, const char *const *path, size_t n, bool *ret_present)
{
        const struct image *image = object;
        const char *value = NULL;
        if (strcmp(path[0], "labels") == 0)
                return labels_field(&image->labels, path + 1, n - 1, ret_present);
        if (strcmp(path[0], "annotations") == 0)
                return labels_field(&image->target.annotations, path + 1, n - 1, ret_present);
        if (strcmp(path[0], "name") == 0)
                value = image->name;
        else if (n >= 2 && strcmp(path[0], "target") == 0 && strcmp(path[1], "digest") == 0)
                value = image->target.digest;
        else if (n >= 2 && strcmp(path[0], "target") == 0 && strcmp(path[1], "mediatype") == 0)
                value = image->target.media_type;
        *ret_present = value != NULL && value[0] != '\0';
        return value;
}

static bool validate(const struct image *image, GError **error)
{
        if (image->name[0] == '\0')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "image name must not be empty: invalid argument");
        if (!labels_validate(&image->labels, "image.Labels", error))
                return false;
        g_autoptr(GError) bad_digest = NULL;
        if (!digest_parse(image->target.digest, NULL, &bad_digest))
                return error_fail(error, ERROR_INVALID_ARGUMENT, "target.Digest \"%s\" invalid: %s: invalid argument",
                        image->target.digest, bad_digest->message);
        if (image->target.size <= 0)
                return error_fail(
                        error, ERROR_INVALID_ARGUMENT, "target.Size must be greater than zero: invalid argument");
        if (image->target.media_type[0] == '\0')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "target.MediaType must be set: invalid argument");
        return true;
}

struct operation {
        const struct image_store *store;
        const struct scope *scope;
        struct arena *arena;
        struct image *image; // in and out
        char *const *paths;
        size_t n_paths;
        const char *name, *target;
        const struct filter *filter;
        image_fn fn;
        void *data;
        bool created;
};

static bool get(struct tx *tx, void *data, GError **error)
{
        struct operation *operation = data;
        return operation->store->metadata->images->get(
                tx, operation->scope->namespace_, operation->name, operation->arena, operation->image, error);
}

bool image_get(const struct image_store *store, const char *namespace_, const char *name, struct arena *arena,
        struct image *ret, GError **error)
{
        const struct scope scope = {.namespace_ = namespace_};
        struct operation operation = {.store = store, .scope = &scope, .arena = arena, .name = name, .image = ret};
        return metadata_read(store->metadata, get, &operation, error);
}

static bool filter_one(void *data, const struct image *image)
{
        struct operation *operation = data;
        return (operation->filter != NULL && !filter_match(operation->filter, image_field, (void *)image)) ||
               operation->fn(operation->data, image);
}

static bool list(struct tx *tx, void *data, GError **error)
{
        struct operation *operation = data;
        return operation->store->metadata->images->walk(
                tx, operation->scope->namespace_, operation->arena, filter_one, operation, error);
}

bool image_list(const struct image_store *store, const char *namespace_, const struct filter *filter,
        struct arena *arena, image_fn fn, void *data, GError **error)
{
        const struct scope scope = {.namespace_ = namespace_};
        struct operation operation = {
                .store = store, .scope = &scope, .arena = arena, .filter = filter, .fn = fn, .data = data};
        return metadata_read(store->metadata, list, &operation, error);
}

static bool hold(struct tx *tx, struct operation *operation, const struct image *image, GError **error)
{
        return labels_get(&image->labels, "containerd.io/gc.expire") == NULL ||
               lease_hold(operation->store->metadata, tx, operation->scope, "images", image->name, error);
}

static bool create(struct tx *tx, void *data, GError **error)
{
        struct operation *operation = data;
        struct image *image = operation->image;
        struct metadata *metadata = operation->store->metadata;
        if (!validate(image, error) || !hold(tx, operation, image, error))
                return false;
        struct image stored = *image;
        if (stored.created_ns == 0)
                stored.created_ns = clock_now_ns();
        stored.updated_ns = stored.created_ns;
        stored.labels = labels_copy_filled(&image->labels, operation->arena);
        stored.target.annotations = labels_copy_filled(&image->target.annotations, operation->arena);
        if (!metadata->images->insert(tx, operation->scope->namespace_, &stored, error))
                return false;
        *image = stored;
        operation->created = true;
        return true;
}

static void publish_create(const struct operation *operation)
{
        const struct image *image = operation->image;
        if (operation->store->events == NULL)
                return;
        Images__ImageCreate message = IMAGES__IMAGE_CREATE__INIT;
        message.name = (char *)image->name;
        message.labels = labels_to_proto(
                &image->labels, operation->arena, &images__image_create__labels_entry__descriptor, &message.n_labels);
        event_publish(operation->store->events, operation->scope->namespace_, "/images/create", &message.base);
}

static void publish_update(const struct operation *operation)
{
        const struct image *image = operation->image;
        if (operation->store->events == NULL)
                return;
        Images__ImageUpdate message = IMAGES__IMAGE_UPDATE__INIT;
        message.name = (char *)image->name;
        message.labels = labels_to_proto(
                &image->labels, operation->arena, &images__image_update__labels_entry__descriptor, &message.n_labels);
        event_publish(operation->store->events, operation->scope->namespace_, "/images/update", &message.base);
}

bool image_create(const struct image_store *store, const struct scope *scope, struct arena *arena, struct image *image,
        GError **error)
{
        struct operation operation = {.store = store, .scope = scope, .arena = arena, .image = image};
        if (!metadata_write(store->metadata, TX_DURABLE, create, &operation, error))
                return false;
        publish_create(&operation);
        return true;
}

static bool apply(struct image *image, const struct operation *operation, GError **error)
{
        const struct image *change = operation->image;
        struct arena *arena = operation->arena;
        if (operation->n_paths == 0) {
                image->labels = change->labels;
                image->target = change->target;
                return true;
        }
        for (size_t i = 0; i < operation->n_paths; i++) {
                const char *path = operation->paths[i];
                if (strcmp(path, "target") == 0)
                        image->target = change->target;
                else if (!fieldmask_is_of(path, "labels") && !fieldmask_is_of(path, "annotations"))
                        return error_fail(error, ERROR_INVALID_ARGUMENT,
                                "cannot update \"%s\" field on image \"%s\": invalid argument", path, image->name);
        }
        labels_apply(&image->labels, &change->labels, "labels", operation->paths, operation->n_paths, arena);
        labels_apply(&image->target.annotations, &change->target.annotations, "annotations", operation->paths,
                operation->n_paths, arena);
        return true;
}

static bool update(struct tx *tx, void *data, GError **error)
{
        struct operation *operation = data;
        struct metadata *metadata = operation->store->metadata;
        const char *namespace_ = operation->scope->namespace_;
        struct image image;
        if (!metadata->images->get(tx, namespace_, operation->image->name, operation->arena, &image, error) ||
                !apply(&image, operation, error) || !validate(&image, error) || !hold(tx, operation, &image, error))
                return false;
        image.labels = labels_copy_filled(&image.labels, operation->arena);
        image.target.annotations = labels_copy_filled(&image.target.annotations, operation->arena);
        image.updated_ns = operation->image->updated_ns != 0 ? operation->image->updated_ns : clock_now_ns();
        if (!metadata->images->update(tx, namespace_, &image, error))
                return false;
        *operation->image = image;
        return true;
}

bool image_update(const struct image_store *store, const struct scope *scope, char *const *paths, size_t n_paths,
        struct arena *arena, struct image *image, GError **error)
{
        if (image->name[0] == '\0')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "image name is required for update: invalid argument");
        struct operation operation = {
                .store = store, .scope = scope, .arena = arena, .image = image, .paths = paths, .n_paths = n_paths};
        if (!metadata_write(store->metadata, TX_DURABLE, update, &operation, error))
                return false;
        publish_update(&operation);
        return true;
}

static bool put(struct tx *tx, void *data, GError **error)
{
        struct operation *operation = data;
        g_autoptr(GError) failure = NULL;
        struct image wanted = *operation->image;
        if (update(tx, data, &failure))
                return true;
        if (!error_is(failure, ERROR_NOT_FOUND)) {
                g_propagate_error(error, g_steal_pointer(&failure));
                return false;
        }
        *operation->image = wanted;
        return create(tx, data, error);
}

bool image_put(const struct image_store *store, const struct scope *scope, struct arena *arena, struct image *image,
        GError **error)
{
        struct operation operation = {.store = store, .scope = scope, .arena = arena, .image = image};
        if (!metadata_write(store->metadata, TX_DURABLE, put, &operation, error))
                return false;
        if (operation.created)
                publish_create(&operation);
        else
                publish_update(&operation);
        return true;
}

static bool check_target(struct tx *tx, const struct operation *operation, GError **error)
{
        AUTO(arena) arena = arena_new();
        struct image image;
        if (!operation->store->metadata->images->get(
                    tx, operation->scope->namespace_, operation->name, arena, &image, error))
                return false;
        return strcmp(image.target.digest, operation->target) == 0 ||
               error_fail(error, ERROR_NOT_FOUND, "image \"%s\" has target %s, not %s: not found", operation->name,
                       image.target.digest, operation->target);
}

static bool delete (struct tx *tx, void *data, GError **error)
{
        struct operation *operation = data;
        struct metadata *metadata = operation->store->metadata;
        if (operation->target != NULL && !check_target(tx, operation, error))
                return false;
        metadata->ops->mark_removed(tx);
        return metadata->images->remove(tx, operation->scope->namespace_, operation->name, error) &&
               lease_release(metadata, tx, operation->scope, "images", operation->name, error);
}

bool image_delete(const struct image_store *store, const struct scope *scope, const char *name, const char *target,
        GError **error)
{
        struct operation operation = {.store = store, .scope = scope, .name = name, .target = target};
        if (!metadata_write(store->metadata, TX_DURABLE, delete, &operation, error))
                return false;
        if (store->events != NULL) {
                Images__ImageDelete message = IMAGES__IMAGE_DELETE__INIT;
                message.name = (char *)name;
                event_publish(store->events, scope->namespace_, "/images/delete", &message.base);
        }
        return true;
}
