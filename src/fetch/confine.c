// SPDX-License-Identifier: Apache-2.0
//
// The new root is a small tmpfs. What is bound into it is cloned before the tmpfs hides anything, so that links such as
// /etc/resolv.conf are resolved on the host. Copies of single files go stale when the host replaces them (DHCP writes a
// new resolv.conf): the process lives for one pull, which is short enough. The user is changed last but one, as seccomp
// comes after everything that it forbids.
#include "fetch/confine.h"

#include "base/error.h"
#include "base/fd.h"
#include "sys/jail.h"
#include "sys/namespace.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifdef __SANITIZE_ADDRESS__
// The leak checker needs /proc and ptrace, which the cage has not.
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}
#endif

#define DEFAULT_UID 64000
#define ROOT_PLACE "/tmp" // any directory does: it is hidden in our own mount namespace alone
#define SCRATCH "/scratch"
#define ROOT_OPTIONS "size=32m,mode=0755"
#define MAX_OPEN_FILES 1024

struct bound {
        const char *path;
        bool executable;
        int fd; // the cloned mount; -1: not on this host
        bool directory;
};

static bool clone_mount(struct bound *bound, GError **error)
{
        struct stat status;
        if (stat(bound->path, &status) < 0)
                return true;
        unsigned executable = bound->executable ? CLONE_MOUNT_EXECUTABLE : 0;
        bound->directory = S_ISDIR(status.st_mode);
        bound->fd = namespace_clone_mount(bound->path, CLONE_MOUNT_READ_ONLY | executable, error);
        return bound->fd >= 0;
}

static bool attach_mount(const struct bound *bound, GError **error)
{
        g_autofree char *target = g_strconcat(ROOT_PLACE, bound->path, NULL);
        g_autofree char *parent = g_path_get_dirname(target);
        if (g_mkdir_with_parents(bound->directory ? target : parent, 0755) < 0)
                return error_fail_errno(error, errno, "make %s", target);
        if (!bound->directory) {
                fd_auto int file = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
                if (file < 0)
                        return error_fail_errno(error, errno, "make %s", target);
        }
        if (syscall(SYS_move_mount, bound->fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
                return error_fail_errno(error, errno, "bind %s", bound->path);
        return true;
}

static bool build_root(struct bound *bounds, size_t n, uid_t uid, GError **error)
{
        if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
                return error_fail_errno(error, errno, "make namespaces");
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return error_fail_errno(error, errno, "make mounts private");
        for (size_t i = 0; i < n; i++)
                if (!clone_mount(&bounds[i], error))
                        return false;
        if (mount("tmpfs", ROOT_PLACE, "tmpfs", MS_NODEV | MS_NOSUID | MS_NOEXEC, ROOT_OPTIONS) < 0)
                return error_fail_errno(error, errno, "mount the root");
        for (size_t i = 0; i < n; i++)
                if (bounds[i].fd >= 0 && !attach_mount(&bounds[i], error))
                        return false;
        if (mkdir(ROOT_PLACE SCRATCH, 0700) < 0 || chown(ROOT_PLACE SCRATCH, uid, uid) < 0)
                return error_fail_errno(error, errno, "make the scratch directory");
        if (chdir(ROOT_PLACE) < 0)
                return error_fail_errno(error, errno, "enter the root");
        return namespace_change_root(error);
}

static bool enter_root(uid_t uid, GError **error)
{
        struct bound bounds[] = {
                {"/usr/lib", true, -1, false},
                {"/lib", true, -1, false},
                {"/lib64", true, -1, false},
                {"/etc/ssl", false, -1, false},
                {"/etc/pki", false, -1, false},
                {"/etc/ca-certificates", false, -1, false},
                {"/usr/share/ca-certificates", false, -1, false},
                {"/usr/local/share/ca-certificates", false, -1, false},
                {"/etc/resolv.conf", false, -1, false},
                {"/etc/hosts", false, -1, false},
                {"/etc/host.conf", false, -1, false},
                {"/etc/nsswitch.conf", false, -1, false},
                {"/etc/gai.conf", false, -1, false},
        };
        bool good = build_root(bounds, G_N_ELEMENTS(bounds), uid, error);
        for (size_t i = 0; i < G_N_ELEMENTS(bounds); i++)
                fd_close(&bounds[i].fd);
        return good;
}

static bool limit_resources(GError **error)
{
        struct rlimit none = {0, 0}, files = {MAX_OPEN_FILES, MAX_OPEN_FILES};
        if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_NOFILE, &files) < 0)
                return error_fail_errno(error, errno, "set resource limits");
        return true;
}

