// SPDX-License-Identifier: Apache-2.0
//
// Another name for an image that is there.
#include "plugins/transfer/descriptors.h"
#include "plugins/transfer/kinds.h"

void tag_begin(struct operation *operation)
{
        const char *name = operation->request->source.store->name;
        struct image image;
        GError *error = NULL;
        bool good = image_get(
                &operation->service->images, operation->scope.namespace_, name, operation->arena, &image, &error);
        if (good) {
                const struct node target = {
                        .media_type = image.target.media_type,
                        .digest = image.target.digest,
                        .size = image.target.size,
                        .annotations = image.target.annotations,
                };
                good = names_store(operation, operation->request->destination.store, &target, false, &error);
        }
        if (!good)
                operation_fail(operation, error);
}
