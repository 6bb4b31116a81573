// SPDX-License-Identifier: Apache-2.0
//
// An image's layers turned into snapshots, side by side where the snapshotter allows it, while they are still being
// downloaded.
// Threads: the operation's strand.
#pragma once

#include "plugins/transfer/descriptors.h"

struct layers;
struct operation;
struct snapshotter;

struct layers_handler {
        // The snapshots of the layers before `first` are there: the layers from there on are needed as content. Called
        // once, or not at all if every snapshot is there. Every layer is then told of by layers_open and layers_done.
        void (*on_need)(void *data, size_t first);
        void (*on_extracting)(void *data, size_t index);
        void (*on_extracted)(void *data, size_t index);
};

struct layers_options {
        struct operation *operation;
        struct snapshotter *snapshotter;
        const struct nodes *layers; // without the config
        const struct node *config;
        const char *const *diff_ids; // as many as layers, well-formed
        const struct layers_handler *handler;
        void *data;
};
// Holds the operation until its end; failures are the operation's.
struct layers *layers_start(const struct layers_options *options);
void layers_free(struct layers *layers);

struct download;
// The layer is on its way; its file is there. download: stays valid as long as the operation.
void layers_opened(struct layers *layers, size_t index, struct download *download);
// The layer is in the content store.
void layers_done(struct layers *layers, size_t index);

// The operation has failed.
void layers_stop(struct layers *layers);

// Digest of the snapshot with these layers (image-spec config.md, ChainID). Caller frees.
char *layers_chain_id(const char *const *diff_ids, size_t n);
