// SPDX-License-Identifier: Apache-2.0
//
// Which mounts of a list the manager makes, and what happens to each before that. Threads: any.
#pragma once

#include "core/mount_manager.h"
#include "plugins/mounts/transform.h"

struct plan {
        GPtrArray *mounts;     // of struct mount: copies with their plain types
        GPtrArray *transforms; // for each, a GPtrArray of transform_fn
        guint n_made;          // so many of the first ones are the manager's
};

// UNIMPLEMENTED if none is.
bool plan_init(struct plan *plan, const struct mount_activation *activation, GError **error);
void plan_done(struct plan *plan);
// Applies the transformations of a mount.
bool plan_transform(struct plan *plan, guint index, const struct transform_context *context, GError **error);
