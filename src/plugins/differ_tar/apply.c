// SPDX-License-Identifier: Apache-2.0
//
// An overlay's upper directory and a bind mount's source are filled as they are; anything else is mounted for the time
// being. Mounting waits for the kernel and is done on the strand; what comes from outside before the unpacking has
// begun is handed on then.
#include "plugins/differ_tar/differ.h"

#include "base/fd.h"
#include "io/cancel.h"
#include "sys/mounts.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

struct differ_apply {
        atomic_int references;
        struct differ_tar *differ;
        struct strand *strand;
        struct cancel *cancel;
        unpack_done_fn done;
        void *data;
        char *media_type;
        int fd;
        int64_t available;
        bool complete, sync_fs, rebased;
        GPtrArray *mounts;
        char *temporary; // mount point; NULL: none
        struct unpack *unpack;
        GError *reason;
};

static struct differ_apply *apply_ref(struct differ_apply *apply)
{
        atomic_fetch_add(&apply->references, 1);
        return apply;
}

void differ_tar_unref(struct differ_apply *apply)
{
        if (apply == NULL || atomic_fetch_sub(&apply->references, 1) != 1)
                return;
        unpack_unref(apply->unpack);
        g_ptr_array_unref(apply->mounts);
        fd_close(&apply->fd);
        cancel_unref(apply->cancel);
        strand_unref(apply->strand);
        g_clear_error(&apply->reason);
        g_free(apply->media_type);
        g_free(apply);
}

static void finish(struct differ_apply *apply, const struct unpack_result *result, const GError *error)
{
        g_autoptr(GError) unmounted = NULL;
        if (apply->temporary != NULL && !mount_temp_remove(g_steal_pointer(&apply->temporary), &unmounted) &&
                error == NULL) {
                result = NULL;
                error = unmounted;
        }
        apply->done(apply->data, result, error);
        differ_tar_unref(apply);
}

static void on_unpacked(void *data, const struct unpack_result *result, const GError *error)
{
        finish(data, result, error);
}

// ---- where to

struct target {
        const char *directory;
        char **parents; // owned
        bool overlay;
};

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

static bool find_target(struct differ_apply *apply, struct target *target, GError **error)
{
        const struct mount *first = apply->mounts->len == 1 ? g_ptr_array_index(apply->mounts, 0) : NULL;
        target->parents = overlay_parents(apply->mounts);
        if (target->parents != NULL) {
                target->directory = mount_option(first, "upperdir");
                target->overlay = true;
                return true;
        }
        if (first != NULL && strcmp(first->type, "bind") == 0 && *first->target == '\0' && !has_option(first, "ro")) {
                target->directory = first->source;
                target->overlay = apply->rebased;
                return true;
        }
        if (apply->rebased)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "no upper directory that can be put on others");
        apply->temporary = mount_temp(apply->mounts, apply->differ->mounts_dir, false, error);
        target->directory = apply->temporary;
        return apply->temporary != NULL;
}

static bool start_unpack(struct differ_apply *apply, GError **error)
{
        bool compressed;
        struct target target = {0};
        if (!unpack_media_type(apply->media_type, &compressed, error) || !find_target(apply, &target, error))
                return false;
        struct unpack_request request = {
                .fd = apply->fd,
                .available_bytes = apply->available,
                .complete = apply->complete,
                .compressed = compressed,
                .directory = target.directory,
                .parents = (const char *const *)target.parents,
                .overlay = target.overlay,
                .sync_fs = apply->sync_fs,
                .settle_later = apply->rebased,
                .cancel = apply->cancel,
        };
        apply->unpack = unpack_start(apply->differ->differ.unpacker, &request, on_unpacked, apply);
        g_strfreev(target.parents);
        return true;
}

static void begin(void *data)
{
        struct differ_apply *apply = data;
        g_autoptr(GError) error = NULL;
        atomic_fetch_add(&apply->references, 1); // ours: an unpack that fails at once ends before its start returns
        if (apply->reason != NULL)
                finish(apply, NULL, apply->reason);
        else if (!start_unpack(apply, &error))
                finish(apply, NULL, error);
        differ_tar_unref(apply);
}

struct differ_apply *differ_tar_apply(
        struct differ *differ, const struct differ_apply_request *request, unpack_done_fn done, void *data)
{
        struct differ_apply *apply = g_new0(struct differ_apply, 1);
        apply->references = 2; // the caller's and the operation's
        apply->differ = (struct differ_tar *)differ;
        apply->strand = strand_new(apply->differ->lanes, LANE_SLOW);
        apply->cancel = request->cancel != NULL ? cancel_ref(request->cancel) : NULL;
        apply->done = done;
        apply->data = data;
        apply->media_type = g_strdup(request->media_type);
        apply->fd = fcntl(request->fd, F_DUPFD_CLOEXEC, 0);
        apply->available = request->available_bytes;
        apply->complete = request->complete;
        apply->sync_fs = request->sync_fs;
        apply->rebased = request->rebased;
        apply->mounts = mounts_new();
        for (guint i = 0; i < request->mounts->len; i++)
                g_ptr_array_add(apply->mounts, mount_copy(g_ptr_array_index(request->mounts, i)));
        strand_submit(apply->strand, begin, apply);
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

struct notice {
        struct differ_apply *apply;
        int64_t available;
        bool complete;
        GError *reason;
};

static void take_notice(void *data)
{
        struct notice *notice = data;
        struct differ_apply *apply = notice->apply;
        if (notice->reason == NULL) {
                apply->available = notice->available;
                apply->complete = notice->complete;
                if (apply->unpack != NULL)
                        unpack_advance(apply->unpack, notice->available, notice->complete);
        } else if (apply->unpack != NULL) {
                unpack_abort(apply->unpack, notice->reason);
        } else if (apply->reason == NULL) {
                apply->reason = g_steal_pointer(&notice->reason);
        }
        g_clear_error(&notice->reason);
        differ_tar_unref(apply);
        g_free(notice);
}

static void submit_notice(struct differ_apply *apply, const struct notice *template)
{
        struct notice *notice = g_new(struct notice, 1);
        *notice = *template;
        notice->apply = apply_ref(apply);
        strand_submit(apply->strand, take_notice, notice);
}

void differ_tar_advance(struct differ_apply *apply, int64_t available_bytes, bool complete)
{
        submit_notice(apply, &(struct notice){.available = available_bytes, .complete = complete});
}

void differ_tar_abort(struct differ_apply *apply, const GError *reason)
{
        GError *error = reason != NULL ? g_error_copy(reason) : g_error_new(SKIFF_ERROR, ERROR_CANCELED, "canceled");
        submit_notice(apply, &(struct notice){.reason = error});
}
