// SPDX-License-Identifier: Apache-2.0
#include "gc_fixture.h"

#include "base/clock.h"
#include "base/digest.h"
#include "plugins/content_local/local.h"

#include <stdatomic.h>
#include <string.h>
#include <uv.h>

static bool insert_container(struct tx *tx, void *data, GError **error)
{
        struct gc_step *step = data;
        return step->fixture->metadata->containers->insert(tx, NS, &step->container, error);
}

static bool insert_sandbox(struct tx *tx, void *data, GError **error)
{
        struct gc_step *step = data;
        return step->fixture->metadata->sandboxes->insert(tx, NS, &step->sandbox, error);
}

// ---- what is kept and what goes

static void images_keep_what_they_refer_to(struct gc_fixture *fixture, const void *data)
{
        const char *layer = gc_add_blob(fixture, &gc_scope, "layer", NULL);
        const char *config =
                gc_add_blob(fixture, &gc_scope, "config", "containerd.io/gc.ref.snapshot.overlayfs", "top", NULL);
        const char *manifest = gc_add_blob(fixture, &gc_scope, "manifest", "containerd.io/gc.ref.content.config",
                config, "containerd.io/gc.ref.content.l.0", layer, NULL);
        const char *stray = gc_add_blob(fixture, &gc_scope, "stray", NULL);
        const char *similar = gc_add_blob(fixture, &gc_scope, "similar", NULL);
        gc_add_snapshot(fixture, "base", "", NULL);
        gc_add_snapshot(fixture, "top", "base", NULL);
        gc_add_snapshot(fixture, "alone", "", NULL);
        gc_add_image(fixture, "image", manifest, "containerd.io/gc.ref.contentious", similar, NULL);
        gc_collect(fixture);
        g_assert_true(gc_has_blob(fixture, layer));
        g_assert_true(gc_has_blob(fixture, config));
        g_assert_true(gc_has_blob(fixture, manifest));
        g_assert_true(gc_has_snapshot(fixture, "top"));
        g_assert_true(gc_has_snapshot(fixture, "base"));
        g_assert_true(gc_has_image(fixture, "image"));
        g_assert_false(gc_has_blob(fixture, stray));
        g_assert_false(gc_has_blob(fixture, similar));
        g_assert_false(gc_has_snapshot(fixture, "alone"));

        const struct image_store store = {.metadata = fixture->metadata};
        g_assert_true(image_delete(&store, &gc_scope, "image", NULL, NULL));
        gc_collect(fixture);
        g_assert_false(gc_has_blob(fixture, layer));
        g_assert_false(gc_has_blob(fixture, manifest));
        g_assert_false(gc_has_snapshot(fixture, "base"));
}

static void root_labels_keep(struct gc_fixture *fixture, const void *data)
{
        const char *kept =
                gc_add_blob(fixture, &gc_scope, "kept", "containerd.io/gc.root", "2020-01-01T00:00:00Z", NULL);
        gc_add_snapshot(fixture, "parent", "", NULL);
        gc_add_snapshot(fixture, "kept", "parent", "containerd.io/gc.root", "x", NULL);
        gc_collect(fixture);
        g_assert_true(gc_has_blob(fixture, kept));
        g_assert_true(gc_has_snapshot(fixture, "kept"));
        g_assert_true(gc_has_snapshot(fixture, "parent"));
}

static void expired_ones_go(struct gc_fixture *fixture, const void *data)
{
        const char *one = gc_add_blob(fixture, &gc_scope, "one", NULL),
                   *two = gc_add_blob(fixture, &gc_scope, "two", NULL);
        const char *three = gc_add_blob(fixture, &gc_scope, "three", NULL),
                   *four = gc_add_blob(fixture, &gc_scope, "four", NULL);
        gc_add_image(fixture, "old", one, "containerd.io/gc.expire", "2020-01-01T00:00:00Z", NULL);
        gc_add_image(fixture, "new", two, "containerd.io/gc.expire", "2199-01-01T00:00:00Z", NULL);
        gc_add_image(fixture, "odd", three, "containerd.io/gc.expire", "tomorrow", NULL);
        gc_add_lease(fixture, "old", "containerd.io/gc.expire", "2020-01-01T00:00:00+02:00", NULL);
        gc_lease_resource(fixture, "old", "content", four);
        gc_add_lease(fixture, "new", NULL);
        gc_collect(fixture);
        g_assert_false(gc_has_image(fixture, "old"));
        g_assert_false(gc_has_blob(fixture, one));
        g_assert_true(gc_has_image(fixture, "new"));
        g_assert_true(gc_has_blob(fixture, two));
        g_assert_true(gc_has_blob(fixture, three));
        g_assert_false(gc_has_lease(fixture, "old"));
        g_assert_false(gc_has_blob(fixture, four));
        g_assert_true(gc_has_lease(fixture, "new"));
}

