// SPDX-License-Identifier: Apache-2.0
//
// A checkpoint is packed and unpacked as a layer without parents, by the differ's jailed workers: that its bytes came
// from this host once does not make a blob trusted.
#include "core/checkpoint.h"

#include "base/fd.h"
#include "base/log.h"
#include "io/lanes.h"
#include "sys/tree.h"

#include <stdlib.h>

#define MEDIA_TYPE_TAR "application/vnd.oci.image.layer.v1.tar"

struct checkpoints {
        struct differ *differ;
        struct content_store *content;
        struct lanes *lanes;
        char *directory;
};

struct checkpoints *checkpoints_new(
        struct differ *differ, struct content_store *content, struct lanes *lanes, const char *directory)
{
        struct checkpoints *checkpoints = g_new(struct checkpoints, 1);
        *checkpoints = (struct checkpoints){differ, content, lanes, g_strdup(directory)};
        g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
        for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
                g_autofree char *path = g_build_filename(directory, name, NULL);
                tree_remove(path, NULL);
        }
        return checkpoints;
}

void checkpoints_free(struct checkpoints *checkpoints)
{
        if (checkpoints == NULL)
                return;
        g_free(checkpoints->directory);
        g_free(checkpoints);
}

char *checkpoints_make_directory(struct checkpoints *checkpoints, GError **error)
{
        g_autofree char *path = g_build_filename(checkpoints->directory, "XXXXXX", NULL);
        if (mkdtemp(path) != NULL)
                return g_steal_pointer(&path);
        error_fail_errno(error, errno, "make directory %s", path);
        return NULL;
}

static void remove_directory(void *data)
{
        g_autofree char *path = data;
        g_autoptr(GError) error = NULL;
        if (!tree_remove(path, &error))
                log_warn("cannot remove checkpoint", "path", path, "error", error->message);
}

void checkpoints_remove_directory(struct checkpoints *checkpoints, char *path)
{
        if (path != NULL)
                lanes_submit(checkpoints->lanes, LANE_SLOW, remove_directory, path);
}

static GPtrArray *bind_of(const char *directory, const char *access)
{
        GPtrArray *mounts = mounts_new();
        g_ptr_array_add(mounts, mount_new("bind", directory, "", (const char *const[]){"rbind", access, NULL}));
        return mounts;
}

void checkpoints_save(struct checkpoints *checkpoints, const struct scope *scope, const char *directory,
        struct cancel *cancel, differ_compare_fn done, void *data)
{
        g_autoptr(GPtrArray) lower = mounts_new(), upper = bind_of(directory, "ro");
        const struct differ_compare_request request = {
                .lower = lower,
                .upper = upper,
                .media_type = MEDIA_TYPE_TAR,
                .ref = directory,
                .cancel = cancel,
        };
        checkpoints->differ->ops->compare(checkpoints->differ, scope, &request, done, data);
}

struct loading {
        struct checkpoints *checkpoints;
        char *directory;
        checkpoints_load_fn done;
        void *data;
};

static void on_applied(void *data, const struct unpack_result *result, const GError *error)
{
        struct loading *loading = data;
        if (error != NULL)
                checkpoints_remove_directory(loading->checkpoints, g_steal_pointer(&loading->directory));
        loading->done(loading->data, loading->directory, error);
        g_free(loading);
}

bool checkpoints_load(struct checkpoints *checkpoints, const struct scope *scope, const char *digest,
        struct cancel *cancel, checkpoints_load_fn done, void *data, GError **error)
{
        int64_t size;
        fd_auto int fd = checkpoints->content->ops->open(checkpoints->content, scope, digest, &size, error);
        g_autofree char *directory = fd >= 0 ? checkpoints_make_directory(checkpoints, error) : NULL;
        if (directory == NULL)
                return false;
        g_autoptr(GPtrArray) mounts = bind_of(directory, "rw");
        struct differ_apply_request request = {
                .media_type = MEDIA_TYPE_TAR,
                .fd = fd,
                .available_bytes = size,
                .complete = true,
                .mounts = mounts,
                .cancel = cancel,
        };
        struct loading *loading = g_new(struct loading, 1);
        *loading = (struct loading){checkpoints, g_steal_pointer(&directory), done, data};
        const struct differ_ops *ops = checkpoints->differ->ops;
        ops->unref(ops->apply(checkpoints->differ, &request, on_applied, loading));
        return true;
}
