// SPDX-License-Identifier: Apache-2.0
//
// Tar layers, plain or compressed, on any mounts (core/differ.h). Threads: any.
#pragma once

#include "core/differ.h"
#include "io/lanes.h"

struct differ_tar {
        struct differ differ;
        struct lanes *lanes;
        struct content_store *content;
        char *mounts_dir; // for temporary mounts
};

struct differ_apply *differ_tar_apply(
        struct differ *differ, const struct differ_apply_request *request, unpack_done_fn done, void *data);
void differ_tar_advance(struct differ_apply *apply, int64_t available_bytes, bool complete);
void differ_tar_abort(struct differ_apply *apply, const GError *reason);
bool differ_tar_settle(struct differ_apply *apply, const GPtrArray *mounts, GError **error);
void differ_tar_unref(struct differ_apply *apply);

void differ_tar_compare(struct differ *differ, const struct scope *scope, const struct differ_compare_request *request,
        differ_compare_fn done, void *data);