static void leases_keep_trees_and_flat_ones_do_not(struct gc_fixture *fixture, const void *data)
{
        const char *below = gc_add_blob(fixture, &gc_scope, "below", NULL);
        const char *top = gc_add_blob(fixture, &gc_scope, "top", "containerd.io/gc.ref.content.0", below, NULL);
        const char *flat_below = gc_add_blob(fixture, &gc_scope, "flat below", NULL);
        const char *flat_top =
                gc_add_blob(fixture, &gc_scope, "flat top", "containerd.io/gc.ref.content.0", flat_below, NULL);
        const char *config = gc_add_blob(fixture, &gc_scope, "config", NULL);
        gc_add_snapshot(fixture, "parent", "", NULL);
        gc_add_snapshot(fixture, "child", "parent", "containerd.io/gc.ref.content.x", config, NULL);
        gc_add_lease(fixture, "whole", NULL);
        gc_lease_resource(fixture, "whole", "content", top);
        gc_add_lease(fixture, "flat", "containerd.io/gc.flat", "yes", NULL);
        gc_lease_resource(fixture, "flat", "content", flat_top);
        gc_lease_resource(fixture, "flat", "snapshots/overlayfs", "child");
        gc_collect(fixture);
        g_assert_true(gc_has_blob(fixture, top));
        g_assert_true(gc_has_blob(fixture, below));
        g_assert_true(gc_has_blob(fixture, flat_top));
        g_assert_false(gc_has_blob(fixture, flat_below));
        g_assert_true(gc_has_snapshot(fixture, "child"));
        g_assert_true(gc_has_snapshot(fixture, "parent"));
        g_assert_false(gc_has_blob(fixture, config));
}

static void back_references_keep(struct gc_fixture *fixture, const void *data)
{
        const char *target = gc_add_blob(fixture, &gc_scope, "target", NULL);
        const char *attached =
                gc_add_blob(fixture, &gc_scope, "attached", "containerd.io/gc.bref.content.x", target, NULL);
        const char *orphan =
                gc_add_blob(fixture, &gc_scope, "orphan", "containerd.io/gc.bref.image", "no such image", NULL);
        const char *by_image =
                gc_add_blob(fixture, &gc_scope, "by image", "containerd.io/gc.bref.image", "image", NULL);
        gc_add_snapshot(fixture, "attached", "", "containerd.io/gc.bref.container", "c", NULL);
        gc_add_image(fixture, "image", target, NULL);
        struct gc_step step = {.container = {.id = "c",
                                       .image = "",
                                       .runtime_name = "r",
                                       .snapshotter = "",
                                       .snapshot_key = "",
                                       .sandbox = ""}};
        gc_write_step(fixture, insert_container, &step);
        gc_collect(fixture);
        g_assert_true(gc_has_blob(fixture, attached));
        g_assert_true(gc_has_blob(fixture, by_image));
        g_assert_false(gc_has_blob(fixture, orphan));
        g_assert_true(gc_has_snapshot(fixture, "attached"));
}

static void containers_and_sandboxes_keep(struct gc_fixture *fixture, const void *data)
{
        const char *config = gc_add_blob(fixture, &gc_scope, "config", NULL);
        const char *pause = gc_add_blob(fixture, &gc_scope, "pause", NULL);
        gc_add_snapshot(fixture, "parent", "", NULL);
        gc_add_snapshot(fixture, "rw", "parent", NULL);
        struct label items[] = {{"containerd.io/gc.ref.content.config", config}};
        struct gc_step step = {.container = {.id = "c",
                                       .image = "",
                                       .labels = {items, 1},
                                       .runtime_name = "r",
                                       .snapshotter = "overlayfs",
                                       .snapshot_key = "rw",
                                       .sandbox = ""}};
        gc_write_step(fixture, insert_container, &step);
        struct label pause_items[] = {{"containerd.io/gc.ref.content", pause}};
        struct gc_step sandbox = {
                .sandbox = {.id = "s", .labels = {pause_items, 1}, .sandboxer = "", .runtime_name = "r"}};
        gc_write_step(fixture, insert_sandbox, &sandbox);
        gc_collect(fixture);
        g_assert_true(gc_has_blob(fixture, config));
        g_assert_true(gc_has_blob(fixture, pause));
        g_assert_true(gc_has_snapshot(fixture, "rw"));
        g_assert_true(gc_has_snapshot(fixture, "parent"));
}

