// SPDX-License-Identifier: Apache-2.0
//
// Whom a process runs as: "NAME", "UID", "NAME:GROUP", "UID:GID", looked up in a container's own /etc/passwd and
// /etc/group by containerd's rules. Threads: any.
#pragma once

#include "client/rootfs.h"

#include <stdbool.h>
#include <stdint.h>

struct user_ids {
        uint32_t uid, gid;
        GArray *groups; // uint32_t: the primary one first, then those that list the user's name
};

// text NULL or "": root. rootfs NULL: it cannot be looked into; then only numbers are possible, and there are no
// further groups. INVALID_ARGUMENT: no such form, out of range; NOT_FOUND: unknown name.
bool user_resolve(const struct rootfs *rootfs, const char *text, struct user_ids *ret_ids, GError **error);
void user_ids_done(struct user_ids *ids);
