// SPDX-License-Identifier: Apache-2.0
//
// Sorted arrays: sets are small and are read far more often than changed. A change makes a new array in the arena and
// leaves the old one there, so copies of the struct stay what they were.
#include "core/labels.h"

#include "base/fieldmask.h"
#include "base/filter.h"
#include "base/identifier.h"

#include <stdlib.h>
#include <string.h>

// The index of key, or of the place where it belongs.
static size_t find(const struct labels *labels, const char *key, bool *ret_found)
{
        size_t low = 0, high = labels->n;
        *ret_found = false;
        while (low < high) {
                size_t middle = (low + high) / 2;
                int order = strcmp(labels->items[middle].key, key);
                if (order == 0) {
                        *ret_found = true;
                        return middle;
                }
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

const char *labels_get(const struct labels *labels, const char *key)
{
        bool found;
        size_t i = find(labels, key, &found);
        return found ? labels->items[i].value : NULL;
}

void labels_set(struct labels *labels, struct arena *arena, const char *key, const char *value)
{
        bool found;
        size_t at = find(labels, key, &found);
        bool keep = value != NULL && value[0] != '\0';
        if (!keep && !found)
                return;
        size_t n = labels->n - found + keep;
        struct label *items = arena_array(arena, struct label, n);
        for (size_t i = 0; i < at; i++)
                items[i] = labels->items[i];
        if (keep)
                items[at] = (struct label){arena_strdup(arena, key), arena_strdup(arena, value)};
        for (size_t i = at + found; i < labels->n; i++)
                items[i - found + keep] = labels->items[i];
        *labels = (struct labels){items, n};
}

// Two sorted arrays become one; those of change win, and empty ones of it go.
static struct labels merge(const struct labels *labels, const struct labels *change, struct arena *arena)
{
        struct labels result = {arena_array(arena, struct label, labels->n + change->n), 0};
        size_t i = 0, j = 0;
        while (i < labels->n || j < change->n) {
                int order = i == labels->n   ? 1
                            : j == change->n ? -1
                                             : strcmp(labels->items[i].key, change->items[j].key);
                const struct label *label = order < 0 ? &labels->items[i] : &change->items[j];
                if (order < 0 || label->value[0] != '\0')
                        result.items[result.n++] = *label;
                i += order <= 0;
                j += order >= 0;
        }
        return result;
}

void labels_apply(struct labels *labels, const struct labels *change, const char *map, char *const *paths,
        size_t n_paths, struct arena *arena)
{
        struct labels named = {arena_array(arena, struct label, n_paths), 0};
        for (size_t i = 0; i < n_paths; i++) {
                const char *key = fieldmask_key(paths[i], map);
                if (key == NULL) {
                        if (strcmp(paths[i], map) != 0)
                                continue;
                        *labels = *change;
                        return;
                }
                const char *value = labels_get(change, key);
                named.items[named.n++] = (struct label){key, value != NULL ? value : ""};
        }
        if (named.n == 0)
                return;
        labels_normalize(&named);
        *labels = merge(labels, &named, arena);
}

static struct labels copy(const struct labels *labels, struct arena *arena, bool filled_only)
{
        struct labels result = {arena_array(arena, struct label, labels->n), 0};
        for (size_t i = 0; i < labels->n; i++) {
                const struct label *label = &labels->items[i];
                if (filled_only && label->value[0] == '\0')
                        continue;
                result.items[result.n++] =
                        (struct label){arena_strdup(arena, label->key), arena_strdup(arena, label->value)};
        }
        return result;
}

struct labels labels_copy(const struct labels *labels, struct arena *arena)
{
        return copy(labels, arena, false);
}

struct labels labels_copy_filled(const struct labels *labels, struct arena *arena)
{
        return copy(labels, arena, true);
}

bool labels_validate(const struct labels *labels, const char *what, GError **error)
{
        for (size_t i = 0; i < labels->n; i++) {
                if (!label_validate(labels->items[i].key, labels->items[i].value, error)) {
                        g_prefix_error(error, "%s: ", what);
                        return false;
                }
        }
        return true;
}

const char *labels_field(const struct labels *labels, const char *const *path, size_t n, bool *ret_present)
{
        for (size_t i = 0; i < labels->n; i++) {
                if (filter_path_is(path, n, labels->items[i].key)) {
                        *ret_present = true;
                        return labels->items[i].value;
                }
        }
        return NULL;
}

static int compare(const void *a, const void *b, void *data)
{
        return strcmp(((const struct label *)a)->key, ((const struct label *)b)->key);
}

void labels_normalize(struct labels *labels)
{
        g_qsort_with_data(labels->items, (int)labels->n, sizeof *labels->items, compare, NULL); // stable
        size_t n = 0;
        for (size_t i = 0; i < labels->n; i++) {
                if (n > 0 && strcmp(labels->items[n - 1].key, labels->items[i].key) == 0)
                        n--;
                labels->items[n++] = labels->items[i];
        }
        labels->n = n;
}
