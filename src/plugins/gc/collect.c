// SPDX-License-Identifier: Apache-2.0
//
// Writers go on while the graph is read and marked. Whatever they insert or change meanwhile is noted by the store
// (touched), and inside the sweep's transaction it is read again and counts as used, with all that it refers to. That
// keeps too much at times, which the next run finds, and never too little: a reference can only appear by a write.
#include "plugins/gc/collect.h"

#include "base/clock.h"
#include "base/log.h"
#include "core/content.h"
#include "core/event.h"
#include "core/mount_manager.h"
#include "core/namespace.h"
#include "core/snapshotter.h"
#include "plugins/gc/graph.h"

#include "containerd/events.pb-c.h"
#include "containerd/images.pb-c.h"

#include <malloc.h>
#include <string.h>

struct removed {
        enum resource_type type;
        char *namespace_, *key;
};

struct run {
        struct collector *collector;
        struct tx *tx;
        struct graph *graph;
        const char *namespace_;
        bool recent;
        GPtrArray *removed; // of struct removed
        GError *error;      // the first one of a callback that cannot return it
};

static void free_removed(void *data)
{
        struct removed *removed = data;
        g_free(removed->namespace_);
        g_free(removed->key);
        g_free(removed);
}

// ---- reading

static bool add_image(void *data, const struct image *image)
{
        struct run *run = data;
        graph_add_image(run->graph, run->namespace_, image, run->recent);
        return true;
}

static bool add_blob(void *data, const struct blob *blob)
{
        struct run *run = data;
        graph_add_blob(run->graph, run->namespace_, blob, run->recent);
        return true;
}

static bool add_ingest(void *data, const struct ingest *ingest)
{
        struct run *run = data;
        graph_add_ingest(run->graph, run->namespace_, ingest, run->recent);
        return true;
}

static bool add_container(void *data, const struct container *container)
{
        struct run *run = data;
        graph_add_container(run->graph, run->namespace_, container);
        return true;
}

static bool add_snapshot(void *data, const char *namespace_, const struct snapshot *snapshot)
{
        struct run *run = data;
        graph_add_snapshot(run->graph, namespace_, snapshot, run->recent);
        return true;
}

static bool add_activation(void *data, const char *namespace_, const struct activation *activation)
{
        struct run *run = data;
        graph_add_activation(run->graph, namespace_, activation, run->recent);
        return true;
}

static bool add_sandbox(void *data, const struct sandbox *sandbox)
{
        struct run *run = data;
        graph_add_sandbox(run->graph, run->namespace_, sandbox);
        return true;
}

struct held {
        struct run *run;
        const struct lease *lease;
};

static bool add_resource(void *data, const struct lease_resource *resource)
{
        struct held *held = data;
        graph_add_lease_resource(held->run->graph, held->run->namespace_, held->lease, resource);
        return true;
}

static bool add_lease(void *data, const struct lease *lease)
{
        struct run *run = data;
        struct held held = {run, lease};
        return !graph_add_lease(run->graph, run->namespace_, lease) ||
               run->collector->metadata->leases->walk_resources(
                       run->tx, run->namespace_, lease->id, NULL, add_resource, &held, &run->error);
}

static bool read_namespace(void *data, const struct namespace_record *record)
{
        struct run *run = data;
        const struct metadata *metadata = run->collector->metadata;
        const char *name = record->name;
        run->namespace_ = name;
        return metadata->leases->walk(run->tx, name, NULL, add_lease, run, &run->error) && run->error == NULL &&
               metadata->images->walk(run->tx, name, NULL, add_image, run, &run->error) &&
               metadata->ingests->walk(run->tx, name, NULL, add_ingest, run, &run->error) &&
               metadata->blobs->walk(run->tx, name, NULL, add_blob, run, &run->error) &&
               metadata->containers->walk(run->tx, name, NULL, add_container, run, &run->error) &&
               metadata->sandboxes->walk(run->tx, name, NULL, add_sandbox, run, &run->error);
}

static bool hand_on_error(struct run *run, GError **error)
{
        if (run->error == NULL)
                return true;
        g_propagate_error(error, g_steal_pointer(&run->error));
        return false;
}

static bool read_all(struct tx *tx, void *data, GError **error)
{
        struct run *run = data;
        const struct metadata *metadata = run->collector->metadata;
        AUTO(arena) arena = arena_new();
        run->tx = tx;
        return metadata->namespaces->walk(tx, arena, read_namespace, run, error) && hand_on_error(run, error) &&
               metadata->snapshots->walk(tx, NULL, NULL, NULL, add_snapshot, run, error) &&
               metadata->activations->walk(tx, NULL, NULL, add_activation, run, error);
}

// ---- what was written meanwhile

