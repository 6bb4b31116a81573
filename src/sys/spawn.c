// SPDX-License-Identifier: Apache-2.0
//
// clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD): the child borrows our memory and this thread sleeps until it has exec'd,
// so nothing is copied and no lock of another thread can be caught half-way. The child therefore runs with every signal
// blocked, calls nothing but system calls, and leaves the step that failed and its errno in our memory.
#include "sys/spawn.h"

#include "base/error.h"
#include "base/fd.h"
#include "sys/child.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// ThreadSanitizer keeps its state of a thread in memory that a child must not touch.
#define SHARE_MEMORY CLONE_VM
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#undef SHARE_MEMORY
#define SHARE_MEMORY 0
#endif
#endif

enum { STACK_BYTES = 64 * 1024, MAX_FDS = 32, HIGHEST_TARGET = 1023 };

struct failure { // written by the child, at the low end of its stack
        const char *step;
        int errnum;
};

// The child's frames never end, so AddressSanitizer still finds their marks when a later child's stack lies at the same
// address.
#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(start, size) ((void)(start), (void)(size))
#endif

struct plan {
        const struct spawn_options *options;
        const char *path;
        char *const *environment;
        int null_fd;
        int program_fd;    // -1: none
        int first_free_fd; // above every target
        struct failure *failure;
};

static int fail_child(struct plan *plan, const char *step)
{
        plan->failure->step = step;
        plan->failure->errnum = errno;
        return 127; // the child's exit status
}

static bool is_target(const struct spawn_options *options, int fd)
{
        for (size_t i = 0; i < options->n_fds; i++) {
                if (options->fds[i].to == fd)
                        return true;
        }
        return fd <= STDERR_FILENO;
}

// The program's copy stays until it is exec'd.
static bool close_others(struct plan *plan)
{
        unsigned first = (unsigned)plan->first_free_fd, program = (unsigned)plan->program_fd;
        if (plan->program_fd < 0)
                return syscall(SYS_close_range, first, UINT_MAX, 0) == 0;
        return (program == first || syscall(SYS_close_range, first, program - 1, 0) == 0) &&
               syscall(SYS_close_range, program + 1, UINT_MAX, 0) == 0;
}

static bool arrange_fds(struct plan *plan)
{
        const struct spawn_options *options = plan->options;
        if (options->program_fd > 0)
                plan->program_fd = fcntl(options->program_fd, F_DUPFD_CLOEXEC, plan->first_free_fd);
        int safe[MAX_FDS]; // out of the way of all targets first, as one's source may be another's target
        for (size_t i = 0; i < options->n_fds; i++) {
                safe[i] = fcntl(options->fds[i].from, F_DUPFD_CLOEXEC, plan->first_free_fd);
                if (safe[i] < 0)
                        return false;
        }
        int null_fd = fcntl(plan->null_fd, F_DUPFD_CLOEXEC, plan->first_free_fd);
        if (null_fd < 0)
                return false;
        for (int fd = 0; fd <= STDERR_FILENO; fd++) {
                if (dup2(null_fd, fd) < 0)
                        return false;
        }
        for (size_t i = 0; i < options->n_fds; i++) {
                if (dup2(safe[i], options->fds[i].to) < 0)
                        return false;
        }
        for (int fd = STDERR_FILENO + 1; fd < plan->first_free_fd; fd++) {
                if (!is_target(options, fd))
                        close(fd);
        }
        return close_others(plan);
}

static void reset_signals(void)
{
        struct sigaction standard = {.sa_handler = SIG_DFL};
        for (int number = 1; number < NSIG; number++)
                sigaction(number, &standard, NULL); // fails for SIGKILL, SIGSTOP and the C library's own: as it should
}

static int run_child(void *data)
{
        struct plan *plan = data;
        const struct spawn_options *options = plan->options;
        reset_signals();
        if (options->new_session && setsid() < 0)
                return fail_child(plan, "setsid");
        if (options->new_process_group && setpgid(0, 0) < 0)
                return fail_child(plan, "setpgid");
        if (options->cwd != NULL && chdir(options->cwd) < 0)
                return fail_child(plan, "chdir");
        if (!arrange_fds(plan))
                return fail_child(plan, "pass descriptors");
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (plan->program_fd >= 0)
                syscall(SYS_execveat, plan->program_fd, "", options->argv, plan->environment, AT_EMPTY_PATH);
        execve(plan->path, (char *const *)options->argv, plan->environment);
        return fail_child(plan, "exec");
}

static bool report_failure(const struct plan *plan, struct failure *failure, GError **error)
{
        enum error_code code = ERROR_UNKNOWN;
        if (strcmp(failure->step, "exec") == 0 && failure->errnum == ENOENT)
                code = ERROR_NOT_FOUND;
        else if (strcmp(failure->step, "exec") == 0 && failure->errnum == EACCES)
                code = ERROR_PERMISSION_DENIED;
        return error_fail(error, code, "start %s: %s: %s", plan->path, failure->step, errno_text(failure->errnum));
}

static bool check_fds(struct plan *plan, GError **error)
{
        plan->first_free_fd = STDERR_FILENO + 1;
        for (size_t i = 0; i < plan->options->n_fds; i++)
                plan->first_free_fd = MAX(plan->first_free_fd, plan->options->fds[i].to + 1);
        if (plan->options->n_fds > MAX_FDS || plan->first_free_fd > HIGHEST_TARGET)
                return error_fail(error, ERROR_INTERNAL, "start %s: too many descriptors", plan->path);
        return true;
}

static bool start(struct plan *plan, struct child *ret_child, GError **error)
{
        // Shared, so that the failure is seen here also where the child has memory of its own.
        void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        if (stack == MAP_FAILED)
                return error_fail_errno(error, errno, "start %s: map stack", plan->path);
        ASAN_UNPOISON_MEMORY_REGION(stack, STACK_BYTES);
        plan->failure = stack;
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int pidfd = -1;
        int flags = SHARE_MEMORY | CLONE_VFORK | CLONE_PIDFD | (int)plan->options->clone_flags | SIGCHLD;
        child_spawning_begin();
        pid_t pid = clone(run_child, (char *)stack + STACK_BYTES, flags, plan, &pidfd);
        int clone_errno = errno;
        child_spawning_end(MAX(pid, 0));
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        struct failure failure = *plan->failure;
        munmap(stack, STACK_BYTES);
        if (pid < 0)
                return error_fail_errno(error, clone_errno, "start %s: clone", plan->path);
        struct child child = {.pid = pid, .pidfd = pidfd};
        if (failure.step != NULL) {
                child_wait(&child, &(int){0}, NULL);
                fd_close(&child.pidfd);
                return report_failure(plan, &failure, error);
        }
        *ret_child = child;
        return true;
}

bool spawn(const struct spawn_options *options, struct child *ret_child, GError **error)
{
        g_autofree char *found = NULL;
        if (strchr(options->path, '/') == NULL && (found = g_find_program_in_path(options->path)) == NULL)
                return error_fail(
                        error, ERROR_NOT_FOUND, "start %s: executable file not found in $PATH", options->path);
        fd_auto int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null_fd < 0)
                return error_fail_errno(error, errno, "open /dev/null");
        struct plan plan = {
                .options = options,
                .path = found != NULL ? found : options->path,
                .environment = options->environ != NULL ? (char *const *)options->environ : environ,
                .null_fd = null_fd,
                .program_fd = -1,
        };
        return check_fds(&plan, error) && start(&plan, ret_child, error);
}
