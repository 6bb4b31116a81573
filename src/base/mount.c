// SPDX-License-Identifier: Apache-2.0
#include "base/mount.h"

#include <string.h>

struct mount *mount_new(const char *type, const char *source, const char *target, const char *const *options)
{
        struct mount *mount = g_new(struct mount, 1);
        *mount = (struct mount){
                .type = g_strdup(type != NULL ? type : ""),
                .source = g_strdup(source != NULL ? source : ""),
                .target = g_strdup(target != NULL ? target : ""),
                .options = options != NULL ? g_strdupv((char **)options) : g_new0(char *, 1),
        };
        return mount;
}

struct mount *mount_copy(const struct mount *mount)
{
        return mount_new(mount->type, mount->source, mount->target, (const char *const *)mount->options);
}

void mount_free(struct mount *mount)
{
        if (mount == NULL)
                return;
        g_free(mount->type);
        g_free(mount->source);
        g_free(mount->target);
        g_strfreev(mount->options);
        g_free(mount);
}

GPtrArray *mounts_new(void)
{
        return g_ptr_array_new_with_free_func((GDestroyNotify)mount_free);
}

GPtrArray *mounts_copy(const GPtrArray *mounts)
{
        GPtrArray *copies = mounts_new();
        for (guint i = 0; i < mounts->len; i++)
                g_ptr_array_add(copies, mount_copy(g_ptr_array_index(mounts, i)));
        return copies;
}

const char *mount_option(const struct mount *mount, const char *key)
{
        size_t length = strlen(key);
        for (char **option = mount->options; *option != NULL; option++)
                if (strncmp(*option, key, length) == 0 && (*option)[length] == '=')
                        return *option + length + 1;
        return NULL;
}
