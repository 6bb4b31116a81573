// SPDX-License-Identifier: Apache-2.0
//
// Image records: a list is an arena that holds the daemon's answer and a table of public structs that point into it.
#include "client/internal.h"

#include "base/reference.h"

#include <skiff/image.h>

#include "containerd/images.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

#include <stdlib.h>
#include <string.h>

#define SERVICE "containerd.services.images.v1.Images"

struct skiff_images {
        struct arena *arena;
        struct skiff_image *images;
        size_t n;
};

char *skiff_image_name(const char *text, struct skiff_error **error)
{
        g_autofree char *name = reference_normalize(text, inner(error));
        return name == NULL ? NULL : client_strdup_c(name);
}

char *skiff_image_short_name(const char *name)
{
        g_autofree char *familiar = reference_familiar(name, NULL);
        return client_strdup_c(familiar != NULL ? familiar : name);
}

static void fill(struct skiff_image *image, const Images__Image *record, struct arena *arena)
{
        *image = (struct skiff_image){
                .name = record->name,
                .digest = record->target != NULL ? record->target->digest : "",
                .media_type = record->target != NULL ? record->target->media_type : "",
                .size_bytes = record->target != NULL ? record->target->size : 0,
                .created_at_ns = client_time_ns(record->created_at),
                .updated_at_ns = client_time_ns(record->updated_at),
                .labels = client_pairs_from_map((void *const *)record->labels, record->n_labels, arena),
                .n_labels = record->n_labels,
        };
}

static int compare(const void *a, const void *b)
{
        return strcmp(((const struct skiff_image *)a)->name, ((const struct skiff_image *)b)->name);
}

static struct skiff_images *list_new(struct arena *arena, Images__Image *const *records, size_t n)
{
        struct skiff_images *list = g_new0(struct skiff_images, 1);
        list->arena = arena;
        list->n = n;
        list->images = arena_array(arena, struct skiff_image, n + 1);
        for (size_t i = 0; i < n; i++)
                fill(&list->images[i], records[i], arena);
        qsort(list->images, n, sizeof(*list->images), compare);
        return list;
}

struct skiff_images *skiff_images_list(struct skiff_client *client, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        const Images__ListImagesResponse *response =
                client_call(client, CLIENT_METHOD(SERVICE, "List", images__list_images_response),
                        &(Images__ListImagesRequest)IMAGES__LIST_IMAGES_REQUEST__INIT, arena, inner(error));
        if (response == NULL)
                return NULL;
        return list_new(g_steal_pointer(&arena), response->images, response->n_images);
}

static Images__Image *read_image(struct skiff_client *client, const char *name, struct arena *arena, GError **error)
{
        Images__GetImageRequest request = IMAGES__GET_IMAGE_REQUEST__INIT;
        request.name = (char *)name;
        const Images__GetImageResponse *response =
                client_call(client, CLIENT_METHOD(SERVICE, "Get", images__get_image_response), &request, arena, error);
        if (response != NULL && response->image == NULL)
                error_fail(error, ERROR_INTERNAL, "image \"%s\": empty answer", name);
        return response != NULL ? response->image : NULL;
}

struct skiff_images *skiff_image_get(struct skiff_client *client, const char *name, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        Images__Image *image = read_image(client, name, arena, inner(error));
        return image != NULL ? list_new(g_steal_pointer(&arena), &image, 1) : NULL;
}

size_t skiff_images_count(const struct skiff_images *list)
{
        return list->n;
}

const struct skiff_image *skiff_images_at(const struct skiff_images *list, size_t index)
{
        return &list->images[index];
}

void skiff_images_free(struct skiff_images *list)
{
        if (list == NULL)
                return;
        arena_free(list->arena);
        g_free(list);
}

bool skiff_image_size(
        struct skiff_client *client, const struct skiff_image *image, int64_t *ret_bytes, struct skiff_error **error)
{
        int64_t size = image_size_read(client, image->digest, image->media_type, inner(error));
        if (size < 0)
                return false;
        *ret_bytes = size;
        return true;
}

bool skiff_image_remove(struct skiff_client *client, const char *name, bool sync, struct skiff_error **error)
{
        Images__DeleteImageRequest request = IMAGES__DELETE_IMAGE_REQUEST__INIT;
        request.name = (char *)name;
        request.sync = sync;
        return client_call(client, CLIENT_METHOD(SERVICE, "Delete", google__protobuf__empty), &request, NULL,
                       inner(error)) != NULL;
}

static bool create(struct skiff_client *client, Images__Image *record, GError **error)
{
        Images__CreateImageRequest request = IMAGES__CREATE_IMAGE_REQUEST__INIT;
        request.image = record;
        return client_call(client, CLIENT_METHOD(SERVICE, "Create", images__create_image_response), &request, NULL,
                       error) != NULL;
}

static bool replace(struct skiff_client *client, Images__Image *record, GError **error)
{
        Images__UpdateImageRequest request = IMAGES__UPDATE_IMAGE_REQUEST__INIT;
        request.image = record;
        return client_call(client, CLIENT_METHOD(SERVICE, "Update", images__update_image_response), &request, NULL,
                       error) != NULL;
}

bool skiff_image_tag(
        struct skiff_client *client, const char *name, const char *new_name, bool force, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        const Images__Image *image = read_image(client, name, arena, inner(error));
        if (image == NULL)
                return false;
        Images__Image record = *image;
        record.name = (char *)new_name;
        record.created_at = record.updated_at = NULL;
        GError *failure = NULL;
        if (create(client, &record, &failure))
                return true;
        if (!force || !error_is(failure, ERROR_ALREADY_EXISTS)) {
                g_propagate_error(inner(error), failure);
                return false;
        }
        g_clear_error(&failure);
        return replace(client, &record, inner(error));
}
