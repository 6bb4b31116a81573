// SPDX-License-Identifier: Apache-2.0
//
// Containers with the same label share a shim (the containers of a pod do), and the shim's socket is named after the
// group, so that each of them finds it. Threads: any.
#pragma once

#include <glib.h>
#include <stdbool.h>

// DIRECTORY/SHA256(ADDRESS/NAMESPACE/GROUP), as containerd names it; the group is read from the bundle's spec, and is
// the container itself where it has no label. directory NULL: what the bundle's link "s" names, else containerd's own.
// Caller frees. INVALID_ARGUMENT if the spec is none, UNKNOWN if it cannot be read.
struct group_member {
        const char *bundle, *id, *namespace_, *address;
};
char *group_socket_path(const struct group_member *member, const char *directory, GError **error);

// Removes the socket if nobody answers on it.
void group_remove_dead_socket(const char *path);

enum { GROUP_PROBE_TIMEOUT_MS = 100 };
