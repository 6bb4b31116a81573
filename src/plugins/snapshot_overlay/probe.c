// SPDX-License-Identifier: Apache-2.0
//
// Whether overlays work here is found by making one: the backing file system may refuse to be an upper layer (overlay
// itself), lack d_type, or the kernel may have no overlayfs. The module is loaded by that attempt, so its parameters
// are read after it.
#include "base/error.h"
#include "plugins/snapshot_overlay/overlay.h"
#include "sys/mounts.h"
#include "sys/tree.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define TMPFS_MAGIC 0x01021994

static bool in_user_namespace(void)
{
        g_autofree char *map = NULL;
        unsigned inside, outside, count;
        if (!g_file_get_contents("/proc/self/uid_map", &map, NULL, NULL))
                return false;
        return sscanf(map, "%u %u %u", &inside, &outside, &count) != 3 || inside != 0 || outside != 0 ||
               count != UINT32_MAX;
}

static bool make_directories(const char *directory)
{
        static const char *const names[] = {"lower1", "lower2", "upper", "work", "merged"};
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *path = g_build_filename(directory, names[i], NULL);
                if (mkdir(path, 0755) != 0)
                        return false;
        }
        return true;
}

// Whether a directory's entries say what they are; overlayfs hides no whiteouts without that.
static bool has_entry_types(const char *directory)
{
        DIR *stream = opendir(directory);
        if (stream == NULL)
                return false;
        bool known = true;
        for (const struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream))
                known = known && entry->d_type != DT_UNKNOWN;
        closedir(stream);
        return known;
}

static bool try_overlay(const char *directory, const char *option, GError **error)
{
        g_autofree char *data = g_strdup_printf("lowerdir=%s/lower2:%s/lower1,upperdir=%s/upper,workdir=%s/work",
                directory, directory, directory, directory);
        g_autofree char *merged = g_build_filename(directory, "merged", NULL);
        AUTO(mount) mount = mount_new("overlay", "overlay", NULL, (const char *const[]){data, option, NULL});
        return mount_apply(mount, merged, error) && mount_unmount(merged, 0, error);
}

static bool wants_user_xattr(const char *root, const char *directory, GPtrArray *options)
{
        struct statfs status;
        return in_user_namespace() && !g_ptr_array_find_with_equal_func(options, "userxattr", g_str_equal, NULL) &&
               statfs(root, &status) == 0 && status.f_type != TMPFS_MAGIC && try_overlay(directory, "userxattr", NULL);
}

static bool probe_in(const char *root, const char *directory, GPtrArray *options, GError **error)
{
        if (!make_directories(directory))
                return error_fail_errno(error, errno, "failed to create directories in %s", directory);
        if (!has_entry_types(directory))
                return error_fail(error, ERROR_UNIMPLEMENTED,
                        "%s does not support d_type: if the file system is xfs, reformat it with ftype=1", root);
        bool user_xattr = wants_user_xattr(root, directory, options);
        g_autoptr(GError) failure = NULL;
        if (!user_xattr && !try_overlay(directory, NULL, &failure))
                return error_fail(
                        error, ERROR_UNIMPLEMENTED, "overlayfs does not work at %s: %s", root, failure->message);
        if (user_xattr)
                g_ptr_array_add(options, g_strdup("userxattr"));
        if (access("/sys/module/overlay/parameters/index", F_OK) == 0 &&
                !g_ptr_array_find_with_equal_func(options, "index=off", g_str_equal, NULL) &&
                !g_ptr_array_find_with_equal_func(options, "index=on", g_str_equal, NULL))
                g_ptr_array_add(options, g_strdup("index=off"));
        return true;
}

bool overlay_probe(const char *root, GPtrArray *options, GError **error)
{
        g_autofree char *directory = g_strdup_printf("%s/check-XXXXXX", root);
        if (mkdtemp(directory) == NULL)
                return error_fail_errno(error, errno, "failed to create a directory in %s", root);
        bool ok = probe_in(root, directory, options, error);
        tree_remove(directory, NULL);
        return ok;
}
