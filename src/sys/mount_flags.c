// SPDX-License-Identifier: Apache-2.0
//
// fstab's option words to mount(2)'s bits. What the table does not know is data for the file system. Propagation words
// are not known to containerd's own parser and reach the kernel as data there; clients use them in runtime specs only,
// so they are understood here.
#include "base/error.h"
#include "sys/mounts.h"

#include <string.h>
#include <sys/mount.h>

static const struct option {
        char name[16];
        bool clear;
        unsigned long flags;
} options[] = {
        {"async", true, MS_SYNCHRONOUS},
        {"atime", true, MS_NOATIME},
        {"bind", false, MS_BIND},
        {"dev", true, MS_NODEV},
        {"diratime", true, MS_NODIRATIME},
        {"dirsync", false, MS_DIRSYNC},
        {"exec", true, MS_NOEXEC},
        {"mand", false, MS_MANDLOCK},
        {"noatime", false, MS_NOATIME},
        {"nodev", false, MS_NODEV},
        {"nodiratime", false, MS_NODIRATIME},
        {"noexec", false, MS_NOEXEC},
        {"nomand", true, MS_MANDLOCK},
        {"norelatime", true, MS_RELATIME},
        {"nostrictatime", true, MS_STRICTATIME},
        {"nosuid", false, MS_NOSUID},
        {"rbind", false, MS_BIND | MS_REC},
        {"relatime", false, MS_RELATIME},
        {"remount", false, MS_REMOUNT},
        {"ro", false, MS_RDONLY},
        {"rw", true, MS_RDONLY},
        {"strictatime", false, MS_STRICTATIME},
        {"suid", true, MS_NOSUID},
        {"sync", false, MS_SYNCHRONOUS},
};

static const struct option propagations[] = {
        {"private", false, MS_PRIVATE},
        {"rprivate", false, MS_PRIVATE | MS_REC},
        {"rshared", false, MS_SHARED | MS_REC},
        {"rslave", false, MS_SLAVE | MS_REC},
        {"runbindable", false, MS_UNBINDABLE | MS_REC},
        {"shared", false, MS_SHARED},
        {"slave", false, MS_SLAVE},
        {"unbindable", false, MS_UNBINDABLE},
};

static const struct option *find(const struct option *table, size_t n, const char *name)
{
        for (size_t i = 0; i < n; i++)
                if (g_str_equal(table[i].name, name))
                        return &table[i];
        return NULL;
}

static void add_word(struct mount_flags *flags, const char *word)
{
        const struct option *option = find(options, G_N_ELEMENTS(options), word);
        const struct option *propagation = find(propagations, G_N_ELEMENTS(propagations), word);
        if (option != NULL && option->clear)
                flags->flags &= ~option->flags;
        else if (option != NULL)
                flags->flags |= option->flags;
        else if (propagation != NULL)
                flags->spread |= propagation->flags;
        else if (g_str_equal(word, "loop"))
                flags->loop = true;
        else if (g_str_has_prefix(word, "uidmap="))
                flags->uidmap = word + strlen("uidmap=");
        else if (g_str_has_prefix(word, "gidmap="))
                flags->gidmap = word + strlen("gidmap=");
        else
                g_string_append_printf(flags->data, "%s%s", flags->data->len > 0 ? "," : "", word);
}

bool mount_flags_init(struct mount_flags *ret_flags, const struct mount *mount, GError **error)
{
        struct mount_flags flags = {.data = g_string_new(NULL)};
        bool loop = g_strv_contains((const char *const *)mount->options, "loop");
        for (char **word = mount->options; *word != NULL; word++) {
                if (g_str_has_prefix(*word, "X-containerd.")) {
                        mount_flags_done(&flags);
                        return error_fail(error, ERROR_INVALID_ARGUMENT,
                                "internal mount option \"%s\" was not consumed by the mount manager", *word);
                }
                if (loop && g_str_equal(*word, "direct-io"))
                        flags.direct_io = true;
                else if (!g_str_equal(*word, "defaults"))
                        add_word(&flags, *word);
        }
        *ret_flags = flags;
        return true;
}

void mount_flags_done(struct mount_flags *flags)
{
        g_string_free(flags->data, true);
}
