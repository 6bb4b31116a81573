// SPDX-License-Identifier: Apache-2.0
//
// The objects of an image, from its root to its leaves: fetched if there is a fetcher, else expected in the content
// store; labelled, filtered by platform, and unpacked where that is asked for. Threads: the operation's strand.
#pragma once

#include "plugins/transfer/descriptors.h"
#include "plugins/transfer/operation.h"

struct fetcher;
struct walk;

struct walk_options {
        struct operation *operation;
        struct fetcher *fetcher;                // NULL: everything is there
        const TransferTypes__ImageStore *store; // platforms, labels' limits, what is to be unpacked
        const char *root_name;                  // the parent of the root in progress events
        const char *source_host;                // for the label containerd.io/distribution.source.HOST; NULL: none
        const char *source_repository;
        // An index's or manifest's children, before they are filtered; they may be changed. NULL: nothing to do.
        void (*on_children)(void *data, const struct node *parent, struct nodes *children);
        void *data;
};

// Freed by walk_free once the operation has ended.
struct walk *walk_new(const struct walk_options *options);
void walk_free(struct walk *walk);
// Holds the operation while it is busy. root lives as long as the operation.
void walk_start(struct walk *walk, const struct node *root);
// After the operation has failed.
void walk_stop(struct walk *walk);
// Whether the root had any children that were wanted.
bool walk_is_empty(const struct walk *walk);
