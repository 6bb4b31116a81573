// SPDX-License-Identifier: Apache-2.0
//
// One transfer under way, whatever its kind: its strand, lease, progress and end. All state is used on the strand; what
// runs elsewhere comes back to it with operation_submit. Work that is under way is counted by holds: when the last is
// given back, the operation's next step runs, or, after a failure, its end.
#pragma once

#include "codec/platform.h"
#include "core/content.h"
#include "core/differ.h"
#include "core/image.h"
#include "core/snapshotter.h"
#include "core/transfer.h"
#include "io/cancel.h"
#include "io/lanes.h"
#include "plugins/transfer/locks.h"

struct download;
struct loop;
struct loop_timer;
struct progress;

// What the configuration says an image may be unpacked with.
struct unpack_target {
        struct platform platform;
        bool any_architecture;
        char *snapshotter;
};

// The plugin's instance.
struct transfer_service {
        struct transferrer base;
        struct loop *loop;
        struct lanes *lanes;
        struct metadata *metadata;
        struct content_store *content;
        struct image_store images;
        struct snapshotters *snapshotters;
        struct differ *differ;
        struct locks *locks;
        char *fetch_program;
        char *config_path;      // of hosts.toml files; "": none
        unsigned max_downloads; // of a pull, at once; 0: any number
        unsigned max_unpacks;   // layers of an image, at once
        GPtrArray *targets;     // struct unpack_target *
};

struct operation;
typedef void (*operation_fn)(struct operation *operation);

struct operation {
        struct transfer_service *service;
        const struct transfer_request *request;
        transfer_done_fn done;
        void *data;
        int references;
        struct strand *strand;
        struct scope scope;  // with a lease always
        char *own_lease;     // NULL: the client's is used
        struct arena *arena; // for what lives as long as the operation
        struct cancel *stop; // triggered by the client's going and by the first failure
        unsigned long watch; // on the request's cancel
        struct progress *progress;
        GError *error;
        unsigned n_holds;
        bool ended;                     // nothing can fail any more
        operation_fn next;              // what runs when nothing is under way any more
        operation_fn on_fail;           // ends what runs, once
        operation_fn on_close;          // last step, after success and failure; gives one hold back, maybe later
        unsigned n_unflushed;           // streams whose client has not read all
        struct loop_timer *flush_timer; // the loop's
        struct cancel_note flush_note;
        void *state;
        void (*state_free)(void *state);
};

// Makes the lease, then runs first on the strand.
void operation_start(struct transfer_service *service, const struct transfer_request *request, operation_fn first,
        transfer_done_fn done, void *data);

struct operation *operation_ref(struct operation *operation);
void operation_unref(struct operation *operation);

// Runs fn(data) on the strand. Threads: any (with a reference or a hold).
void operation_submit(struct operation *operation, lane_fn fn, void *data);

// On the strand:
void operation_hold(struct operation *operation);
void operation_release(struct operation *operation);
// The first failure counts; takes error. Everything under way is stopped.
void operation_fail(struct operation *operation, GError *error);
bool operation_failed(const struct operation *operation);
