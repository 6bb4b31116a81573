// SPDX-License-Identifier: Apache-2.0
//
// mount(2) takes at most a page of data. An overlay whose options are longer gets its lower directories by way of
// /proc/self/fd: of the directory that they share, which is opened once, or, if that is still too long (layers in
// several places), of each. The thread's working directory is nobody's business, so it is not used for that.
#include "sys/mounts.h"

#include "base/error.h"
#include "base/fd.h"
#include "sys/files.h"
#include "sys/loop_device.h"
#include "sys/spawn.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { HELPER_OUTPUT_BYTES = 16 * 1024, HELPER_TIMEOUT_MS = 60 * 1000, MAX_LAYERS = 500 };

// ---- overlays with many layers

static size_t page_bytes(void)
{
        return (size_t)sysconf(_SC_PAGESIZE);
}

// The longest directory that all paths are in, with its slash; NULL if it is only "/" or a path is not absolute.
static char *common_directory(char *const *paths)
{
        size_t length = strlen(paths[0]);
        for (char *const *path = paths; *path != NULL; path++) {
                size_t same = 0;
                while (same < length && (*path)[same] == paths[0][same])
                        same++;
                length = same;
        }
        while (length > 0 && paths[0][length - 1] != '/')
                length--;
        return length > 1 && paths[0][0] == '/' ? g_strndup(paths[0], length) : NULL;
}

// The data with `lowerdir` replaced by lower, last.
static char *data_with_lower(const char *data, const char *lower)
{
        g_auto(GStrv) words = g_strsplit(data, ",", -1);
        GString *text = g_string_new(NULL);
        for (char **word = words; *word != NULL; word++)
                if (!g_str_has_prefix(*word, "lowerdir="))
                        g_string_append_printf(text, "%s,", *word);
        g_string_append_printf(text, "lowerdir=%s", lower);
        return g_string_free(text, false);
}

struct layers {
        char *data;          // what to mount with; NULL: the options as they are
        int fds[MAX_LAYERS]; // kept until the mount is done
        size_t n_fds;
};

static void layers_done(struct layers *layers)
{
        for (size_t i = 0; i < layers->n_fds; i++)
                close(layers->fds[i]);
        g_free(layers->data);
}

// A descriptor of directory, kept in *layers; -1.
static int layers_open(struct layers *layers, const char *directory, GError **error)
{
        if (layers->n_fds == MAX_LAYERS) {
                error_fail(error, ERROR_INVALID_ARGUMENT, "overlay has more than %d layers", MAX_LAYERS);
                return -1;
        }
        int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                error_fail_errno(error, errno, "open lower directory \"%s\"", directory);
        else
                layers->fds[layers->n_fds++] = fd;
        return fd;
}

static bool layers_shorten(struct layers *layers, const struct mount *mount, const char *data, GError **error)
{
        const char *lowerdir = mount_option(mount, "lowerdir");
        if (!g_str_equal(mount->type, "overlay") || lowerdir == NULL || strlen(data) < page_bytes())
                return true;
        g_auto(GStrv) lower = g_strsplit(lowerdir, ":", -1);
        g_autofree char *common = common_directory(lower);
        g_autoptr(GString) paths = g_string_new(NULL);
        int common_fd = common != NULL ? layers_open(layers, common, error) : -1;
        if (common != NULL && common_fd < 0)
                return false;
        for (char **path = lower; common != NULL && *path != NULL; path++)
                g_string_append_printf(
                        paths, "%s/proc/self/fd/%d/%s", paths->len > 0 ? ":" : "", common_fd, *path + strlen(common));
        if (common == NULL || paths->len > page_bytes() / 4 * 3) {
                g_string_truncate(paths, 0);
                for (char **path = lower; *path != NULL; path++) {
                        int fd = layers_open(layers, *path, error);
                        if (fd < 0)
                                return false;
                        g_string_append_printf(paths, "%s/proc/self/fd/%d", paths->len > 0 ? ":" : "", fd);
                }
        }
        layers->data = data_with_lower(data, paths->str);
        return true;
}

