// SPDX-License-Identifier: Apache-2.0
//
// Records, and bytes, for tests of garbage collection: real stores in a directory of their own. Labels are given as
// key, value, …, NULL. What cannot be written fails the test.
#pragma once

#include "core/activation.h"
#include "core/container.h"
#include "core/content.h"
#include "core/image.h"
#include "core/lease.h"
#include "core/sandbox.h"
#include "core/snapshot.h"
#include "plugins/gc/collect.h"

#define NS "default" // the namespace of all records

struct gc_fixture {
        char *directory;
        struct metadata *metadata;
        struct content_store *content;
        struct collector collector;
        struct arena *arena;
};

extern const struct scope gc_scope;

// Of records that have no calls of their own: what a transaction writes or finds.
struct gc_step {
        struct gc_fixture *fixture;
        struct snapshot snapshot;
        struct lease lease;
        struct lease_resource resource;
        struct container container;
        struct sandbox sandbox;
        struct activation activation;
        const char *key;
};

void gc_set_up(struct gc_fixture *fixture, const void *data);
void gc_tear_down(struct gc_fixture *fixture, const void *data);

void gc_collect(struct gc_fixture *fixture);
G_GNUC_NULL_TERMINATED const char *gc_add_blob(
        struct gc_fixture *fixture, const struct scope *whose, const char *text, ...);
bool gc_has_blob(struct gc_fixture *fixture, const char *digest);
G_GNUC_NULL_TERMINATED void gc_add_image(struct gc_fixture *fixture, const char *name, const char *target, ...);
bool gc_has_image(struct gc_fixture *fixture, const char *name);
void gc_write_step(struct gc_fixture *fixture, tx_fn fn, struct gc_step *step);
G_GNUC_NULL_TERMINATED void gc_add_snapshot(struct gc_fixture *fixture, const char *key, const char *parent, ...);
bool gc_has_snapshot(struct gc_fixture *fixture, const char *key);
G_GNUC_NULL_TERMINATED void gc_add_lease(struct gc_fixture *fixture, const char *id, ...);
void gc_lease_resource(struct gc_fixture *fixture, const char *lease, const char *type, const char *id);
bool gc_has_lease(struct gc_fixture *fixture, const char *id);
bool gc_remove_lease(struct tx *tx, void *data, GError **error);
bool gc_insert_snapshot(struct tx *tx, void *data, GError **error);
