// SPDX-License-Identifier: Apache-2.0
//
// Capability sets (capabilities(7)): containerd's default, or all that there are, plus and minus what is asked. "All"
// is what this program could have at the most: inside a container that is less than the kernel knows, and a runtime
// there cannot give more.
#include "client/spec_internal.h"

#include <string.h>
#include <sys/prctl.h>

// In the kernel's order, so that a name's place is its number.
static const char *const all_names[] = {
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETPCAP",
        "CAP_LINUX_IMMUTABLE",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_BROADCAST",
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
        "CAP_IPC_LOCK",
        "CAP_IPC_OWNER",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_CHROOT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_PACCT",
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_NICE",
        "CAP_SYS_RESOURCE",
        "CAP_SYS_TIME",
        "CAP_SYS_TTY_CONFIG",
        "CAP_MKNOD",
        "CAP_LEASE",
        "CAP_AUDIT_WRITE",
        "CAP_AUDIT_CONTROL",
        "CAP_SETFCAP",
        "CAP_MAC_OVERRIDE",
        "CAP_MAC_ADMIN",
        "CAP_SYSLOG",
        "CAP_WAKE_ALARM",
        "CAP_BLOCK_SUSPEND",
        "CAP_AUDIT_READ",
        "CAP_PERFMON",
        "CAP_BPF",
        "CAP_CHECKPOINT_RESTORE",
};

static const char *const default_names[] = {
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
};

static uint64_t bit_of(size_t number)
{
        return UINT64_C(1) << number;
}

static uint64_t all_there_are(void)
{
        uint64_t bits = 0;
        for (size_t i = 0; i < G_N_ELEMENTS(all_names); i++) {
                if (prctl(PR_CAPBSET_READ, (unsigned long)i, 0, 0, 0) == 1)
                        bits |= bit_of(i);
        }
        return bits;
}

static bool is_all(const char *name)
{
        return g_ascii_strcasecmp(name, "ALL") == 0;
}

static bool names_all(const char *const *names)
{
        for (size_t i = 0; names != NULL && names[i] != NULL; i++) {
                if (is_all(names[i]))
                        return true;
        }
        return false;
}

// The bits of a name with or without "CAP_", in any case, or of "ALL"; 0: unknown.
static uint64_t bits_of_name(const char *name)
{
        if (is_all(name))
                return all_there_are();
        const char *bare = g_ascii_strncasecmp(name, "CAP_", 4) == 0 ? name + 4 : name;
        for (size_t i = 0; i < G_N_ELEMENTS(all_names); i++) {
                if (g_ascii_strcasecmp(all_names[i] + 4, bare) == 0)
                        return bit_of(i);
        }
        return 0;
}

static bool change(uint64_t *bits, const char *const *names, bool add, GError **error)
{
        for (size_t i = 0; names != NULL && names[i] != NULL; i++) {
                uint64_t these = bits_of_name(names[i]);
                if (these == 0)
                        return error_fail(error, ERROR_INVALID_ARGUMENT, "unknown capability \"%s\"", names[i]);
                if (!add)
                        *bits &= ~these;
                else if (!is_all(names[i])) // that is where one started from
                        *bits |= these;
        }
        return true;
}

json_t *spec_capabilities(bool privileged, const char *const *add, const char *const *drop, GError **error)
{
        uint64_t bits = 0;
        bool all = privileged || names_all(add);
        if (all)
                bits = all_there_are();
        for (size_t i = 0; !all && i < G_N_ELEMENTS(default_names); i++)
                bits |= bits_of_name(default_names[i]);
        // What is added by name counts more than what is dropped.
        if (!change(&bits, drop, false, error) || !change(&bits, add, true, error))
                return NULL;
        json_t *names = json_array();
        for (size_t i = 0; i < G_N_ELEMENTS(all_names); i++) {
                if ((bits & bit_of(i)) != 0)
                        json_array_append_new(names, json_string(all_names[i]));
        }
        return json_pack("{s:O, s:O, s:o}", "bounding", names, "effective", names, "permitted", names);
}
