// SPDX-License-Identifier: Apache-2.0
//
// The mounts of a container's root file system pass through the mount manager: what only the daemon can make is made
// there, under the task's name, and the shim is told of the rest. It stays until the task is deleted, or its container
// is: garbage collection knows of it by a back reference. All on SLOW workers.
#include "plugins/runtime_v2/internal.h"

#include "base/log.h"
#include "core/mount_manager.h"

static GPtrArray *mounts_of(const struct task_create *create)
{
        GPtrArray *mounts = mounts_new();
        for (size_t i = 0; i < create->n_rootfs; i++) {
                const struct task_mount *mount = &create->rootfs[i];
                g_ptr_array_add(mounts, mount_new(mount->type, mount->source, mount->target, mount->options));
        }
        return mounts;
}

bool rootfs_activate(struct op *op)
{
        const struct task_create *create = op->create;
        struct mount_manager *manager = op->manager->mounts;
        if (manager == NULL || create->n_rootfs == 0)
                return true;
        g_autoptr(GPtrArray) mounts = mounts_of(create);
        struct label container = {"containerd.io/gc.bref.container", create->id};
        const struct mount_activation activation = {.name = create->id, .mounts = mounts, .labels = {&container, 1}};
        const struct scope scope = {.namespace_ = create->namespace_};
        g_autoptr(GError) error = NULL;
        op->arena = arena_new();
        op->rootfs = manager->ops->activate(manager, &scope, &activation, op->arena, &error);
        // An earlier task of this container was not deleted in full: its mounts are the same.
        if (error_is(error, ERROR_ALREADY_EXISTS)) {
                g_clear_error(&error);
                op->rootfs = manager->ops->info(manager, create->namespace_, create->id, op->arena, &error);
                g_prefix_error(&error, "failed to get info on already active mount: ");
        }
        op->task->may_have_mounts = op->rootfs != NULL;
        if (op->rootfs != NULL || error_is(error, ERROR_UNIMPLEMENTED)) // there is nothing to be made
                return true;
        op->error = g_steal_pointer(&error);
        return false;
}

void rootfs_deactivate(struct task *task)
{
        struct mount_manager *manager = task->manager->mounts;
        const struct bundle *bundle = task->bundle;
        g_autoptr(GError) error = NULL;
        if (manager != NULL && task->may_have_mounts &&
                !manager->ops->deactivate(manager, bundle->namespace_, bundle->id, &error) &&
                !error_is(error, ERROR_NOT_FOUND))
                log_error("failed to deactivate mounts", "task", bundle->id, "error", error->message);
}
