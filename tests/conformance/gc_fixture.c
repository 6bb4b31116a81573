// SPDX-License-Identifier: Apache-2.0
#include "gc_fixture.h"

#include "base/digest.h"
#include "plugins/content_local/local.h"
#include "store/store.h"
#include "sys/tree.h"

#include <stdarg.h>
#include <string.h>

const struct scope gc_scope = {NS, NULL};

void gc_set_up(struct gc_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        fixture->directory = g_dir_make_tmp("gc-test-XXXXXX", NULL);
        g_autofree char *path = g_build_filename(fixture->directory, "metadata.sqlite", NULL);
        g_autofree char *root = g_build_filename(fixture->directory, "content", NULL);
        fixture->arena = arena_new();
        fixture->metadata = store_open(path, &error);
        g_assert_no_error(error);
        fixture->content = content_local_new(root, fixture->metadata, NULL, true, &error);
        g_assert_no_error(error);
        fixture->collector = (struct collector){.metadata = fixture->metadata, .content = fixture->content};
}

void gc_tear_down(struct gc_fixture *fixture, const void *data)
{
        content_local_free(fixture->content);
        store_close(fixture->metadata);
        arena_free(fixture->arena);
        g_assert_true(tree_remove(fixture->directory, NULL));
        g_free(fixture->directory);
}

void gc_collect(struct gc_fixture *fixture)
{
        g_autoptr(GError) error = NULL;
        collector_run(&fixture->collector, &error);
        g_assert_no_error(error);
}

// key, value, …, NULL
static struct labels make_labels(struct gc_fixture *fixture, va_list *args)
{
        struct labels labels = {0};
        for (const char *key = va_arg(*args, const char *); key != NULL; key = va_arg(*args, const char *))
                labels_set(&labels, fixture->arena, key, va_arg(*args, const char *));
        return labels;
}

// The digest of a new blob that consists of text.
const char *gc_add_blob(struct gc_fixture *fixture, const struct scope *whose, const char *text, ...)
{
        g_autoptr(GError) error = NULL;
        va_list args;
        va_start(args, text);
        const struct content_commit commit = {.labels = make_labels(fixture, &args)};
        va_end(args);
        content_write(fixture->content, whose, text, text, strlen(text), &commit, &error);
        g_assert_no_error(error);
        g_autofree char *digest = digest_of_bytes(DIGEST_SHA256, text, strlen(text));
        return arena_strdup(fixture->arena, digest);
}

bool gc_has_blob(struct gc_fixture *fixture, const char *digest)
{
        struct blob blob;
        bool has = fixture->content->ops->info(fixture->content, &gc_scope, digest, fixture->arena, &blob, NULL);
        int64_t size;
        g_assert_true(has == content_local_blob_size((struct content_local *)fixture->content, digest, &size, NULL));
        return has;
}

void gc_add_image(struct gc_fixture *fixture, const char *name, const char *target, ...)
{
        g_autoptr(GError) error = NULL;
        va_list args;
        va_start(args, target);
        struct image image = {
                .name = name,
                .labels = make_labels(fixture, &args),
                .target = {.media_type = "x", .digest = target, .size = 1},
        };
        va_end(args);
        const struct image_store store = {.metadata = fixture->metadata};
        image_create(&store, &gc_scope, fixture->arena, &image, &error);
        g_assert_no_error(error);
}

bool gc_has_image(struct gc_fixture *fixture, const char *name)
{
        struct image image;
        const struct image_store store = {.metadata = fixture->metadata};
        return image_get(&store, NS, name, fixture->arena, &image, NULL);
}

// ---- records that have no calls of their own: written and looked for in one transaction each

void gc_write_step(struct gc_fixture *fixture, tx_fn fn, struct gc_step *step)
{
        g_autoptr(GError) error = NULL;
        step->fixture = fixture;
        metadata_write(fixture->metadata, TX_RELAXED, fn, step, &error);
        g_assert_no_error(error);
}

bool gc_insert_snapshot(struct tx *tx, void *data, GError **error)
{
        struct gc_step *step = data;
        return step->fixture->metadata->snapshots->insert(tx, NS, &step->snapshot, error);
}

void gc_add_snapshot(struct gc_fixture *fixture, const char *key, const char *parent, ...)
{
        va_list args;
        va_start(args, parent);
        struct gc_step step = {.snapshot = {.snapshotter = "overlayfs",
                                       .key = key,
                                       .backend = key,
                                       .parent = parent,
                                       .kind = SNAPSHOT_COMMITTED,
                                       .labels = make_labels(fixture, &args),
                                       .directory = "",
                                       .blob = "",
                                       .diff_id = "",
                                       .boot_id = "",
                                       .synced = true}};
        va_end(args);
        gc_write_step(fixture, gc_insert_snapshot, &step);
}

static bool get_snapshot(struct tx *tx, void *data, GError **error)
{
        struct gc_step *step = data;
        return step->fixture->metadata->snapshots->get(
                tx, NS, "overlayfs", step->key, step->fixture->arena, &step->snapshot, error);
}

bool gc_has_snapshot(struct gc_fixture *fixture, const char *key)
{
        struct gc_step step = {.fixture = fixture, .key = key};
        return metadata_read(fixture->metadata, get_snapshot, &step, NULL);
}

static bool insert_lease(struct tx *tx, void *data, GError **error)
{
        struct gc_step *step = data;
        return step->fixture->metadata->leases->insert(tx, NS, &step->lease, error);
}

void gc_add_lease(struct gc_fixture *fixture, const char *id, ...)
{
        va_list args;
        va_start(args, id);
        struct gc_step step = {.lease = {.id = id, .labels = make_labels(fixture, &args), .created_ns = 1}};
        va_end(args);
        gc_write_step(fixture, insert_lease, &step);
}

static bool insert_resource(struct tx *tx, void *data, GError **error)
{
        struct gc_step *step = data;
        return step->fixture->metadata->leases->add(tx, NS, step->key, &step->resource, error);
}

void gc_lease_resource(struct gc_fixture *fixture, const char *lease, const char *type, const char *id)
{
        struct gc_step step = {.key = lease, .resource = {type, id}};
        gc_write_step(fixture, insert_resource, &step);
}

bool gc_remove_lease(struct tx *tx, void *data, GError **error)
{
        struct gc_step *step = data;
        return step->fixture->metadata->leases->remove(tx, NS, step->key, error);
}

static bool get_lease(struct tx *tx, void *data, GError **error)
{
        struct gc_step *step = data;
        return step->fixture->metadata->leases->get(tx, NS, step->key, step->fixture->arena, &step->lease, error);
}

bool gc_has_lease(struct gc_fixture *fixture, const char *id)
{
        struct gc_step step = {.fixture = fixture, .key = id};
        return metadata_read(fixture->metadata, get_lease, &step, NULL);
}
