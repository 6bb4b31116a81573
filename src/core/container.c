// SPDX-License-Identifier: Apache-2.0
//
// containerd's rules for containers: what must be set, and what may change.
#include "core/container.h"

#include "base/fieldmask.h"
#include "base/filter.h"
#include "base/identifier.h"

#include <string.h>

const char *container_field(void *object, const char *const *path, size_t n, bool *ret_present)
{
        const struct container *container = object;
        const char *value = NULL;
        if (strcmp(path[0], "labels") == 0)
                return labels_field(&container->labels, path + 1, n - 1, ret_present);
        if (strcmp(path[0], "id") == 0)
                value = container->id;
        else if (strcmp(path[0], "image") == 0)
                value = container->image;
        else if (n >= 2 && strcmp(path[0], "runtime") == 0 && strcmp(path[1], "name") == 0)
                value = container->runtime_name;
        *ret_present = value != NULL && value[0] != '\0';
        return value;
}

bool container_validate(const struct container *container, GError **error)
{
        if (!identifier_validate(container->id, error)) {
                g_prefix_error(error, "container.ID: ");
                return false;
        }
        for (size_t i = 0; i < container->extensions.n; i++) {
                if (container->extensions.items[i].name[0] == '\0')
                        return error_fail(error, ERROR_INVALID_ARGUMENT,
                                "container.Extension keys must not be zero-length: invalid argument");
        }
        if (!labels_validate(&container->labels, "containers.Labels", error))
                return false;
        if (container->runtime_name[0] == '\0')
                return error_fail(
                        error, ERROR_INVALID_ARGUMENT, "container.Runtime.Name must be set: invalid argument");
        // containerd means to insist on a spec, and does not: clients make records without one.
        if (container->snapshot_key[0] != '\0' && container->snapshotter[0] == '\0')
                return error_fail(error, ERROR_INVALID_ARGUMENT,
                        "container.Snapshotter must be set if container.SnapshotKey is set: invalid argument");
        return true;
}

// For the paths that are extensions.NAME. What change does not have becomes an empty value. The order
// stays; new ones come at the end.
static void apply_extensions(struct extensions *extensions, const struct extensions *change, char *const *paths,
        size_t n_paths, struct arena *arena)
{
        g_autoptr(GHashTable) wanted = g_hash_table_new(g_str_hash, g_str_equal); // name → struct extension
        g_autoptr(GHashTable) places = g_hash_table_new(g_str_hash, g_str_equal); // the same in items
        struct extension *items = arena_array(arena, struct extension, extensions->n + n_paths);
        size_t n = extensions->n;
        for (size_t i = change->n; i-- > 0;) // of equal names the first counts
                g_hash_table_insert(wanted, (char *)change->items[i].name, &change->items[i]);
        for (size_t i = n; i-- > 0;) {
                items[i] = extensions->items[i];
                g_hash_table_insert(places, (char *)items[i].name, &items[i]);
        }
        for (size_t i = 0; i < n_paths; i++) {
                const char *name = fieldmask_key(paths[i], "extensions");
                if (name == NULL)
                        continue;
                struct extension *place = g_hash_table_lookup(places, name);
                if (place == NULL) {
                        place = &items[n++];
                        g_hash_table_insert(places, (char *)name, place);
                }
                const struct extension *extension = g_hash_table_lookup(wanted, name);
                *place = extension != NULL ? *extension : (struct extension){name, {.type_url = ""}};
        }
        *extensions = (struct extensions){items, n};
}

static bool apply_all(struct container *container, const struct container *change, GError **error)
{
        if (strcmp(container->snapshotter, change->snapshotter) != 0)
                return error_fail(
                        error, ERROR_INVALID_ARGUMENT, "container.Snapshotter field is immutable: invalid argument");
        if (strcmp(container->runtime_name, change->runtime_name) != 0)
                return error_fail(
                        error, ERROR_INVALID_ARGUMENT, "container.Runtime.Name field is immutable: invalid argument");
        container->labels = change->labels;
        container->spec = change->spec;
        container->extensions = change->extensions;
        container->image = change->image;
        container->snapshot_key = change->snapshot_key;
        return true;
}

bool container_apply(struct container *container, const struct container *change, char *const *paths, size_t n_paths,
        struct arena *arena, GError **error)
{
        if (n_paths == 0)
                return apply_all(container, change, error);
        bool named_extensions = false;
        for (size_t i = 0; i < n_paths; i++) {
                const char *path = paths[i];
                if (strcmp(path, "spec") == 0)
                        container->spec = change->spec;
                else if (strcmp(path, "extensions") == 0)
                        container->extensions = change->extensions;
                else if (strcmp(path, "image") == 0)
                        container->image = change->image;
                else if (strcmp(path, "snapshotkey") == 0)
                        container->snapshot_key = change->snapshot_key;
                else if (fieldmask_key(path, "extensions") != NULL)
                        named_extensions = true;
                else if (!fieldmask_is_of(path, "labels"))
                        return error_fail(error, ERROR_INVALID_ARGUMENT,
                                "cannot update \"%s\" field on \"%s\": invalid argument", path, container->id);
        }
        labels_apply(&container->labels, &change->labels, "labels", paths, n_paths, arena);
        if (named_extensions)
                apply_extensions(&container->extensions, &change->extensions, paths, n_paths, arena);
        return true;
}

struct lookup {
        struct metadata *metadata;
        const char *namespace_, *id;
        struct arena *arena;
        struct container *ret;
};

static bool get(struct tx *tx, void *data, GError **error)
{
        const struct lookup *lookup = data;
        return lookup->metadata->containers->get(tx, lookup->namespace_, lookup->id, lookup->arena, lookup->ret, error);
}

bool container_get(struct metadata *metadata, const char *namespace_, const char *id, struct arena *arena,
        struct container *ret, GError **error)
{
        struct lookup lookup = {metadata, namespace_, id, arena, ret};
        return metadata_read(metadata, get, &lookup, error);
}
