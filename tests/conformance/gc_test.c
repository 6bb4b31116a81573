// SPDX-License-Identifier: Apache-2.0
#include "plugins/gc/collect.h"
#include "plugins/gc/scheduler.h"

#include "base/clock.h"
#include "base/digest.h"
#include "core/activation.h"
#include "core/container.h"
#include "core/content.h"
#include "core/image.h"
#include "core/lease.h"
#include "core/sandbox.h"
#include "core/snapshot.h"
#include "io/lanes.h"
#include "io/loop.h"
#include "plugins/content_local/local.h"
#include "store/store.h"
#include "sys/tree.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <uv.h>

#define NS "default"

struct fixture {
        char *directory;
        struct metadata *metadata;
        struct content_store *content;
        struct collector collector;
        struct arena *arena;
};

static const struct scope scope = {NS, NULL};

static void set_up(struct fixture *fixture, const void *data)
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

static void tear_down(struct fixture *fixture, const void *data)
{
        content_local_free(fixture->content);
        store_close(fixture->metadata);
        arena_free(fixture->arena);
        g_assert_true(tree_remove(fixture->directory, NULL));
        g_free(fixture->directory);
}

static void collect(struct fixture *fixture)
{
        g_autoptr(GError) error = NULL;
        collector_run(&fixture->collector, &error);
        g_assert_no_error(error);
}

// key, value, …, NULL
static struct labels make_labels(struct fixture *fixture, va_list *args)
{
        struct labels labels = {0};
        for (const char *key = va_arg(*args, const char *); key != NULL; key = va_arg(*args, const char *))
                labels_set(&labels, fixture->arena, key, va_arg(*args, const char *));
        return labels;
}

// The digest of a new blob that consists of text.
G_GNUC_NULL_TERMINATED static const char *add_blob(
        struct fixture *fixture, const struct scope *whose, const char *text, ...)
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

static bool has_blob(struct fixture *fixture, const char *digest)
{
        struct blob blob;
        bool has = fixture->content->ops->info(fixture->content, &scope, digest, fixture->arena, &blob, NULL);
        int64_t size;
        g_assert_true(has == content_local_blob_size((struct content_local *)fixture->content, digest, &size, NULL));
        return has;
}

G_GNUC_NULL_TERMINATED static void add_image(struct fixture *fixture, const char *name, const char *target, ...)
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
        image_create(&store, &scope, fixture->arena, &image, &error);
        g_assert_no_error(error);
}

static bool has_image(struct fixture *fixture, const char *name)
{
        struct image image;
        const struct image_store store = {.metadata = fixture->metadata};
        return image_get(&store, NS, name, fixture->arena, &image, NULL);
}

// ---- records that have no calls of their own: written and looked for in one transaction each

struct step {
        struct fixture *fixture;
        struct snapshot snapshot;
        struct lease lease;
        struct lease_resource resource;
        struct container container;
        struct sandbox sandbox;
        struct activation activation;
        const char *key;
};

static void write_step(struct fixture *fixture, tx_fn fn, struct step *step)
{
        g_autoptr(GError) error = NULL;
        step->fixture = fixture;
        metadata_write(fixture->metadata, TX_RELAXED, fn, step, &error);
        g_assert_no_error(error);
}

static bool insert_snapshot(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        return step->fixture->metadata->snapshots->insert(tx, NS, &step->snapshot, error);
}