static bool mount_system(
        const struct mount *m, const char *source, const char *target, struct mount_flags *flags, GError **error)
{
        struct layers layers = {0};
        if (!layers_shorten(&layers, m, flags->data->str, error)) {
                layers_done(&layers);
                return false;
        }
        const char *data = layers.data != NULL ? layers.data : flags->data->str;
        bool fits = strlen(data) < page_bytes();
        bool done = fits && mount(source, target, m->type, flags->flags, data) == 0;
        if (!fits)
                error_fail(error, ERROR_INVALID_ARGUMENT, "mount options is too long");
        else if (!done)
                error_fail_errno(error, errno,
                        "mount source: \"%s\", target: \"%s\", fstype: %s, flags: %lu, data: \"%s\", err", source,
                        target, m->type, flags->flags, data);
        layers_done(&layers);
        return done;
}

static bool mount_loop(const struct mount *mount, const char *target, struct mount_flags *flags, GError **error)
{
        struct loop_device_options options = {
                .read_only = (flags->flags & MS_RDONLY) != 0, .autoclear = true, .direct_io = flags->direct_io};
        fd_auto int device_fd = -1;
        g_autofree char *device = loop_device_attach(mount->source, &options, &device_fd, error);
        return device != NULL && mount_system(mount, device, target, flags, error);
}

// "fuse.NAME" and "fuse3.NAME" are mounted by mount.fuse and mount.fuse3.
static bool mount_with_helper(const struct mount *mount, const char *target, GError **error)
{
        const char *helper = g_str_has_prefix(mount->type, "fuse3.") ? "mount.fuse3" : "mount.fuse";
        g_autoptr(GPtrArray) argv = g_ptr_array_new();
        g_ptr_array_add(argv, (char *)helper);
        g_ptr_array_add(argv, mount->source);
        g_ptr_array_add(argv, (char *)target);
        for (char **option = mount->options; *option != NULL; option++) {
                g_ptr_array_add(argv, (char *)"-o");
                g_ptr_array_add(argv, *option);
        }
        g_ptr_array_add(argv, (char *)"-t");
        g_ptr_array_add(argv, strchr(mount->type, '.') + 1);
        g_ptr_array_add(argv, NULL);
        struct spawn_options options = {.path = helper, .argv = (const char *const *)argv->pdata};
        struct spawn_output output;
        if (!spawn_collect(&options, HELPER_OUTPUT_BYTES, HELPER_TIMEOUT_MS, &output, error)) {
                g_prefix_error(error, "mount helper [%s] failed: ", helper);
                return false;
        }
        bool ok = child_exit_code(output.status) == 0;
        if (!ok)
                error_fail(error, ERROR_UNKNOWN, "mount helper [%s] failed: \"%s%s\": exit status %d", helper,
                        output.out->str, output.err->str, child_exit_code(output.status));
        spawn_output_done(&output);
        return ok;
}

// The flags of the mount at target that a user namespace may not clear.
static unsigned long locked_flags(const char *target)
{
        static const struct {
                unsigned long statvfs, mount;
        } table[] = {
                {ST_RDONLY, MS_RDONLY},
                {ST_NODEV, MS_NODEV},
                {ST_NOEXEC, MS_NOEXEC},
                {ST_NOSUID, MS_NOSUID},
                {ST_NOATIME, MS_NOATIME},
                {ST_RELATIME, MS_RELATIME},
                {ST_NODIRATIME, MS_NODIRATIME},
        };
        struct statvfs status;
        unsigned long flags = 0;
        if (statvfs(target, &status) == 0)
                for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
                        if ((status.f_flag & table[i].statvfs) != 0)
                                flags |= table[i].mount;
        return flags;
}

// A new bind mount ignores "ro": it takes a second call.
static bool make_bind_read_only(const char *target, unsigned long flags, GError **error)
{
        if (mount("", target, "", flags | MS_REMOUNT, NULL) == 0 ||
                (errno == EPERM && mount("", target, "", flags | MS_REMOUNT | locked_flags(target), NULL) == 0))
                return true;
        return error_fail_errno(error, errno, "remount \"%s\" read-only", target);
}

