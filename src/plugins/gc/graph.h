// SPDX-License-Identifier: Apache-2.0
//
// What refers to what: records as nodes, their labels and fields as edges, by containerd's rules. Threads: one.
//
// Roots are leases that have not expired (with what they hold), images that have not expired, containers, ingests with
// time left, and what has the label containerd.io/gc.root. A lease with the label containerd.io/gc.flat holds what it
// names, but not what that refers to by labels (a snapshot's parents and an image's target are held in any case).
#pragma once

#include "base/auto.h"
#include "core/activation.h"
#include "core/blob.h"
#include "core/container.h"
#include "core/image.h"
#include "core/lease.h"
#include "core/sandbox.h"
#include "core/snapshot.h"

struct graph;

// now_ns: wall clock; expiry is judged by it.
struct graph *graph_new(int64_t now_ns);
void graph_free(struct graph *graph);
DEFINE_AUTO(graph, graph_free)

// Add a record. recent: it was written while the graph was read, and counts as a root, as what refers to it may not
// have been seen. A record may come twice; its edges add up.
void graph_add_image(struct graph *graph, const char *namespace_, const struct image *image, bool recent);
void graph_add_blob(struct graph *graph, const char *namespace_, const struct blob *blob, bool recent);
void graph_add_ingest(struct graph *graph, const char *namespace_, const struct ingest *ingest, bool recent);
void graph_add_container(struct graph *graph, const char *namespace_, const struct container *container);
void graph_add_snapshot(struct graph *graph, const char *namespace_, const struct snapshot *snapshot, bool recent);
// Mounts of the mount manager: used while a lease has them, or another record refers to them.
void graph_add_activation(
        struct graph *graph, const char *namespace_, const struct activation *activation, bool recent);
void graph_add_sandbox(struct graph *graph, const char *namespace_, const struct sandbox *sandbox);
// True: it has not expired, so its resources are to be added too.
bool graph_add_lease(struct graph *graph, const char *namespace_, const struct lease *lease);
void graph_add_lease_resource(
        struct graph *graph, const char *namespace_, const struct lease *lease, const struct lease_resource *resource);

// Follows all edges from the roots. Can be called again after more was added: what is marked stays marked.
void graph_mark(struct graph *graph);
// Calls fn for each record that was added and cannot be reached.
void graph_each_unreachable(struct graph *graph, resource_fn fn, void *data);
