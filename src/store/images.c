// SPDX-License-Identifier: Apache-2.0
//
// Rows of images.
#include "store/internal.h"

#include "core/image.h"

#define COLUMNS "name, labels, media_type, digest, size, annotations, created, updated"

static void read_image(const struct query *query, struct arena *arena, void *ret)
{
        *(struct image *)ret = (struct image){
                .name = column_text(query, 0, arena),
                .labels = column_labels(query, 1, arena),
                .target =
                        {
                                .media_type = column_text(query, 2, arena),
                                .digest = column_text(query, 3, arena),
                                .size = column_int(query, 4),
                                .annotations = column_labels(query, 5, arena),
                        },
                .created_ns = column_int(query, 6),
                .updated_ns = column_int(query, 7),
        };
}

static bool not_found(const char *name, GError **error)
{
        return error_fail(error, ERROR_NOT_FOUND, "image \"%s\": not found", name);
}

static bool get(
        struct tx *tx, const char *namespace_, const char *name, struct arena *arena, struct image *ret, GError **error)
{
        struct query query;
        bool found;
        return query_start(&query, tx, error, "SELECT " COLUMNS " FROM images WHERE namespace = ? AND name = ?", "tt",
                       namespace_, name) &&
               query_one(&query, arena, read_image, ret, &found, error) && (found || not_found(name, error));
}

struct walk {
        image_fn fn;
        void *data;
};

static bool read_row(void *data, const struct query *query, struct arena *arena)
{
        const struct walk *walk = data;
        struct image image;
        read_image(query, arena, &image);
        return walk->fn(walk->data, &image);
}

static bool walk(struct tx *tx, const char *namespace_, struct arena *arena, image_fn fn, void *data, GError **error)
{
        struct query query;
        struct walk state = {fn, data};
        return query_start(&query, tx, error, "SELECT " COLUMNS " FROM images WHERE namespace = ? ORDER BY name", "t",
                       namespace_) &&
               query_walk(&query, arena, read_row, &state, error);
}

static bool insert(struct tx *tx, const char *namespace_, const struct image *image, GError **error)
{
        g_autoptr(GByteArray) labels = pack_labels(&image->labels);
        g_autoptr(GByteArray) annotations = pack_labels(&image->target.annotations);
        int changes;
        if (!tx_touch(tx, RESOURCE_IMAGE, namespace_, image->name, error) ||
                !tx_execute(tx, error, &changes,
                        "INSERT INTO images (namespace, " COLUMNS
                        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        "ttpttipii", namespace_, image->name, labels, image->target.media_type, image->target.digest,
                        image->target.size, annotations, image->created_ns, image->updated_ns))
                return false;
        return changes > 0 || error_fail(error, ERROR_ALREADY_EXISTS, "image \"%s\": already exists", image->name);
}

static bool update(struct tx *tx, const char *namespace_, const struct image *image, GError **error)
{
        g_autoptr(GByteArray) labels = pack_labels(&image->labels);
        g_autoptr(GByteArray) annotations = pack_labels(&image->target.annotations);
        int changes;
        if (!tx_touch(tx, RESOURCE_IMAGE, namespace_, image->name, error) ||
                !tx_execute(tx, error, &changes,
                        "UPDATE images SET labels = ?, media_type = ?, digest = ?, size = ?, annotations = ?, "
                        "created = ?, updated = ? WHERE namespace = ? AND name = ?",
                        "pttipiitt", labels, image->target.media_type, image->target.digest, image->target.size,
                        annotations, image->created_ns, image->updated_ns, namespace_, image->name))
                return false;
        return changes > 0 || not_found(image->name, error);
}

static bool remove_image(struct tx *tx, const char *namespace_, const char *name, GError **error)
{
        int changes;
        if (!tx_execute(
                    tx, error, &changes, "DELETE FROM images WHERE namespace = ? AND name = ?", "tt", namespace_, name))
                return false;
        return changes > 0 || not_found(name, error);
}

const struct image_ops store_images = {
        .get = get,
        .walk = walk,
        .insert = insert,
        .update = update,
        .remove = remove_image,
};