static bool read_touched_snapshot(struct run *run, const char *key, struct arena *arena, GError **error)
{
        struct snapshot snapshot;
        const char *slash = strchr(key, '/');
        g_autofree char *snapshotter = g_strndup(key, (gsize)(slash - key));
        return run->collector->metadata->snapshots->get(
                       run->tx, run->namespace_, snapshotter, slash + 1, arena, &snapshot, error) &&
               add_snapshot(run, run->namespace_, &snapshot);
}

static bool read_touched_record(
        struct run *run, enum resource_type type, const char *key, struct arena *arena, GError **error)
{
        const struct metadata *metadata = run->collector->metadata;
        union {
                struct image image;
                struct blob blob;
                struct ingest ingest;
                struct container container;
                struct lease lease;
                struct activation activation;
        } record;
        switch (type) {
        case RESOURCE_IMAGE:
                return metadata->images->get(run->tx, run->namespace_, key, arena, &record.image, error) &&
                       add_image(run, &record.image);
        case RESOURCE_CONTENT:
                return metadata->blobs->get(run->tx, run->namespace_, key, arena, &record.blob, error) &&
                       add_blob(run, &record.blob);
        case RESOURCE_INGEST:
                return metadata->ingests->get(run->tx, run->namespace_, key, arena, &record.ingest, error) &&
                       add_ingest(run, &record.ingest);
        case RESOURCE_CONTAINER:
                return metadata->containers->get(run->tx, run->namespace_, key, arena, &record.container, error) &&
                       add_container(run, &record.container);
        case RESOURCE_LEASE:
                return metadata->leases->get(run->tx, run->namespace_, key, arena, &record.lease, error) &&
                       add_lease(run, &record.lease);
        case RESOURCE_MOUNT:
                return metadata->activations->get(run->tx, run->namespace_, key, arena, &record.activation, error) &&
                       add_activation(run, run->namespace_, &record.activation);
        case RESOURCE_SNAPSHOT:
                return read_touched_snapshot(run, key, arena, error);
        }
        return true;
}

static void read_touched(void *data, enum resource_type type, const char *namespace_, const char *key)
{
        struct run *run = data;
        AUTO(arena) arena = arena_new();
        g_autoptr(GError) failure = NULL;
        run->namespace_ = namespace_;
        if (run->error != NULL || read_touched_record(run, type, key, arena, &failure) || failure == NULL ||
                error_is(failure, ERROR_NOT_FOUND))
                return;
        run->error = g_steal_pointer(&failure);
}

// ---- sweeping

static bool remove_snapshot_record(struct run *run, const char *namespace_, const char *key, GError **error)
{
        const char *slash = strchr(key, '/');
        g_autofree char *snapshotter = g_strndup(key, (gsize)(slash - key));
        return run->collector->metadata->snapshots->remove(run->tx, namespace_, snapshotter, slash + 1, error);
}

static bool remove_record(
        struct run *run, enum resource_type type, const char *namespace_, const char *key, GError **error)
{
        const struct metadata *metadata = run->collector->metadata;
        switch (type) {
        case RESOURCE_CONTENT:
                return metadata->blobs->remove(run->tx, namespace_, key, error);
        case RESOURCE_IMAGE:
                return metadata->images->remove(run->tx, namespace_, key, error);
        case RESOURCE_LEASE:
                return metadata->leases->remove(run->tx, namespace_, key, error);
        case RESOURCE_INGEST:
                return metadata->ingests->remove(run->tx, namespace_, key, error);
        case RESOURCE_MOUNT:
                return metadata->activations->remove(run->tx, namespace_, key, error);
        case RESOURCE_SNAPSHOT:
                return remove_snapshot_record(run, namespace_, key, error);
        case RESOURCE_CONTAINER: // always a root
                break;
        }
        return true;
}

static void remove_unreachable(void *data, enum resource_type type, const char *namespace_, const char *key)
{
        struct run *run = data;
        g_autoptr(GError) failure = NULL;
        if (run->error != NULL)
                return;
        if (remove_record(run, type, namespace_, key, &failure)) {
                struct removed *removed = g_new(struct removed, 1);
                *removed = (struct removed){type, g_strdup(namespace_), g_strdup(key)};
                g_ptr_array_add(run->removed, removed);
        } else if (!error_is(failure, ERROR_NOT_FOUND)) { // else somebody removed it meanwhile
                run->error = g_steal_pointer(&failure);
        }
}

static bool sweep(struct tx *tx, void *data, GError **error)
{
        struct run *run = data;
        run->tx = tx;
        run->recent = true;
        run->collector->metadata->ops->touched(tx, read_touched, run);
        if (run->error == NULL) {
                graph_mark(run->graph);
                graph_each_unreachable(run->graph, remove_unreachable, run);
        }
        return hand_on_error(run, error);
}

static void count_unreachable(void *data, enum resource_type type, const char *namespace_, const char *key)
{
        ++*(size_t *)data;
}

