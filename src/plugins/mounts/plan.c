// SPDX-License-Identifier: Apache-2.0
//
// A mount with a transformation needs everything before it to be mounted, itself it is left to the caller once it is
// transformed. So the manager makes what stands before the last of them; for a temporary activation, everything.
#include "plugins/mounts/plan.h"

#include "base/error.h"

#include <string.h>

// Whether the caller said that it handles "NAME/…" or exactly this type itself.
static bool is_left(const struct mount_activation *activation, const char *name, const char *type)
{
        for (const char *const *left = activation->leave_types; left != NULL && *left != NULL; left++) {
                size_t length = strlen(name);
                bool prefix = strncmp(*left, name, length) == 0 && strcmp(*left + length, "/*") == 0;
                if (prefix || strcmp(*left, type) == 0)
                        return true;
        }
        return false;
}

// Takes the names of transformations off the type. True: one of them is the manager's to do.
static bool add_transforms(struct mount *mount, GPtrArray *transforms, const struct mount_activation *activation)
{
        bool ours = false;
        g_autofree char *type = g_strdup(mount->type);
        for (char *slash; (slash = strchr(mount->type, '/')) != NULL;) {
                g_autofree char *name = g_strndup(mount->type, (gsize)(slash - mount->type));
                transform_fn transform = transform_find(name);
                if (transform == NULL)
                        break;
                ours = ours || !is_left(activation, name, type);
                g_ptr_array_add(transforms, (gpointer)transform);
                char *rest = g_strdup(slash + 1);
                g_free(mount->type);
                mount->type = rest;
        }
        return ours;
}

bool plan_init(struct plan *plan, const struct mount_activation *activation, GError **error)
{
        *plan = (struct plan){
                .mounts = mounts_new(),
                .transforms = g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref),
        };
        bool any = activation->temporary && activation->mounts->len > 0;
        for (guint i = 0; i < activation->mounts->len; i++) {
                struct mount *mount = mount_copy(activation->mounts->pdata[i]);
                GPtrArray *transforms = g_ptr_array_new();
                g_ptr_array_add(plan->mounts, mount);
                g_ptr_array_add(plan->transforms, transforms);
                if (add_transforms(mount, transforms, activation)) {
                        plan->n_made = i;
                        any = true;
                }
        }
        if (activation->temporary)
                plan->n_made = activation->mounts->len;
        // What comes after the first one for the caller has transformations only if the caller does them.
        for (guint i = plan->n_made + 1; i < plan->mounts->len; i++) {
                mount_free(plan->mounts->pdata[i]);
                plan->mounts->pdata[i] = mount_copy(activation->mounts->pdata[i]);
        }
        if (any)
                return true;
        plan_done(plan);
        return error_fail(error, ERROR_UNIMPLEMENTED, "not implemented");
}

void plan_done(struct plan *plan)
{
        g_ptr_array_free(plan->mounts, true);
        g_ptr_array_free(plan->transforms, true);
}

bool plan_transform(struct plan *plan, guint index, const struct transform_context *context, GError **error)
{
        const GPtrArray *transforms = plan->transforms->pdata[index];
        for (guint i = 0; i < transforms->len; i++) {
                transform_fn transform = (transform_fn)transforms->pdata[i];
                if (!transform(plan->mounts->pdata[index], context, error))
                        return false;
        }
        return true;
}
