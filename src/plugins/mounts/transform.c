// SPDX-License-Identifier: Apache-2.0
//
// Paths that a client names are made below the roots only, and resolved so that no link leads out of them.
#include "plugins/mounts/transform.h"

#include "base/fd.h"
#include "plugins/mounts/format.h"
#include "sys/files.h"
#include "sys/spawn.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MKFS_OUTPUT_BYTES = 16 * 1024, MKFS_TIMEOUT_MS = 5 * 60 * 1000 };

#define MKDIR_OPTION "X-containerd.mkdir."
#define MKFS_OPTION "X-containerd.mkfs."

// ---- format

static bool expand(char **text, const struct transform_context *context, GError **error)
{
        if (strstr(*text, "{{") == NULL)
                return true;
        char *expanded = format_expand(*text, context, error);
        if (expanded == NULL)
                return false;
        g_free(*text);
        *text = expanded;
        return true;
}

static bool format(struct mount *mount, const struct transform_context *context, GError **error)
{
        bool ok = expand(&mount->source, context, error) && expand(&mount->target, context, error);
        for (char **option = mount->options; ok && *option != NULL; option++)
                ok = expand(option, context, error);
        return ok;
}

// ---- paths below the roots

// Opens the directory that path is in, and says its last name.
static int open_parent(
        const char *path, const struct transform_context *context, const char *what, char **ret_name, GError **error)
{
        g_autofree char *full = g_canonicalize_filename(path, "/");
        for (const char *const *root = context->roots; *root != NULL; root++) {
                size_t length = strlen(*root);
                if (strncmp(full, *root, length) != 0 || full[length] != '/')
                        continue;
                g_autofree char *parent = g_path_get_dirname(full + length + 1);
                fd_auto int root_fd = open(*root, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (root_fd < 0) {
                        error_fail_errno(error, errno, "open %s", *root);
                        return -1;
                }
                int fd = file_open_beneath(root_fd, parent, O_PATH | O_DIRECTORY, 0, error);
                if (fd >= 0)
                        *ret_name = g_path_get_basename(full);
                return fd;
        }
        error_fail(error, ERROR_UNIMPLEMENTED, "no root \"%s\" configured for %s: not implemented", path, what);
        return -1;
}

// Takes the options that begin with prefix out of the mount and gives them to fn without it.
static bool take_options(struct mount *mount, const char *prefix,
        bool (*fn)(void *data, const char *option, GError **error), void *data, GError **error)
{
        size_t kept = 0;
        bool ok = true;
        for (char **option = mount->options; *option != NULL; option++) {
                if (!g_str_has_prefix(*option, prefix)) {
                        mount->options[kept++] = *option;
                        continue;
                }
                ok = ok && fn(data, *option + strlen(prefix), error);
                g_free(*option);
        }
        mount->options[kept] = NULL;
        return ok;
}

// ---- mkdir

struct new_directory {
        const char *path;
        mode_t mode;
        uid_t uid;
        gid_t gid;
};

static bool parse_number(const char *text, guint base, uint64_t limit, uint64_t *ret)
{
        return text != NULL && g_ascii_string_to_unsigned(text, base, 0, limit, ret, NULL);
}

// PATH[:MODE[:UID:GID]]
static bool parse_directory(char **parts, struct new_directory *ret, GError **error)
{
        uint64_t mode = 0700, uid = geteuid(), gid = getegid();
        guint n = g_strv_length(parts);
        if ((n != 1 && n != 2 && n != 4) || (n >= 2 && !parse_number(parts[1], 8, 0777, &mode)) ||
                (n == 4 && (!parse_number(parts[2], 10, UINT32_MAX - 1, &uid) ||
                                   !parse_number(parts[3], 10, UINT32_MAX - 1, &gid)))) {
                g_autofree char *text = g_strjoinv(":", parts);
                return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid mkdir option \"%s\": invalid argument", text);
        }
        *ret = (struct new_directory){parts[0], (mode_t)mode, (uid_t)uid, (gid_t)gid};
        return true;
}

static bool make_directory(
        const struct new_directory *directory, const struct transform_context *context, GError **error)
{
        g_autofree char *name = NULL;
        fd_auto int parent = open_parent(directory->path, context, "mkdir", &name, error);
        if (parent < 0)
                return false;
        if (mkdirat(parent, name, 0700) != 0 && errno != EEXIST)
                return error_fail_errno(error, errno, "failed to create directory \"%s\"", directory->path);
        fd_auto int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fchown(fd, directory->uid, directory->gid) != 0 || fchmod(fd, directory->mode) != 0)
                return error_fail_errno(error, errno, "failed to prepare directory \"%s\"", directory->path);
        return true;
}

static bool mkdir_option(void *data, const char *option, GError **error)
{
        if (!g_str_has_prefix(option, "path="))
                return error_fail(error, ERROR_INVALID_ARGUMENT,
                        "invalid mkdir option \"" MKDIR_OPTION "%s\": invalid argument", option);
        g_auto(GStrv) parts = g_strsplit(option + strlen("path="), ":", 4);
        struct new_directory directory = {0};
        return parse_directory(parts, &directory, error) && make_directory(&directory, data, error);
}

static bool mkdir_transform(struct mount *mount, const struct transform_context *context, GError **error)
{
        return take_options(mount, MKDIR_OPTION, mkdir_option, (void *)context, error);
}

// ---- mkfs

struct new_image {
        int64_t size_bytes;
        char *type, *uuid;
};

