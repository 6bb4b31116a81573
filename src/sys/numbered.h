// SPDX-License-Identifier: Apache-2.0
//
// A directory of numbered directories, as snapshot drivers keep them: ROOT/1, ROOT/2, …. One is filled under a
// temporary name and then put in its place. Threads: worker.
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

// Makes root where it is missing, and tells the file system that what will be below are separate hierarchies.
bool numbered_open(const char *root, GError **error);
// A new empty directory ROOT/new-XXXXXX, mode 0700; caller frees the path.
char *numbered_begin(const char *root, GError **error);
// Puts it at ROOT/number and returns that path. What another number's owner left there is an error.
char *numbered_place(const char *root, const char *directory, int64_t number, GError **error);
// Calls fn for each entry of ROOT: number is -1 if its name is none.
typedef void (*numbered_fn)(void *data, int64_t number, const char *path);
bool numbered_list(const char *root, numbered_fn fn, void *data, GError **error);
