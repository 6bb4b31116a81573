// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints of tasks in the content store: what CRIU wrote, a directory, as a tar blob and back. The directories lie
// below one of the caller's, which is emptied at the start. Threads: any, except where said.
#pragma once

#include "core/content.h"
#include "core/differ.h"

struct checkpoints;
struct lanes;

// directory exists; what is in it is removed. All others outlive the checkpoints.
struct checkpoints *checkpoints_new(
        struct differ *differ, struct content_store *content, struct lanes *lanes, const char *directory);
// Once nothing is under way.
void checkpoints_free(struct checkpoints *checkpoints);

// A new empty directory, the caller's to remove. NULL: *error, UNKNOWN.
char *checkpoints_make_directory(struct checkpoints *checkpoints, GError **error);
// Removes one later, on a worker; takes the path. NULL is fine.
void checkpoints_remove_directory(struct checkpoints *checkpoints, char *path);
// Writes the directory as a blob. done as of differ_ops compare: once, on a SLOW worker.
void checkpoints_save(struct checkpoints *checkpoints, const struct scope *scope, const char *directory,
        struct cancel *cancel, differ_compare_fn done, void *data);
// Makes a directory of the blob. done comes once, on a SLOW worker, with the path, the callee's to free and to remove;
// NULL exactly if error is set, which lives during the call alone. False: *error (NOT_FOUND), and done does not come.
typedef void (*checkpoints_load_fn)(void *data, char *path, const GError *error);
bool checkpoints_load(struct checkpoints *checkpoints, const struct scope *scope, const char *digest,
        struct cancel *cancel, checkpoints_load_fn done, void *data, GError **error);
