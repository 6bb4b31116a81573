// SPDX-License-Identifier: Apache-2.0
//
// A mount in containerd's terms, as data: what snapshots give out, what tasks and clients are told to mount. Making it
// is sys/mounts.h. Threads: any, one at a time.
#pragma once

#include "base/auto.h"

#include <glib.h>

struct mount {
        char *type, *source;
        char *target;   // path below the mount point that is passed with it, usually ""
        char **options; // NULL-terminated, never NULL
};

// Copies everything; options (NULL-terminated) may be NULL.
struct mount *mount_new(const char *type, const char *source, const char *target, const char *const *options);
struct mount *mount_copy(const struct mount *mount);
void mount_free(struct mount *mount);
DEFINE_AUTO(mount, mount_free)
// A list of struct mount that owns them.
GPtrArray *mounts_new(void);
GPtrArray *mounts_copy(const GPtrArray *mounts);

// The value of the first option "KEY=value"; NULL: none.
const char *mount_option(const struct mount *mount, const char *key);
