// SPDX-License-Identifier: Apache-2.0
//
// Under which names an image is stored. The client gives one name and further references; a reference that is a prefix
// takes a tag from the annotations of what was imported, or a digest. Names that come from further references go when
// the first name goes (containerd.io/gc.bref.image), and may be collected at once otherwise.
#include "base/clock.h"
#include "plugins/transfer/descriptors.h"
#include "plugins/transfer/kinds.h"
#include "plugins/transfer/progress.h"

#include <string.h>

#define ANNOTATION_IMAGE_NAME "io.containerd.image.name"
#define ANNOTATION_REF_NAME "org.opencontainers.image.ref.name"

// Whether name is prefix itself or lies below it.
static bool has_prefix(const char *name, const char *prefix)
{
        size_t n = strlen(prefix);
        return strncmp(name, prefix, n) == 0 && (name[n] == '\0' || strchr("/:@", name[n]) != NULL);
}

// A name as an annotation gives it, for a reference with a prefix; NULL: not for this one.
static const char *translate(const TransferTypes__ImageReference *reference, const char *name, struct arena *arena)
{
        if (reference->name[0] == '\0')
                return NULL;
        if (strpbrk(name, "/:@") == NULL)
                return arena_printf(arena, "%s:%s", reference->name, name);
        return reference->allow_overwrite || has_prefix(name, reference->name) ? name : NULL;
}

static const char *annotated_name(
        const TransferTypes__ImageReference *reference, const struct node *target, struct arena *arena)
{
        const char *full = labels_get(&target->annotations, ANNOTATION_IMAGE_NAME);
        if (full != NULL && full[0] != '\0') {
                const char *name = translate(reference, full, arena);
                return name != NULL && strcmp(name, full) == 0 ? name : NULL;
        }
        const char *tag = labels_get(&target->annotations, ANNOTATION_REF_NAME);
        return tag != NULL && tag[0] != '\0' ? translate(reference, tag, arena) : NULL;
}

struct names {
        struct operation *operation;
        const TransferTypes__ImageStore *store;
        const struct node *target;
        struct labels labels, extra_labels;
};

static bool store_name(struct names *names, const char *name, bool extra, GError **error)
{
        struct operation *operation = names->operation;
        struct image image = {
                .name = name,
                .labels = extra ? names->extra_labels : names->labels,
                .target = {names->target->media_type, names->target->digest, names->target->size,
                        names->target->annotations},
        };
        if (!image_put(&operation->service->images, &operation->scope, operation->arena, &image, error))
                return false;
        progress_event(operation->progress, "saved", name, names->target);
        return true;
}

static bool store_imported(struct names *names, size_t *ret_n, GError **error)
{
        struct arena *arena = names->operation->arena;
        for (size_t i = 0; i < names->store->n_extra_references; i++) {
                const TransferTypes__ImageReference *reference = names->store->extra_references[i];
                if (!reference->is_prefix)
                        continue;
                const char *name = annotated_name(reference, names->target, arena);
                if (name != NULL && ++*ret_n && !store_name(names, name, true, error))
                        return false;
                if (!reference->add_digest || (name != NULL && reference->skip_named_digest))
                        continue;
                ++*ret_n;
                if (!store_name(
                            names, arena_printf(arena, "%s@%s", reference->name, names->target->digest), true, error))
                        return false;
        }
        return true;
}

static bool store_plain(struct names *names, size_t *ret_n, GError **error)
{
        struct arena *arena = names->operation->arena;
        if (names->store->name[0] != '\0' && ++*ret_n && !store_name(names, names->store->name, false, error))
                return false;
        for (size_t i = 0; i < names->store->n_extra_references; i++) {
                const TransferTypes__ImageReference *reference = names->store->extra_references[i];
                if (reference->is_prefix && !reference->add_digest)
                        continue;
                const char *name = reference->add_digest
                                           ? arena_printf(arena, "%s@%s", reference->name, names->target->digest)
                                           : reference->name;
                ++*ret_n;
                if (!store_name(names, name, true, error))
                        return false;
        }
        return true;
}

bool names_store(struct operation *operation, const TransferTypes__ImageStore *store, const struct node *target,
        bool imported, GError **error)
{
        struct arena *arena = operation->arena;
        struct names names = {.operation = operation, .store = store, .target = target};
        for (size_t i = 0; i < store->n_labels; i++) {
                labels_set(&names.labels, arena, store->labels[i]->key, store->labels[i]->value);
                labels_set(&names.extra_labels, arena, store->labels[i]->key, store->labels[i]->value);
        }
        if (store->name[0] != '\0') {
                g_autofree char *now = clock_format_rfc3339(clock_now_ns() / NS_PER_SECOND * NS_PER_SECOND);
                labels_set(&names.extra_labels, arena, "containerd.io/gc.bref.image", store->name);
                labels_set(&names.extra_labels, arena, "containerd.io/gc.expire", now);
        }
        size_t n = 0;
        if (!(imported ? store_imported : store_plain)(&names, &n, error))
                return false;
        return n > 0 || error_fail(error, ERROR_NOT_FOUND, "no image name found: not found");
}
