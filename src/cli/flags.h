// SPDX-License-Identifier: Apache-2.0
//
// What people write after options, as values: mounts, sizes, environment files, signals. Threads: any.
#pragma once

#include <glib.h>
#include <skiff/spec.h>
#include <stdbool.h>
#include <stdint.h>

// Mounts with the strings that they are made of.
struct mount_list {
        GArray *mounts;     // struct skiff_mount
        GPtrArray *strings; // owned by it
};
void mount_list_init(struct mount_list *flags);
void mount_list_done(struct mount_list *flags);
// SOURCE:DESTINATION[:OPTION,…]; a relative source is one of this directory. Options: ro, rw, propagation and the other
// flags of bind mounts; one that is not known is refused, as it would be passed over later. False: *error says what is
// wrong.
bool mount_list_add_volume(struct mount_list *flags, const char *text, GError **error);
// type=bind|tmpfs|…,source=…,destination=…,readonly,options=a:b (docker's names and ctr's). Options: any of mount(8).
bool mount_list_add_mount(struct mount_list *flags, const char *text, GError **error);

// "64m", "1.5g", "100" (bytes): powers of 1024; a "b" at the end is allowed.
bool parse_size(const char *text, int64_t *ret_bytes, GError **error);
// Lines NAME=VALUE, or NAME (its value here); empty ones and those that begin with # are passed by.
bool read_env_file(const char *path, GPtrArray *variables, GError **error);
// NAME=VALUE as it is; NAME: its value here, and nothing if it has none. False: there is no name.
bool add_env(GPtrArray *variables, const char *text, GError **error);
// "TERM", "SIGTERM", "15", "term". 0: no such signal.
int parse_signal(const char *text);