bool transform_parse_size(const char *text, int64_t *ret_bytes)
{
        static const char units[] = "bkmgtp";
        char *end;
        double value = g_ascii_strtod(text, &end);
        if (end == text || !(value >= 0) || !isfinite(value))
                return false;
        while (*end == ' ')
                end++;
        g_autofree char *unit = g_ascii_strdown(end, -1);
        const char *found = unit[0] != '\0' ? strchr(units, unit[0]) : units;
        // "k", "kb", "kib"
        bool suffix = unit[0] == '\0' || unit[1] == '\0' || (strcmp(unit + 1, "b") == 0 && unit[0] != 'b') ||
                      strcmp(unit + 1, "ib") == 0;
        if (found == NULL || !suffix)
                return false;
        for (const char *step = units; step < found; step++)
                value *= 1024;
        if (value >= (double)INT64_MAX)
                return false;
        *ret_bytes = (int64_t)value;
        return true;
}

static bool mkfs_option(void *data, const char *option, GError **error)
{
        struct new_image *image = data;
        const char *value = strchr(option, '=');
        g_autofree char *key = value != NULL ? g_strndup(option, (gsize)(value - option)) : g_strdup(option);
        if (value == NULL)
                return error_fail(
                        error, ERROR_INVALID_ARGUMENT, "unknown mount option " MKFS_OPTION "%s: invalid argument", key);
        value++;
        if (strcmp(key, "size") == 0)
                return transform_parse_size(value, &image->size_bytes) ||
                       error_fail(error, ERROR_INVALID_ARGUMENT, "bad option size: invalid size: '%s'", value);
        char **member = strcmp(key, "fs") == 0 ? &image->type : strcmp(key, "uuid") == 0 ? &image->uuid : NULL;
        if (member == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "unknown mount option %s: invalid argument", key);
        g_free(*member);
        *member = g_strdup(value);
        return true;
}

static bool run_mkfs(const struct new_image *image, const char *path, GError **error)
{
        bool xfs = strcmp(image->type, "xfs") == 0;
        if (!xfs && strcmp(image->type, "ext2") != 0 && strcmp(image->type, "ext3") != 0 &&
                strcmp(image->type, "ext4") != 0)
                return error_fail(
                        error, ERROR_INVALID_ARGUMENT, "unsupported filesystem \"%s\": invalid argument", image->type);
        g_autofree char *program = g_strconcat("mkfs.", image->type, NULL);
        g_autofree char *uuid = image->uuid == NULL ? NULL
                                : xfs               ? g_strconcat("uuid=", image->uuid, NULL)
                                                    : g_strdup(image->uuid);
        const char *plain[] = {program, "-q", path, NULL};
        const char *with_uuid[] = {program, "-q", xfs ? "-m" : "-U", uuid, path, NULL};
        struct spawn_options options = {.path = program, .argv = uuid != NULL ? with_uuid : plain};
        struct spawn_output output;
        if (!spawn_collect(&options, MKFS_OUTPUT_BYTES, MKFS_TIMEOUT_MS, &output, error))
                return false;
        int code = child_exit_code(output.status);
        if (code != 0)
                error_fail(error, ERROR_UNKNOWN, "%s failed: %s%s: exit status %d", program, output.out->str,
                        output.err->str, code);
        spawn_output_done(&output);
        return code == 0;
}

// Formats a new file beside the place of the image: one that a kill left half made is never taken for an image.
static bool fill_image(const struct new_image *image, int parent, const char *source, char **ret_name, GError **error)
{
        g_autofree char *full = g_canonicalize_filename(source, "/");
        g_autofree char *path = g_strdup_printf("%s.%08x", full, g_random_int());
        g_autofree char *name = g_path_get_basename(path);
        fd_auto int fd = openat(parent, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
        if (fd < 0)
                return error_fail_errno(error, errno, "failed to create file \"%s\"", path);
        bool ok = ftruncate(fd, image->size_bytes) == 0 ||
                  error_fail_errno(error, errno, "failed to truncate file \"%s\"", path);
        if (ok && !(ok = run_mkfs(image, path, error)))
                g_prefix_error(error, "failed format \"%s\": ", source);
        if (ok)
                *ret_name = g_steal_pointer(&name);
        else
                unlinkat(parent, name, 0);
        return ok;
}

static bool make_image(
        struct new_image *image, const struct mount *mount, const struct transform_context *context, GError **error)
{
        if (image->size_bytes == 0)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "mkfs requires mkfs.size option: invalid argument");
        g_autofree char *name = NULL, *filled = NULL;
        fd_auto int parent = open_parent(mount->source, context, "mkfs", &name, error);
        if (parent < 0)
                return false;
        if (faccessat(parent, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                return true;
        if (!fill_image(image, parent, mount->source, &filled, error))
                return false;
        if (renameat2(parent, filled, parent, name, RENAME_NOREPLACE) == 0)
                return true;
        int failed = errno;
        unlinkat(parent, filled, 0);
        return failed == EEXIST || // somebody else made it meanwhile
               error_fail_errno(error, failed, "failed to create file \"%s\"", mount->source);
}

static bool mkfs_transform(struct mount *mount, const struct transform_context *context, GError **error)
{
        struct new_image image = {.type = g_strdup("ext4")};
        bool ok = take_options(mount, MKFS_OPTION, mkfs_option, &image, error) &&
                  make_image(&image, mount, context, error);
        g_free(image.type);
        g_free(image.uuid);
        return ok;
}

transform_fn transform_find(const char *name)
{
        if (strcmp(name, "format") == 0)
                return format;
        if (strcmp(name, "mkdir") == 0)
                return mkdir_transform;
        if (strcmp(name, "mkfs") == 0)
                return mkfs_transform;
        return NULL;
}
