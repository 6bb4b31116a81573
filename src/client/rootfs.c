// SPDX-License-Identifier: Apache-2.0
//
// The image's author chose what lies in these directories, and we may be root: so no path is ever given to the kernel
// that it could follow out of them. Paths are walked name by name; symbolic links are resolved here, against the merged
// tree; the kernel gets only paths without links, with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS. Merging is overlayfs's:
// the topmost layer that has the name counts, a character device 0:0 says that it was removed, and a directory marked
// opaque hides what lies below it.
#include "client/rootfs.h"

#include "base/error.h"
#include "base/fd.h"
#include "sys/files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MAX_LINKS = 40 };

struct rootfs {
        GArray *layers; // int, the topmost first
};

static int open_beneath(int directory, const char *path, int flags)
{
        return file_open_resolved(
                directory, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

// ---- layers

static struct rootfs *rootfs_new(void)
{
        struct rootfs *rootfs = g_new0(struct rootfs, 1);
        rootfs->layers = g_array_new(FALSE, FALSE, sizeof(int));
        return rootfs;
}

void rootfs_free(struct rootfs *rootfs)
{
        if (rootfs == NULL)
                return;
        for (guint i = 0; i < rootfs->layers->len; i++)
                close(g_array_index(rootfs->layers, int, i));
        g_array_free(rootfs->layers, TRUE);
        g_free(rootfs);
}

static bool add_layer(struct rootfs *rootfs, const char *path, GError **error)
{
        int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && (errno == EACCES || errno == EPERM))
                return error_fail(error, ERROR_PERMISSION_DENIED, "open %s: permission denied", path);
        if (fd < 0)
                return error_fail_errno(error, errno, "open %s", path);
        g_array_append_val(rootfs->layers, fd);
        return true;
}

struct rootfs *rootfs_open_directory(const char *path, GError **error)
{
        AUTO(rootfs) rootfs = rootfs_new();
        return add_layer(rootfs, path, error) ? g_steal_pointer(&rootfs) : NULL;
}

static const char *option(const Types__Mount *mount, const char *prefix)
{
        for (size_t i = 0; i < mount->n_options; i++) {
                if (g_str_has_prefix(mount->options[i], prefix))
                        return mount->options[i] + strlen(prefix);
        }
        return NULL;
}

static bool add_overlay(struct rootfs *rootfs, const Types__Mount *mount, GError **error)
{
        const char *upper = option(mount, "upperdir="), *lower = option(mount, "lowerdir=");
        if (lower == NULL || strchr(lower, '\\') != NULL || strstr(lower, "::") != NULL)
                return error_fail(error, ERROR_UNIMPLEMENTED, "overlay with unusual layers");
        if (upper != NULL && !add_layer(rootfs, upper, error))
                return false;
        g_auto(GStrv) paths = g_strsplit(lower, ":", -1);
        for (size_t i = 0; paths[i] != NULL; i++) {
                if (!add_layer(rootfs, paths[i], error))
                        return false;
        }
        return true;
}

struct rootfs *rootfs_open(Types__Mount *const *mounts, size_t n_mounts, GError **error)
{
        AUTO(rootfs) rootfs = rootfs_new();
        bool ok = false;
        if (n_mounts != 1 || *mounts[0]->target != '\0')
                error_fail(error, ERROR_UNIMPLEMENTED, "a root file system of %zu mounts", n_mounts);
        else if (strcmp(mounts[0]->type, "bind") == 0)
                ok = add_layer(rootfs, mounts[0]->source, error);
        else if (strcmp(mounts[0]->type, "overlay") == 0)
                ok = add_overlay(rootfs, mounts[0], error);
        else
                error_fail(error, ERROR_UNIMPLEMENTED, "a root file system of type %s", mounts[0]->type);
        return ok ? g_steal_pointer(&rootfs) : NULL;
}

// ---- the merged tree

static bool is_opaque(int layer, const char *directory)
{
        fd_auto int fd = open_beneath(layer, directory, O_RDONLY | O_DIRECTORY);
        char value[2] = "";
        return fd >= 0 && ((fgetxattr(fd, "trusted.overlay.opaque", value, 1) == 1 && value[0] == 'y') ||
                                  (fgetxattr(fd, "user.overlay.opaque", value, 1) == 1 && value[0] == 'y'));
}

// True if some directory above path, in this layer, hides the layers below it.
static bool hides_below(int layer, const char *path)
{
        g_autofree char *directory = g_strdup(path);
        char *slash;
        while ((slash = strrchr(directory, '/')) != NULL) {
                *slash = '\0';
                if (is_opaque(layer, directory))
                        return true;
        }
        return false;
}

// Finds path (without links in its directories): its layer's descriptor and what it is; -1: not there.
static int lookup(const struct rootfs *rootfs, const char *path, struct stat *ret_info)
{
        for (guint i = 0; i < rootfs->layers->len; i++) {
                int layer = g_array_index(rootfs->layers, int, i);
                fd_auto int fd = open_beneath(layer, path, O_PATH | O_NOFOLLOW);
                if (fd >= 0) {
                        if (fstat(fd, ret_info) != 0)
                                return -1;
                        bool removed = S_ISCHR(ret_info->st_mode) && ret_info->st_rdev == makedev(0, 0);
                        return removed ? -1 : layer;
                }
                // Only a name that is missing lets the next layer show; a file or link where a directory is hides it.
                if (errno != ENOENT || hides_below(layer, path))
                        return -1;
        }
        return -1;
}

static char *read_link(int layer, const char *path)
{
        fd_auto int fd = open_beneath(layer, path, O_PATH | O_NOFOLLOW);
        char target[PATH_MAX];
        ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", target, sizeof(target));
        return n <= 0 || (size_t)n == sizeof(target) ? NULL : g_strndup(target, (gsize)n);
}

static void push_names(GQueue *names, const char *path)
{
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);
        for (size_t i = g_strv_length(parts); i > 0; i--) {
                if (*parts[i - 1] != '\0' && strcmp(parts[i - 1], ".") != 0)
                        g_queue_push_head(names, g_strdup(parts[i - 1]));
        }
}

