// SPDX-License-Identifier: Apache-2.0
//
// What the files of the snapshot suite share: a snapshotter on the implementer's driver and a store in a directory of
// its own, and the steps that tests are made of, which fail the test if they do not succeed. Threads: one, but for the
// recorder.
#pragma once

#include "snapshot_suite.h"

#include "core/event.h"
#include "core/snapshotter.h"

#include <uv.h>

// An exchange that remembers topics.
struct recorder {
        struct event_exchange base;
        uv_mutex_t mutex;
        GString *topics;
};

struct fixture {
        const struct snapshot_implementer *implementer;
        char *directory, *database;
        struct snapshot_driver *driver; // NULL: cannot work here
        struct metadata *metadata;
        struct lanes *lanes;
        bool lazy_sync; // from the next suite_start on
        struct recorder recorder;
        struct snapshotter *snapshotter;
        struct arena *arena;
};

extern const struct scope suite_scope, suite_leased; // without and with the lease "l"

void suite_start(struct fixture *f);
void suite_set_up(struct fixture *f, gconstpointer data);
void suite_tear_down(struct fixture *f, gconstpointer data);
GPtrArray *suite_try_prepare(struct fixture *f, const struct scope *who, const char *key, const char *parent,
        const char *target, GError **error);
void suite_prepare(struct fixture *f, const char *key, const char *parent);
void suite_view(struct fixture *f, const char *key, const char *parent);
void suite_commit(struct fixture *f, const char *name, const char *key);
void suite_assert_commit_fails(
        struct fixture *f, const char *name, const char *key, enum error_code code, const char *text);
void suite_remove(struct fixture *f, const char *key);
GPtrArray *suite_mounts_of(struct fixture *f, const char *key);
bool suite_write(struct fixture *f, const char *key, const char *name, const char *text);
void suite_assert_reads(struct fixture *f, const char *key, const char *name, const char *text);
struct snapshot suite_stat_of(struct fixture *f, const char *key);
unsigned suite_count_directories(struct fixture *f);
void suite_assert_held(struct fixture *f, const char *keys);

// The tests of what a crash may not take, added to those of snapshot_suite_main.
void snapshot_suite_add_durable(const struct snapshot_implementer *implementer);

#define SUITE_ADD(function)                                                                                            \
        do {                                                                                                           \
                g_autofree char *path = g_strdup_printf("/snapshot/%s/%s", implementer->name, #function);              \
                g_test_add(path, struct fixture, implementer, suite_set_up, function, suite_tear_down);                \
        } while (0)
