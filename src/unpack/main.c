// SPDX-License-Identifier: Apache-2.0
//
// skiff-unpack JOB: started by skiffd, one process per job, with a control socket as descriptor 3. The jail comes
// before the job is read; what happens in here can spoil what comes out, and nothing else.
#include "sys/jail.h"
#include "sys/namespace.h"
#include "unpack/control.h"
#include "unpack/job.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMORY_CALLS                                                                                                   \
        "read", "write", "readv", "writev", "mmap", "munmap", "mremap", "madvise", "mprotect", "brk", "exit",          \
                "exit_group", "rt_sigreturn", "rt_sigprocmask", "sigaltstack", "futex", "close", "lseek", "poll",      \
                "ppoll", "getrandom", "clock_gettime", "gettimeofday", "getpid", "gettid", "tgkill", "sched_yield",    \
                "fcntl", "fstat", "splice", "sendmsg", "recvmsg", "restart_syscall"

static const char *const memory_calls[] = {MEMORY_CALLS, NULL};

static const char *const file_calls[] = {MEMORY_CALLS, "openat2", "openat", "mkdirat", "mknodat", "symlinkat", "linkat",
        "unlinkat", "renameat2", "fchown", "fchownat", "fchmod", "fchmodat", "fchmodat2", "fsetxattr", "setxattr",
        "lsetxattr", "fgetxattr", "lgetxattr", "flistxattr", "llistxattr", "utimensat", "newfstatat", "fstatat64",
        "statx", "getdents64", "readlinkat", "ftruncate", "fallocate", "copy_file_range", "fadvise64", "pread64",
        "pwrite64", "pwritev", "dup", "fstatfs", "fchdir", "getcwd", "umask", NULL};

static const char *const killed_calls[] = {"mount", "umount2", "pivot_root", "chroot", "setns", "unshare", "ptrace",
        "bpf", "open_tree", "move_mount", "fsopen", "fsmount", "fsconfig", "mount_setattr", "clone", "clone3", "fork",
        "vfork", "execve", "execveat", "kexec_load", "init_module", "finit_module", "delete_module", "socket",
        "connect", "io_uring_setup", "userfaultfd", "keyctl", "add_key", "perf_event_open", "process_vm_readv",
        "process_vm_writev", "open_by_handle_at", "name_to_handle_at", "pidfd_getfd", "kill", "setuid", "setresuid",
        "capset", NULL};

// ---- jails

static bool enter_memory_jail(struct control *control, GError **error)
{
        const char *uid = getenv("SKIFF_WORKER_UID");
        if (uid != NULL && !jail_become((uint32_t)strtoul(uid, NULL, 10), error))
                return false;
        return jail_limit(16, 0, error) && jail_seccomp(memory_calls, killed_calls, error);
}

static bool send_ready(struct control *control, bool user_namespace, GError **error)
{
        Worker__Ready ready = WORKER__READY__INIT;
        ready.user_namespace = user_namespace;
        Worker__Answer answer = WORKER__ANSWER__INIT;
        answer.answer_case = WORKER__ANSWER__ANSWER_READY;
        answer.ready = &ready;
        return control_send(control, &answer, error);
}

// skiffd answers once the ids are mapped.
static bool wait_for_mapping(struct control *control, GError **error)
{
        AUTO(arena) arena = arena_new();
        return control_read(control, &worker__mapped__descriptor, arena, error) != NULL;
}

static bool enter_file_jail(struct control *control, GError **error)
{
        static const int needed[] = {
                CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_SETFCAP};
        if (!namespace_enter_root(UNTAR_ROOT_FD, error))
                return false;
        bool user_namespace = getenv("SKIFF_NO_USER_NAMESPACE") == NULL && namespace_new_user();
        if (!send_ready(control, user_namespace, error) || !wait_for_mapping(control, error))
                return false;
        umask(0);
        return jail_keep_capabilities(needed, G_N_ELEMENTS(needed), error) && jail_limit(4096, 0, error) &&
               jail_seccomp(file_calls, killed_calls, error);
}

// ---- jobs

static const struct job {
        const char *name;
        bool (*jail)(struct control *control, GError **error);
        bool (*run)(struct control *control, GError **error);
} jobs[] = {
        {"inflate", enter_memory_jail, job_inflate},
        {"deflate", enter_memory_jail, job_deflate},
        {"inspect", enter_memory_jail, job_inspect},
        {"split", enter_memory_jail, job_split},
        {"tar", enter_file_jail, job_tar},
        {"untar", enter_file_jail, job_untar},
};

int main(int argc, char **argv)
{
        const struct job *job = NULL;
        for (size_t i = 0; argc == 2 && i < G_N_ELEMENTS(jobs); i++) {
                if (strcmp(argv[1], jobs[i].name) == 0)
                        job = &jobs[i];
        }
        if (job == NULL || fcntl(CONTROL_FD, F_GETFD) < 0) {
                fprintf(stderr, "skiff-unpack is started by skiffd\n");
                return 2;
        }
        signal(SIGPIPE, SIG_IGN);
        // libarchive converts the names of PAX headers from UTF-8 to this; the C locale would lose them.
        setlocale(LC_CTYPE, "C.UTF-8");
        g_autoptr(GError) error = NULL;
        AUTO(control) control = control_new();
        if (job->jail(control, &error) && job->run(control, &error))
                _exit(0);
        _exit(control_send_failure(control, error) ? 0 : 1);
}
