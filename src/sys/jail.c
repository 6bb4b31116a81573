// SPDX-License-Identifier: Apache-2.0
#include "sys/jail.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool set_no_new_privileges(GError **error)
{
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return error_fail_errno(error, errno, "set no_new_privs");
        return true;
}

bool jail_keep_capabilities(const int *capabilities, size_t n_capabilities, GError **error)
{
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2] = {0};
        for (size_t i = 0; i < n_capabilities; i++) {
                data[CAP_TO_INDEX(capabilities[i])].effective |= CAP_TO_MASK(capabilities[i]);
                data[CAP_TO_INDEX(capabilities[i])].permitted |= CAP_TO_MASK(capabilities[i]);
        }
        if (syscall(SYS_capset, &header, data) < 0)
                return error_fail_errno(error, errno, "drop capabilities");
        return set_no_new_privileges(error);
}

bool jail_become(uint32_t uid, GError **error)
{
        if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
                return error_fail_errno(error, errno, "become user %u", uid);
        return jail_keep_capabilities(NULL, 0, error);
}

bool jail_limit(unsigned n_files, uint64_t memory_bytes, GError **error)
{
        const struct {
                int resource;
                rlim_t value;
        } limits[] = {
                {RLIMIT_CORE, 0},
                {RLIMIT_NPROC, 0},
                {RLIMIT_NOFILE, n_files},
                {RLIMIT_AS, memory_bytes == 0 ? RLIM_INFINITY : memory_bytes},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
                struct rlimit limit = {limits[i].value, limits[i].value};
                if (limits[i].value != RLIM_INFINITY && setrlimit(limits[i].resource, &limit) < 0)
                        return error_fail_errno(error, errno, "set resource limits");
        }
        return true;
}

static bool add_rules(scmp_filter_ctx filter, uint32_t action, const char *const *names)
{
        for (; *names != NULL; names++) {
                int number = seccomp_syscall_resolve_name(*names);
                if (number >= 0 && seccomp_rule_add(filter, action, number, 0) < 0)
                        return false;
        }
        return true;
}

bool jail_seccomp(const char *const *allowed, const char *const *killed, GError **error)
{
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
        if (filter == NULL)
                return error_fail(error, ERROR_INTERNAL, "make a seccomp filter");
        bool good = add_rules(filter, SCMP_ACT_ALLOW, allowed) && add_rules(filter, SCMP_ACT_KILL_PROCESS, killed);
        int status = good ? seccomp_load(filter) : 0;
        seccomp_release(filter);
        if (!good)
                return error_fail(error, ERROR_INTERNAL, "make a seccomp filter");
        if (status < 0)
                return error_fail_errno(error, -status, "load the seccomp filter");
        return true;
}