static bool apply_at(const struct mount *m, const char *target, struct mount_flags *flags, GError **error)
{
        if (flags->uidmap != NULL || flags->gidmap != NULL)
                return error_fail(error, ERROR_UNIMPLEMENTED,
                        "mount \"%s\": id-mapped mounts are not supported: not implemented", m->source);
        if ((flags->flags & MS_REMOUNT) == 0 || flags->data->len > 0) {
                bool done = flags->loop ? mount_loop(m, target, flags, error)
                                        : mount_system(m, m->source, target, flags, error);
                if (!done)
                        return false;
        }
        if (flags->spread != 0 && mount("", target, "", flags->spread, NULL) != 0)
                return error_fail_errno(error, errno, "change propagation of \"%s\"", target);
        const unsigned long read_only_bind = MS_BIND | MS_RDONLY;
        if ((flags->flags & read_only_bind) == read_only_bind)
                return make_bind_read_only(target, flags->flags, error);
        return true;
}

// The mount's own target is joined component by component: it comes from a client, the directory from whoever filled
// it, so neither ".." nor a symbolic link may lead out.
static char *join_target(const struct mount *mount, const char *target, GError **error)
{
        if (mount->target[0] == '\0')
                return g_canonicalize_filename(target, NULL);
        fd_auto int root = open(target, O_PATH | O_DIRECTORY | O_CLOEXEC);
        fd_auto int fd =
                root >= 0 ? file_open_resolved(root, mount->target, O_PATH, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
                          : -1;
        if (fd < 0) {
                error_fail_errno(error, errno, "open mount target \"%s\" in \"%s\"", mount->target, target);
                return NULL;
        }
        g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
        g_autofree char *path = g_file_read_link(link, NULL);
        if (path == NULL)
                error_fail_errno(error, errno, "resolve mount target \"%s\"", mount->target);
        return g_steal_pointer(&path);
}

bool mount_apply(const struct mount *mount, const char *target, GError **error)
{
        g_autofree char *path = join_target(mount, target, error);
        if (path == NULL)
                return false;
        if (g_str_has_prefix(mount->type, "fuse.") || g_str_has_prefix(mount->type, "fuse3."))
                return mount_with_helper(mount, path, error);
        struct mount_flags flags;
        if (!mount_flags_init(&flags, mount, error))
                return false;
        bool ok = apply_at(mount, path, &flags, error);
        mount_flags_done(&flags);
        return ok;
}

bool mounts_apply(const GPtrArray *mounts, const char *target, GError **error)
{
        for (guint i = 0; i < mounts->len; i++)
                if (!mount_apply(mounts->pdata[i], target, error)) {
                        if (i > 0)
                                mount_unmount_recursive(target, 0, NULL);
                        return false;
                }
        return true;
}

bool mount_all(const struct mount_request *requests, size_t n_requests, const char *directory, GError **error)
{
        for (size_t i = 0; i < n_requests; i++) {
                g_autofree const char **options = g_new0(const char *, requests[i].n_options + 1);
                memcpy(options, requests[i].options, requests[i].n_options * sizeof *options);
                AUTO(mount) mount = mount_new(requests[i].type, requests[i].source, requests[i].target, options);
                if (!mount_apply(mount, directory, error))
                        return false;
        }
        return true;
}

GPtrArray *mounts_read_only(const GPtrArray *mounts)
{
        GPtrArray *list = mounts_new();
        for (guint i = 0; i < mounts->len; i++) {
                const struct mount *mount = mounts->pdata[i];
                g_autoptr(GPtrArray) options = g_ptr_array_new_with_free_func(g_free);
                const char *upper = mount_option(mount, "upperdir");
                bool overlay = g_str_equal(mount->type, "overlay");
                for (char **option = mount->options; *option != NULL; option++) {
                        if (overlay &&
                                (g_str_has_prefix(*option, "upperdir=") || g_str_has_prefix(*option, "workdir=")))
                                continue;
                        if (overlay && upper != NULL && g_str_has_prefix(*option, "lowerdir="))
                                g_ptr_array_add(options,
                                        g_strdup_printf("lowerdir=%s:%s", upper, *option + strlen("lowerdir=")));
                        else if (!g_str_equal(*option, "rw") && !g_str_equal(*option, "ro"))
                                g_ptr_array_add(options, g_strdup(*option));
                }
                if (!overlay)
                        g_ptr_array_add(options, g_strdup("ro"));
                g_ptr_array_add(options, NULL);
                g_ptr_array_add(list,
                        mount_new(mount->type, mount->source, mount->target, (const char *const *)options->pdata));
        }
        return list;
}
