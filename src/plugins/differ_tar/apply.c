// SPDX-License-Identifier: Apache-2.0
//
// An overlay's upper directory and a bind mount's source are filled as they are; anything else is mounted for the time
// being, before the unpacking begins and until it has ended.
#include "plugins/differ_tar/differ.h"

#include "sys/mounts.h"

#include <stdatomic.h>
#include <string.h>

struct differ_apply {
        atomic_int references;
        struct differ_tar *differ;
        unpack_done_fn done;
        void *data;
        bool rebased;
        GPtrArray *mounts;
        char *temporary; // mount point; NULL: none
        struct unpack *unpack;
        GError *refused; // the media type
};

void differ_tar_unref(struct differ_apply *apply)
{
        if (apply == NULL || atomic_fetch_sub(&apply->references, 1) != 1)
                return;
        unpack_unref(apply->unpack);
        g_ptr_array_unref(apply->mounts);
        g_clear_error(&apply->refused);
        g_free(apply);
}

static void on_unpacked(void *data, const struct unpack_result *result, const GError *error)
{
        struct differ_apply *apply = data;
        g_autoptr(GError) unmounted = NULL;
        if (apply->temporary != NULL && !mount_temp_remove(g_steal_pointer(&apply->temporary), &unmounted) &&
                error == NULL) {
                result = NULL;
                error = unmounted;
        }
        apply->done(apply->data, result, error);
        differ_tar_unref(apply);
}

// ---- where to

static bool has_option(const struct mount *mount, const char *option)
{
        return g_strv_contains((const char *const *)mount->options, option);
}

// NULL: the mounts are no overlay with an upper directory.
static char **overlay_parents(const GPtrArray *mounts)
{
        const struct mount *first = mounts->len == 1 ? g_ptr_array_index(mounts, 0) : NULL;
        if (first == NULL || strcmp(first->type, "overlay") != 0 || mount_option(first, "upperdir") == NULL)
                return NULL;
        const char *lower = mount_option(first, "lowerdir");
        return g_strsplit(lower != NULL ? lower : "", ":", -1);
}

static bool locate(void *data, struct unpack_place *ret_place, GError **error)
{
        struct differ_apply *apply = data;
        if (apply->refused != NULL) {
                g_propagate_error(error, g_steal_pointer(&apply->refused));
                return false;
        }
        const struct mount *first = apply->mounts->len == 1 ? g_ptr_array_index(apply->mounts, 0) : NULL;
        char **parents = overlay_parents(apply->mounts);
        if (parents != NULL) {
                *ret_place = (struct unpack_place){g_strdup(mount_option(first, "upperdir")), parents, true};
                return true;
        }
        if (first != NULL && strcmp(first->type, "bind") == 0 && *first->target == '\0' && !has_option(first, "ro")) {
                *ret_place = (struct unpack_place){g_strdup(first->source), NULL, apply->rebased};
                return true;
        }
        if (apply->rebased)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "no upper directory that can be put on others");
        apply->temporary = mount_temp(apply->mounts, apply->differ->mounts_dir, false, error);
        if (apply->temporary == NULL)
                return false;
        *ret_place = (struct unpack_place){.directory = g_strdup(apply->temporary)};
        return true;
}

struct differ_apply *differ_tar_apply(
        struct differ *differ, const struct differ_apply_request *request, unpack_done_fn done, void *data)
{
        struct differ_apply *apply = g_new0(struct differ_apply, 1);
        apply->references = 2; // the caller's and the operation's
        apply->differ = (struct differ_tar *)differ;
        apply->done = done;
        apply->data = data;
        apply->rebased = request->rebased;
        apply->mounts = mounts_copy(request->mounts);
        struct unpack_request unpacked = {
                .fd = request->fd,
                .available_bytes = request->available_bytes,
                .complete = request->complete,
                .sync_fs = request->sync_fs,
                .settle_later = request->rebased,
                .cancel = request->cancel,
                .locate = locate,
        };
        unpack_media_type(request->media_type, &unpacked.compressed, &apply->refused);
        apply->unpack = unpack_start(differ->unpacker, &unpacked, on_unpacked, apply);
        return apply;
}

// ---- from outside

bool differ_tar_settle(struct differ_apply *apply, const GPtrArray *mounts, GError **error)
{
        g_auto(GStrv) parents = overlay_parents(mounts);
        if (parents == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "no overlay to settle a layer on");
        return unpack_settle(apply->unpack, (const char *const *)parents, error);
}

void differ_tar_advance(struct differ_apply *apply, int64_t available_bytes, bool complete)
{
        unpack_advance(apply->unpack, available_bytes, complete);
}

void differ_tar_abort(struct differ_apply *apply, const GError *reason)
{
        unpack_abort(apply->unpack, reason);
}