static void to_parent(GString *path)
{
        const char *slash = strrchr(path->str, '/');
        g_string_truncate(path, slash == NULL ? 0 : (gsize)(slash - path->str));
}

// One name further: appends it to at, or puts what its link says in front of the names that are left.
static bool step(const struct rootfs *rootfs, GString *at, const char *name, GQueue *names)
{
        if (strcmp(name, "..") == 0) {
                to_parent(at);
                return true;
        }
        if (at->len > 0)
                g_string_append_c(at, '/');
        g_string_append(at, name);
        struct stat info;
        int layer = lookup(rootfs, at->str, &info);
        if (layer < 0)
                return false;
        if (!S_ISLNK(info.st_mode))
                return true;
        g_autofree char *target = read_link(layer, at->str);
        if (target == NULL)
                return false;
        if (*target == '/')
                g_string_truncate(at, 0);
        else
                to_parent(at);
        push_names(names, target);
        return true;
}

// The path without links; NULL: not there, or too many links.
static char *resolve(const struct rootfs *rootfs, const char *path)
{
        GQueue names = G_QUEUE_INIT;
        push_names(&names, path);
        GString *at = g_string_new(NULL);
        bool found = true;
        for (unsigned steps = 0; found && !g_queue_is_empty(&names); steps++) {
                g_autofree char *name = g_queue_pop_head(&names);
                found = steps < MAX_LINKS * 8 && at->len < PATH_MAX && step(rootfs, at, name, &names);
        }
        g_queue_clear_full(&names, g_free);
        return g_string_free(at, !found);
}

// ---- reading

static GString *read_regular(int fd, size_t max_bytes, GError **error)
{
        struct stat info;
        if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
                error_fail(error, ERROR_INVALID_ARGUMENT, "not a regular file");
                return NULL;
        }
        g_autoptr(GString) text = g_string_new(NULL);
        char buffer[8192];
        ssize_t n;
        while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
                if (text->len + (size_t)n > max_bytes) {
                        error_fail(error, ERROR_RESOURCE_EXHAUSTED, "larger than %zu bytes", max_bytes);
                        return NULL;
                }
                g_string_append_len(text, buffer, n);
        }
        if (n < 0) {
                error_fail_errno(error, errno, "read");
                return NULL;
        }
        return g_steal_pointer(&text);
}

GString *rootfs_read(const struct rootfs *rootfs, const char *path, size_t max_bytes, GError **error)
{
        g_autofree char *at = resolve(rootfs, path);
        struct stat info;
        int layer = at == NULL ? -1 : lookup(rootfs, at, &info);
        if (layer < 0) {
                error_fail(error, ERROR_NOT_FOUND, "%s: not found", path);
                return NULL;
        }
        // O_NONBLOCK: a fifo in its place must not stop us.
        fd_auto int fd = S_ISREG(info.st_mode) ? open_beneath(layer, at, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) : -1;
        GString *text = NULL;
        if (fd < 0)
                error_fail(error, ERROR_INVALID_ARGUMENT, "not a regular file");
        else
                text = read_regular(fd, max_bytes, error);
        if (text == NULL)
                g_prefix_error(error, "%s: ", path);
        return text;
}