static void conditions_are_judged_by_use(struct gc_fixture *fixture, const void *data)
{
        const char *target = gc_add_blob(fixture, &gc_scope, "target", NULL);
        g_autofree char *an_hour_ago = clock_format_rfc3339(clock_now_ns() - 3600 * NS_PER_SECOND);
        gc_add_snapshot(fixture, "fresh", "", "containerd.io/gc.cond.value-usedat", an_hour_ago, NULL);
        gc_add_snapshot(fixture, "stale", "", "containerd.io/gc.cond.value-usedat", "2020-01-01T00:00:00Z", NULL);
        gc_add_snapshot(fixture, "never", "", NULL);
        gc_add_image(fixture, "image", target, "containerd.io/gc.cond.snapshot.overlayfs/a", "usedat<24h|fresh",
                "containerd.io/gc.cond.snapshot.overlayfs/b", "usedat<24h|stale",
                "containerd.io/gc.cond.snapshot.overlayfs/c", "usedat<24h|never", NULL);
        gc_collect(fixture);
        g_assert_true(gc_has_snapshot(fixture, "fresh"));
        g_assert_false(gc_has_snapshot(fixture, "stale"));
        g_assert_false(gc_has_snapshot(fixture, "never"));
}

static bool put_activation(struct tx *tx, void *data, GError **error)
{
        struct gc_step *step = data;
        return step->fixture->metadata->activations->put(tx, NS, &step->activation, error);
}

static bool get_activation(struct tx *tx, void *data, GError **error)
{
        struct gc_step *step = data;
        return step->fixture->metadata->activations->get(
                tx, NS, step->key, step->fixture->arena, &step->activation, error);
}

static void mounts_go_with_their_lease(struct gc_fixture *fixture, const void *data)
{
        const struct {
                const char *name, *lease;
                bool complete, kept;
        } mounts[] = {
                {"leased", "l", true, true},
                {"orphan", "gone", true, false},
                {"free", "", true, false},
                {"under way", "", false, true},
                {"named", "", true, true},
        };
        gc_add_lease(fixture, "l", NULL);
        gc_add_blob(fixture, &gc_scope, "x", "containerd.io/gc.ref.mount", "named", "containerd.io/gc.root", "x", NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(mounts); i++) {
                struct gc_step step = {.activation = {
                                               .name = mounts[i].name,
                                               .lease = mounts[i].lease,
                                               .number = (int64_t)i + 1,
                                               .complete = mounts[i].complete,
                                       }};
                gc_write_step(fixture, put_activation, &step);
        }
        gc_collect(fixture);
        for (size_t i = 0; i < G_N_ELEMENTS(mounts); i++) {
                struct gc_step step = {.fixture = fixture, .key = mounts[i].name};
                g_test_message("%s", mounts[i].name);
                g_assert_true(metadata_read(fixture->metadata, get_activation, &step, NULL) == mounts[i].kept);
        }
}

static void unsynced_snapshots_keep_their_blob(struct gc_fixture *fixture, const void *data)
{
        const char *layer = gc_add_blob(fixture, &gc_scope, "layer", NULL);
        struct label items[] = {{"containerd.io/gc.root", "x"}};
        struct gc_step step = {.snapshot = {.snapshotter = "overlayfs",
                                       .key = "k",
                                       .backend = "k",
                                       .parent = "",
                                       .kind = SNAPSHOT_COMMITTED,
                                       .labels = {items, 1},
                                       .directory = "",
                                       .blob = layer,
                                       .diff_id = "",
                                       .boot_id = ""}};
        gc_write_step(fixture, gc_insert_snapshot, &step);
        gc_collect(fixture);
        g_assert_true(gc_has_blob(fixture, layer));
}