// From the first write that is noted until the transaction that reads the notes.
static bool mark_and_sweep(struct run *run, GError **error)
{
        struct metadata *metadata = run->collector->metadata;
        size_t n_unreachable = 0;
        metadata->ops->touched_begin(metadata);
        bool ok = metadata_read(metadata, read_all, run, error);
        if (ok) {
                graph_mark(run->graph);
                graph_each_unreachable(run->graph, count_unreachable, &n_unreachable);
        }
        // Durable: bytes may only be removed once no power cut can bring their records back.
        if (n_unreachable > 0)
                ok = metadata_write(metadata, TX_DURABLE, sweep, run, error);
        metadata->ops->touched_end(metadata);
        return ok;
}

// ---- after the commit

static void publish(const struct collector *collector, const struct removed *removed)
{
        if (collector->events == NULL)
                return;
        if (removed->type == RESOURCE_IMAGE) {
                Images__ImageDelete event = IMAGES__IMAGE_DELETE__INIT;
                event.name = removed->key;
                event_publish(collector->events, removed->namespace_, "/images/delete", &event.base);
        } else if (removed->type == RESOURCE_SNAPSHOT) {
                const char *slash = strchr(removed->key, '/');
                g_autofree char *snapshotter = g_strndup(removed->key, (gsize)(slash - removed->key));
                Events__SnapshotRemove event = EVENTS__SNAPSHOT_REMOVE__INIT;
                event.key = (char *)slash + 1;
                event.snapshotter = snapshotter;
                event_publish(collector->events, removed->namespace_, "/snapshot/remove", &event.base);
        }
}

static bool clean_snapshots(const struct collector *collector, GHashTable *names, GError **error)
{
        GHashTableIter iter;
        void *name;
        g_hash_table_iter_init(&iter, names);
        while (collector->snapshotters != NULL && g_hash_table_iter_next(&iter, &name, NULL)) {
                g_autoptr(GError) unknown = NULL;
                struct snapshotter *snapshotter = snapshotters_get(collector->snapshotters, name, &unknown);
                if (snapshotter != NULL && !snapshotter_cleanup(snapshotter, error))
                        return false;
        }
        return true;
}

static bool clean_content(
        struct collector *collector, const GPtrArray *digests, const GPtrArray *ingests, GError **error)
{
        if (collector->content == NULL)
                return true;
        // NULL-terminated both. After them, the first run looks for whatever no record names, left by an unclean end.
        if (!collector->content->ops->sweep(collector->content, (const char *const *)digests->pdata,
                    (const char *const *)ingests->pdata, error) ||
                (!collector->swept_all && !collector->content->ops->sweep(collector->content, NULL, NULL, error)))
                return false;
        collector->swept_all = true;
        return true;
}

static bool clean_up(struct run *run, GError **error)
{
        g_autoptr(GPtrArray) digests = g_ptr_array_new();
        g_autoptr(GPtrArray) ingests = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GHashTable) snapshotters = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        struct mount_manager *mounts = run->collector->mounts;
        bool unmount = false;
        for (guint i = 0; i < run->removed->len; i++) {
                const struct removed *removed = g_ptr_array_index(run->removed, i);
                publish(run->collector, removed);
                if (removed->type == RESOURCE_CONTENT)
                        g_ptr_array_add(digests, removed->key);
                else if (removed->type == RESOURCE_INGEST)
                        g_ptr_array_add(ingests, g_strdup_printf("%s/1/%s", removed->namespace_, removed->key));
                else if (removed->type == RESOURCE_SNAPSHOT)
                        g_hash_table_add(snapshotters, g_strndup(removed->key, strcspn(removed->key, "/")));
                else if (removed->type == RESOURCE_MOUNT)
                        unmount = true;
        }
        g_ptr_array_add(digests, NULL);
        g_ptr_array_add(ingests, NULL);
        // Mounts first: they may use what goes next.
        return (!unmount || mounts == NULL || mounts->ops->cleanup(mounts, error)) &&
               clean_content(run->collector, digests, ingests, error) &&
               clean_snapshots(run->collector, snapshotters, error);
}

bool collector_run(struct collector *collector, GError **error)
{
        AUTO(graph) graph = graph_new(clock_now_ns());
        g_autoptr(GPtrArray) removed = g_ptr_array_new_with_free_func(free_removed);
        struct run run = {.collector = collector, .graph = graph, .removed = removed};
        int64_t start_ns = clock_monotonic_ns();
        if (!mark_and_sweep(&run, error) || !clean_up(&run, error))
                return false;
        g_clear_pointer(&graph, graph_free);
        malloc_trim(0); // the graph is the largest thing that an idle daemon ever holds
        if (removed->len > 0) {
                g_autofree char *n = g_strdup_printf("%u", removed->len);
                g_autofree char *took =
                        g_strdup_printf("%.1fms", (double)(clock_monotonic_ns() - start_ns) / NS_PER_MS);
                log_debug("garbage collected", "removed", n, "took", took);
        }
        return true;
}
