// SPDX-License-Identifier: Apache-2.0
//
// Mounts that the daemon makes for its clients and remembers by name: the instance of PLUGIN_MOUNT_MANAGER "bolt"
// (containerd's name for it). A list of mounts is activated up to the last one that only the daemon can make; the rest
// is left for the caller.
//
// Results live in the arena. Threads: SLOW workers, any number at a time.
#pragma once

#include "base/arena.h"
#include "base/mount.h"
#include "core/labels.h"
#include "core/scope.h"

#include "containerd/types.pb-c.h"

struct mount_manager;

struct mount_activation {
        const char *name;
        const GPtrArray *mounts; // of struct mount
        struct labels labels;
        bool temporary; // make all of them, and give out one bind mount of the result
        // Types that the caller makes itself although the manager could ("format/*"); NULL-terminated, NULL: none.
        const char *const *leave_types;
};

typedef bool (*mount_info_fn)(void *data, const Types__ActivationInfo *info);

struct mount_manager_ops {
        // UNIMPLEMENTED `not implemented` if there is nothing that the caller could not do itself: it then does.
        // ALREADY_EXISTS, INVALID_ARGUMENT; nothing stays mounted after a failure. Ends with the lease of the scope,
        // by garbage collection.
        const Types__ActivationInfo *(*activate)(struct mount_manager *manager, const struct scope *scope,
                const struct mount_activation *activation, struct arena *arena, GError **error);
        // NOT_FOUND.
        bool (*deactivate)(struct mount_manager *manager, const char *namespace_, const char *name, GError **error);
        const Types__ActivationInfo *(*info)(struct mount_manager *manager, const char *namespace_, const char *name,
                struct arena *arena, GError **error);
        // In the order of names; false from fn ends it.
        bool (*list)(struct mount_manager *manager, const char *namespace_, struct arena *arena, mount_info_fn fn,
                void *data, GError **error);
        // Unmounts what no record names. Garbage collection calls it after it removed records.
        bool (*cleanup)(struct mount_manager *manager, GError **error);
};

struct mount_manager {
        const struct mount_manager_ops *ops;
};