// What curl, its TLS library, the resolver's threads and our own few lines do. Sanitizers' builds do more.
static const char *const allowed[] = {"accept4", "arch_prctl", "bind", "brk", "clock_gettime", "clock_nanosleep",
        "close", "connect", "dup", "dup2", "dup3", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait",
        "eventfd2", "exit", "exit_group", "fcntl", "fcntl64", "fdatasync", "fstat", "fstatfs", "fsync", "futex",
        "getcwd", "getdents64", "getegid", "geteuid", "getgid", "getpeername", "getpid", "getppid", "getrandom",
        "getrlimit", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "ioctl", "lseek", "lstat",
        "madvise", "membarrier", "mmap", "mprotect", "mremap", "munmap", "nanosleep", "newfstatat", "open", "openat",
        "pipe", "pipe2", "poll", "ppoll", "prctl", "pread64", "prlimit64", "pselect6", "read", "readlink", "readv",
        "recvfrom", "recvmmsg", "recvmsg", "restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
        "sched_getaffinity", "sched_yield", "select", "sendmmsg", "sendmsg", "sendto", "set_robust_list", "setsockopt",
        "shutdown", "sigaltstack", "socket", "socketpair", "stat", "statfs", "statx", "sysinfo", "tgkill", "time",
        "uname", "unlink", "write", "writev", NULL};

static bool add_rule(scmp_filter_ctx filter, uint32_t action, const char *name)
{
        int number = seccomp_syscall_resolve_name(name);
        return number < 0 || seccomp_rule_add(filter, action, number, 0) == 0;
}

// Threads may be made, in no new namespace. The C library takes clone3, whose flags a filter cannot see, and falls back
// to clone if it does not exist.
static bool add_thread_rules(scmp_filter_ctx filter)
{
        uint64_t namespaces = CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
                              CLONE_NEWCGROUP;
        return seccomp_rule_add(
                       filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces, 0)) == 0 &&
               seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) == 0;
}

static bool filter_system_calls(GError **error)
{
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
        bool good = filter != NULL && add_thread_rules(filter);
        for (size_t i = 0; good && allowed[i] != NULL; i++)
                good = add_rule(filter, SCMP_ACT_ALLOW, allowed[i]);
        good = good && seccomp_load(filter) == 0;
        if (filter != NULL)
                seccomp_release(filter);
        return good || error_fail(error, ERROR_INTERNAL, "system calls cannot be filtered");
}

const char *confine(const char *uid, GError **error)
{
        uid_t user = DEFAULT_UID;
        if (uid != NULL && uid[0] != '\0')
                user = (uid_t)g_ascii_strtoull(uid, NULL, 10);
        if (user == 0 && geteuid() == 0) {
                error_fail(error, ERROR_INVALID_ARGUMENT, "the user to become is root");
                return NULL;
        }
        bool root = geteuid() == 0;
        if (!limit_resources(error) || (root && !enter_root(user, error)))
                return NULL;
        if (!(root ? jail_become(user, error) : jail_keep_capabilities(NULL, 0, error)))
                return NULL;
        if (!filter_system_calls(error))
                return NULL;
        return root ? SCRATCH : "/tmp";
}