G_GNUC_NULL_TERMINATED static void add_snapshot(struct fixture *fixture, const char *key, const char *parent, ...)
{
        va_list args;
        va_start(args, parent);
        struct step step = {.snapshot = {.snapshotter = "overlayfs",
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
        write_step(fixture, insert_snapshot, &step);
}

static bool get_snapshot(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        return step->fixture->metadata->snapshots->get(
                tx, NS, "overlayfs", step->key, step->fixture->arena, &step->snapshot, error);
}

static bool has_snapshot(struct fixture *fixture, const char *key)
{
        struct step step = {.fixture = fixture, .key = key};
        return metadata_read(fixture->metadata, get_snapshot, &step, NULL);
}

static bool insert_lease(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        return step->fixture->metadata->leases->insert(tx, NS, &step->lease, error);
}

G_GNUC_NULL_TERMINATED static void add_lease(struct fixture *fixture, const char *id, ...)
{
        va_list args;
        va_start(args, id);
        struct step step = {.lease = {.id = id, .labels = make_labels(fixture, &args), .created_ns = 1}};
        va_end(args);
        write_step(fixture, insert_lease, &step);
}

static bool insert_resource(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        return step->fixture->metadata->leases->add(tx, NS, step->key, &step->resource, error);
}

static void lease_resource(struct fixture *fixture, const char *lease, const char *type, const char *id)
{
        struct step step = {.key = lease, .resource = {type, id}};
        write_step(fixture, insert_resource, &step);
}

static bool remove_lease(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        return step->fixture->metadata->leases->remove(tx, NS, step->key, error);
}

static bool get_lease(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        return step->fixture->metadata->leases->get(tx, NS, step->key, step->fixture->arena, &step->lease, error);
}

static bool has_lease(struct fixture *fixture, const char *id)
{
        struct step step = {.fixture = fixture, .key = id};
        return metadata_read(fixture->metadata, get_lease, &step, NULL);
}

static bool insert_container(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        return step->fixture->metadata->containers->insert(tx, NS, &step->container, error);
}

static bool insert_sandbox(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        return step->fixture->metadata->sandboxes->insert(tx, NS, &step->sandbox, error);
}

// ---- what is kept and what goes

static void images_keep_what_they_refer_to(struct fixture *fixture, const void *data)
{
        const char *layer = add_blob(fixture, &scope, "layer", NULL);
        const char *config =
                add_blob(fixture, &scope, "config", "containerd.io/gc.ref.snapshot.overlayfs", "top", NULL);
        const char *manifest = add_blob(fixture, &scope, "manifest", "containerd.io/gc.ref.content.config", config,
                "containerd.io/gc.ref.content.l.0", layer, NULL);
        const char *stray = add_blob(fixture, &scope, "stray", NULL);
        const char *similar = add_blob(fixture, &scope, "similar", NULL);
        add_snapshot(fixture, "base", "", NULL);
        add_snapshot(fixture, "top", "base", NULL);
        add_snapshot(fixture, "alone", "", NULL);
        add_image(fixture, "image", manifest, "containerd.io/gc.ref.contentious", similar, NULL);
        collect(fixture);
        g_assert_true(has_blob(fixture, layer));
        g_assert_true(has_blob(fixture, config));
        g_assert_true(has_blob(fixture, manifest));
        g_assert_true(has_snapshot(fixture, "top"));
        g_assert_true(has_snapshot(fixture, "base"));
        g_assert_true(has_image(fixture, "image"));
        g_assert_false(has_blob(fixture, stray));
        g_assert_false(has_blob(fixture, similar));
        g_assert_false(has_snapshot(fixture, "alone"));

        const struct image_store store = {.metadata = fixture->metadata};
        g_assert_true(image_delete(&store, &scope, "image", NULL, NULL));
        collect(fixture);
        g_assert_false(has_blob(fixture, layer));
        g_assert_false(has_blob(fixture, manifest));
        g_assert_false(has_snapshot(fixture, "base"));
}

static void root_labels_keep(struct fixture *fixture, const void *data)
{
        const char *kept = add_blob(fixture, &scope, "kept", "containerd.io/gc.root", "2020-01-01T00:00:00Z", NULL);
        add_snapshot(fixture, "parent", "", NULL);
        add_snapshot(fixture, "kept", "parent", "containerd.io/gc.root", "x", NULL);
        collect(fixture);
        g_assert_true(has_blob(fixture, kept));
        g_assert_true(has_snapshot(fixture, "kept"));
        g_assert_true(has_snapshot(fixture, "parent"));
}

static void expired_ones_go(struct fixture *fixture, const void *data)
{
        const char *one = add_blob(fixture, &scope, "one", NULL), *two = add_blob(fixture, &scope, "two", NULL);
        const char *three = add_blob(fixture, &scope, "three", NULL), *four = add_blob(fixture, &scope, "four", NULL);
        add_image(fixture, "old", one, "containerd.io/gc.expire", "2020-01-01T00:00:00Z", NULL);
        add_image(fixture, "new", two, "containerd.io/gc.expire", "2199-01-01T00:00:00Z", NULL);
        add_image(fixture, "odd", three, "containerd.io/gc.expire", "tomorrow", NULL);
        add_lease(fixture, "old", "containerd.io/gc.expire", "2020-01-01T00:00:00+02:00", NULL);
        lease_resource(fixture, "old", "content", four);
        add_lease(fixture, "new", NULL);
        collect(fixture);
        g_assert_false(has_image(fixture, "old"));
        g_assert_false(has_blob(fixture, one));
        g_assert_true(has_image(fixture, "new"));
        g_assert_true(has_blob(fixture, two));
        g_assert_true(has_blob(fixture, three));
        g_assert_false(has_lease(fixture, "old"));
        g_assert_false(has_blob(fixture, four));
        g_assert_true(has_lease(fixture, "new"));
}

static void leases_keep_trees_and_flat_ones_do_not(struct fixture *fixture, const void *data)
{
        const char *below = add_blob(fixture, &scope, "below", NULL);
        const char *top = add_blob(fixture, &scope, "top", "containerd.io/gc.ref.content.0", below, NULL);
        const char *flat_below = add_blob(fixture, &scope, "flat below", NULL);
        const char *flat_top =
                add_blob(fixture, &scope, "flat top", "containerd.io/gc.ref.content.0", flat_below, NULL);
        const char *config = add_blob(fixture, &scope, "config", NULL);
        add_snapshot(fixture, "parent", "", NULL);
        add_snapshot(fixture, "child", "parent", "containerd.io/gc.ref.content.x", config, NULL);
        add_lease(fixture, "whole", NULL);
        lease_resource(fixture, "whole", "content", top);
        add_lease(fixture, "flat", "containerd.io/gc.flat", "yes", NULL);
        lease_resource(fixture, "flat", "content", flat_top);
        lease_resource(fixture, "flat", "snapshots/overlayfs", "child");
        collect(fixture);
        g_assert_true(has_blob(fixture, top));
        g_assert_true(has_blob(fixture, below));
        g_assert_true(has_blob(fixture, flat_top));
        g_assert_false(has_blob(fixture, flat_below));
        g_assert_true(has_snapshot(fixture, "child"));
        g_assert_true(has_snapshot(fixture, "parent"));
        g_assert_false(has_blob(fixture, config));
}

static void back_references_keep(struct fixture *fixture, const void *data)
{
        const char *target = add_blob(fixture, &scope, "target", NULL);
        const char *attached = add_blob(fixture, &scope, "attached", "containerd.io/gc.bref.content.x", target, NULL);
        const char *orphan = add_blob(fixture, &scope, "orphan", "containerd.io/gc.bref.image", "no such image", NULL);
        const char *by_image = add_blob(fixture, &scope, "by image", "containerd.io/gc.bref.image", "image", NULL);
        add_snapshot(fixture, "attached", "", "containerd.io/gc.bref.container", "c", NULL);
        add_image(fixture, "image", target, NULL);
        struct step step = {.container = {.id = "c",
                                    .image = "",
                                    .runtime_name = "r",
                                    .snapshotter = "",
                                    .snapshot_key = "",
                                    .sandbox = ""}};
        write_step(fixture, insert_container, &step);
        collect(fixture);
        g_assert_true(has_blob(fixture, attached));
        g_assert_true(has_blob(fixture, by_image));
        g_assert_false(has_blob(fixture, orphan));
        g_assert_true(has_snapshot(fixture, "attached"));
}

static void containers_and_sandboxes_keep(struct fixture *fixture, const void *data)
{
        const char *config = add_blob(fixture, &scope, "config", NULL);
        const char *pause = add_blob(fixture, &scope, "pause", NULL);
        add_snapshot(fixture, "parent", "", NULL);
        add_snapshot(fixture, "rw", "parent", NULL);
        struct label items[] = {{"containerd.io/gc.ref.content.config", config}};
        struct step step = {.container = {.id = "c",
                                    .image = "",
                                    .labels = {items, 1},
                                    .runtime_name = "r",
                                    .snapshotter = "overlayfs",
                                    .snapshot_key = "rw",
                                    .sandbox = ""}};
        write_step(fixture, insert_container, &step);
        struct label pause_items[] = {{"containerd.io/gc.ref.content", pause}};
        struct step sandbox = {
                .sandbox = {.id = "s", .labels = {pause_items, 1}, .sandboxer = "", .runtime_name = "r"}};
        write_step(fixture, insert_sandbox, &sandbox);
        collect(fixture);
        g_assert_true(has_blob(fixture, config));
        g_assert_true(has_blob(fixture, pause));
        g_assert_true(has_snapshot(fixture, "rw"));
        g_assert_true(has_snapshot(fixture, "parent"));
}

static void conditions_are_judged_by_use(struct fixture *fixture, const void *data)
{
        const char *target = add_blob(fixture, &scope, "target", NULL);
        g_autofree char *an_hour_ago = clock_format_rfc3339(clock_now_ns() - 3600 * NS_PER_SECOND);
        add_snapshot(fixture, "fresh", "", "containerd.io/gc.cond.value-usedat", an_hour_ago, NULL);
        add_snapshot(fixture, "stale", "", "containerd.io/gc.cond.value-usedat", "2020-01-01T00:00:00Z", NULL);
        add_snapshot(fixture, "never", "", NULL);
        add_image(fixture, "image", target, "containerd.io/gc.cond.snapshot.overlayfs/a", "usedat<24h|fresh",
                "containerd.io/gc.cond.snapshot.overlayfs/b", "usedat<24h|stale",
                "containerd.io/gc.cond.snapshot.overlayfs/c", "usedat<24h|never", NULL);
        collect(fixture);
        g_assert_true(has_snapshot(fixture, "fresh"));
        g_assert_false(has_snapshot(fixture, "stale"));
        g_assert_false(has_snapshot(fixture, "never"));
}

static bool put_activation(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        return step->fixture->metadata->activations->put(tx, NS, &step->activation, error);
}

static bool get_activation(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        return step->fixture->metadata->activations->get(
                tx, NS, step->key, step->fixture->arena, &step->activation, error);
}

static void mounts_go_with_their_lease(struct fixture *fixture, const void *data)
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
        add_lease(fixture, "l", NULL);
        add_blob(fixture, &scope, "x", "containerd.io/gc.ref.mount", "named", "containerd.io/gc.root", "x", NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(mounts); i++) {
                struct step step = {.activation = {
                                            .name = mounts[i].name,
                                            .lease = mounts[i].lease,
                                            .number = (int64_t)i + 1,
                                            .complete = mounts[i].complete,
                                    }};
                write_step(fixture, put_activation, &step);
        }
        collect(fixture);
        for (size_t i = 0; i < G_N_ELEMENTS(mounts); i++) {
                struct step step = {.fixture = fixture, .key = mounts[i].name};
                g_test_message("%s", mounts[i].name);
                g_assert_true(metadata_read(fixture->metadata, get_activation, &step, NULL) == mounts[i].kept);
        }
}

static void unsynced_snapshots_keep_their_blob(struct fixture *fixture, const void *data)
{
        const char *layer = add_blob(fixture, &scope, "layer", NULL);
        struct label items[] = {{"containerd.io/gc.root", "x"}};
        struct step step = {.snapshot = {.snapshotter = "overlayfs",
                                    .key = "k",
                                    .backend = "k",
                                    .parent = "",
                                    .kind = SNAPSHOT_COMMITTED,
                                    .labels = {items, 1},
                                    .directory = "",
                                    .blob = layer,
                                    .diff_id = "",
                                    .boot_id = ""}};
        write_step(fixture, insert_snapshot, &step);
        collect(fixture);
        g_assert_true(has_blob(fixture, layer));
}

static bool expire_ingest(struct tx *tx, void *data, GError **error)
{
        struct step *step = data;
        struct ingest ingest;
        const struct ingest_ops *ingests = step->fixture->metadata->ingests;
        if (!ingests->get(tx, NS, step->key, step->fixture->arena, &ingest, error))
                return false;
        ingest.expires_ns = 1;
        return ingests->put(tx, NS, &ingest, error);
}

static void ingests_go_when_their_time_is_over(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        static const char *const refs[] = {"old", "new"};
        struct content_status status;
        const struct content_ops *ops = fixture->content->ops;
        collect(fixture); // the first run looks at everything on disk; the rule must hold in later ones too
        for (size_t i = 0; i < G_N_ELEMENTS(refs); i++) {
                const struct content_expect expect = {.ref = refs[i]};
                AUTO(content_writer) writer = ops->writer(fixture->content, &scope, &expect, &error);
                g_assert_true(writer->ops->write(writer, "x", 1, &error));
        }
        struct step step = {.key = "old"};
        write_step(fixture, expire_ingest, &step);
        collect(fixture);
        g_assert_true(ops->status(fixture->content, &scope, "new", fixture->arena, &status, &error));
        g_assert_false(ops->status(fixture->content, &scope, "old", fixture->arena, &status, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_NOT_FOUND);
        struct ingest_state state;
        g_assert_false(ingest_read((struct content_local *)fixture->content, NS "/1/old", &state, NULL));
}

// ---- beside writers

enum { N_ROUNDS = 20 };

struct writer {
        struct fixture *fixture;
        atomic_bool done;
};

// As a pull does: a lease, content under it, an image on top, the lease gone.
static void pull_often(void *data)
{
        struct writer *writer = data;
        struct fixture *fixture = writer->fixture;
        const struct scope leased = {NS, "pull"};
        for (int i = 0; i < N_ROUNDS; i++) {
                g_autofree char *text = g_strdup_printf("layer %d", i);
                g_autofree char *manifest_text = g_strdup_printf("manifest %d", i);
                g_autofree char *name = g_strdup_printf("image %d", i);
                add_lease(fixture, "pull", NULL);
                const char *layer = add_blob(fixture, &leased, text, NULL);
                const char *manifest =
                        add_blob(fixture, &leased, manifest_text, "containerd.io/gc.ref.content.l.0", layer, NULL);
                add_image(fixture, name, manifest, NULL);
                struct step step = {.key = "pull"};
                write_step(fixture, remove_lease, &step);
                g_assert_true(has_blob(fixture, layer));
                g_assert_true(has_blob(fixture, manifest));
        }
        atomic_store(&writer->done, true);
}

static void writers_lose_nothing(struct fixture *fixture, const void *data)
{
        struct writer writer = {.fixture = fixture};
        uv_thread_t thread;
        g_assert_cmpint(uv_thread_create(&thread, pull_often, &writer), ==, 0);
        while (!atomic_load(&writer.done))
                collect(fixture);
        uv_thread_join(&thread);
        collect(fixture);
        for (int i = 0; i < N_ROUNDS; i++) {
                g_autofree char *text = g_strdup_printf("layer %d", i);
                g_autofree char *digest = digest_of_bytes(DIGEST_SHA256, text, strlen(text));
                g_assert_true(has_blob(fixture, digest));
        }
}

// ---- the scheduler

struct scheduled {
        struct fixture *fixture;
        struct loop *loop;
        struct lanes *lanes;
        struct gc *gc;
        const char *digest;
        int n;
        bool failed;
};

static void stop_loop(void *data, const GError *error)
{
        struct scheduled *scheduled = data;
        scheduled->n++;
        scheduled->failed = error != NULL;
        loop_stop(scheduled->loop);
}

static void start_scheduler(struct scheduled *scheduled, struct fixture *fixture, int64_t startup_delay_ns)
{
        scheduled->fixture = fixture;
        scheduled->loop = loop_new(NULL);
        scheduled->lanes = lanes_new(NULL);
        const struct gc_options options = {
                .pause_threshold = 0.5,
                .mutation_threshold = 100,
                .startup_delay_ns = startup_delay_ns,
                .loop = scheduled->loop,
                .lanes = scheduled->lanes,
                .collector = fixture->collector,
        };
        scheduled->gc = gc_scheduler_new(&options);
}

static void stop_scheduler(struct scheduled *scheduled)
{
        gc_scheduler_stop(scheduled->gc);
        lanes_free(scheduled->lanes);
        loop_free(scheduled->loop);
}

static void answers_after_a_run(struct fixture *fixture, const void *data)
{
        struct scheduled scheduled = {0};
        const char *stray = add_blob(fixture, &scope, "stray", NULL);
        start_scheduler(&scheduled, fixture, 0);
        scheduled.gc->ops->collect(scheduled.gc, stop_loop, &scheduled);
        loop_run(scheduled.loop);
        g_assert_cmpint(scheduled.n, ==, 1);
        g_assert_false(scheduled.failed);
        g_assert_false(has_blob(fixture, stray));
        stop_scheduler(&scheduled);
}

static void look(void *data)
{
        struct scheduled *scheduled = data;
        int64_t size;
        struct content_local *local = (struct content_local *)scheduled->fixture->content;
        if (content_local_blob_size(local, scheduled->digest, &size, NULL))
                loop_timer_start(scheduled->loop, 2, look, scheduled);
        else
                loop_stop(scheduled->loop);
}

static bool mark_removed(struct tx *tx, void *data, GError **error)
{
        struct fixture *fixture = data;
        fixture->metadata->ops->mark_removed(tx);
        const struct lease lease = {.id = "changes something"};
        return fixture->metadata->leases->insert(tx, NS, &lease, error);
}

static void removals_start_a_run(struct fixture *fixture, const void *data)
{
        struct scheduled scheduled = {0};
        start_scheduler(&scheduled, fixture, 0);
        scheduled.digest = add_blob(fixture, &scope, "stray", NULL);
        g_assert_true(metadata_write(fixture->metadata, TX_RELAXED, mark_removed, fixture, NULL));
        loop_timer_start(scheduled.loop, 1, look, &scheduled);
        loop_run(scheduled.loop);
        stop_scheduler(&scheduled);
}

static void runs_after_the_start(struct fixture *fixture, const void *data)
{
        struct scheduled scheduled = {0};
        scheduled.digest = add_blob(fixture, &scope, "stray", NULL);
        start_scheduler(&scheduled, fixture, NS_PER_MS);
        loop_timer_start(scheduled.loop, 1, look, &scheduled);
        loop_run(scheduled.loop);
        stop_scheduler(&scheduled);
}

static void stop_answers_who_waits(struct fixture *fixture, const void *data)
{
        struct scheduled scheduled = {0};
        start_scheduler(&scheduled, fixture, 0);
        scheduled.gc->ops->collect(scheduled.gc, stop_loop, &scheduled); // the loop never runs
        stop_scheduler(&scheduled);
        g_assert_cmpint(scheduled.n, ==, 1);
        g_assert_true(scheduled.failed);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/gc/" #name, struct fixture, NULL, set_up, name, tear_down)
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
        ADD(answers_after_a_run);
        ADD(removals_start_a_run);
        ADD(runs_after_the_start);
        ADD(stop_answers_who_waits);
        return g_test_run();
}