static bool expire_ingest(struct tx *tx, void *data, GError **error)
{
        struct gc_step *step = data;
        struct ingest ingest;
        const struct ingest_ops *ingests = step->fixture->metadata->ingests;
        if (!ingests->get(tx, NS, step->key, step->fixture->arena, &ingest, error))
                return false;
        ingest.expires_ns = 1;
        return ingests->put(tx, NS, &ingest, error);
}

static void ingests_go_when_their_time_is_over(struct gc_fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        static const char *const refs[] = {"old", "new"};
        struct content_status status;
        const struct content_ops *ops = fixture->content->ops;
        gc_collect(fixture); // the first run looks at everything on disk; the rule must hold in later ones too
        for (size_t i = 0; i < G_N_ELEMENTS(refs); i++) {
                const struct content_expect expect = {.ref = refs[i]};
                AUTO(content_writer) writer = ops->writer(fixture->content, &gc_scope, &expect, &error);
                g_assert_true(writer->ops->write(writer, "x", 1, &error));
        }
        struct gc_step step = {.key = "old"};
        gc_write_step(fixture, expire_ingest, &step);
        gc_collect(fixture);
        g_assert_true(ops->status(fixture->content, &gc_scope, "new", fixture->arena, &status, &error));
        g_assert_false(ops->status(fixture->content, &gc_scope, "old", fixture->arena, &status, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_NOT_FOUND);
        struct ingest_state state;
        g_assert_false(ingest_read((struct content_local *)fixture->content, NS "/1/old", &state, NULL));
}

// ---- beside writers

enum { N_ROUNDS = 20 };

struct writer {
        struct gc_fixture *fixture;
        atomic_bool done;
};

// As a pull does: a lease, content under it, an image on top, the lease gone.
static void pull_often(void *data)
{
        struct writer *writer = data;
        struct gc_fixture *fixture = writer->fixture;
        const struct scope leased = {NS, "pull"};
        for (int i = 0; i < N_ROUNDS; i++) {
                g_autofree char *text = g_strdup_printf("layer %d", i);
                g_autofree char *manifest_text = g_strdup_printf("manifest %d", i);
                g_autofree char *name = g_strdup_printf("image %d", i);
                gc_add_lease(fixture, "pull", NULL);
                const char *layer = gc_add_blob(fixture, &leased, text, NULL);
                const char *manifest =
                        gc_add_blob(fixture, &leased, manifest_text, "containerd.io/gc.ref.content.l.0", layer, NULL);
                gc_add_image(fixture, name, manifest, NULL);
                struct gc_step step = {.key = "pull"};
                gc_write_step(fixture, gc_remove_lease, &step);
                g_assert_true(gc_has_blob(fixture, layer));
                g_assert_true(gc_has_blob(fixture, manifest));
        }
        atomic_store(&writer->done, true);
}

static void writers_lose_nothing(struct gc_fixture *fixture, const void *data)
{
        struct writer writer = {.fixture = fixture};
        uv_thread_t thread;
        g_assert_cmpint(uv_thread_create(&thread, pull_often, &writer), ==, 0);
        while (!atomic_load(&writer.done))
                gc_collect(fixture);
        uv_thread_join(&thread);
        gc_collect(fixture);
        for (int i = 0; i < N_ROUNDS; i++) {
                g_autofree char *text = g_strdup_printf("layer %d", i);
                g_autofree char *digest = digest_of_bytes(DIGEST_SHA256, text, strlen(text));
                g_assert_true(gc_has_blob(fixture, digest));
        }
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/gc/" #name, struct gc_fixture, NULL, gc_set_up, name, gc_tear_down)
        ADD(images_keep_what_they_refer_to);
        ADD(root_labels_keep);
        ADD(expired_ones_go);
        ADD(leases_keep_trees_and_flat_ones_do_not);
        ADD(back_references_keep);
        ADD(containers_and_sandboxes_keep);
        ADD(conditions_are_judged_by_use);
        ADD(mounts_go_with_their_lease);
        ADD(unsynced_snapshots_keep_their_blob);
        ADD(ingests_go_when_their_time_is_over);
        ADD(writers_lose_nothing);
        return g_test_run();
}
