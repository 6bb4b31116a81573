// SPDX-License-Identifier: Apache-2.0
//
// Ends of children. waitid(P_PIDFD) cannot hit a process that got the number of one that is gone.
#include "sys/child.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "sys/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- children and orphans
//
// The kernel's list of our children is one per process, and so is this one of those that spawn started. Spawners hold
// the lock for reading while they clone and enter the child here, so that a sweep, which holds it for writing, never
// takes a child that is not entered yet.

static pthread_rwlock_t spawning = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t own_children_mutex = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *own_children; // of pids; under the mutex

void child_spawning_begin(void)
{
        pthread_rwlock_rdlock(&spawning);
}

void child_spawning_end(pid_t pid)
{
        pthread_mutex_lock(&own_children_mutex);
        if (own_children == NULL)
                own_children = g_hash_table_new(NULL, NULL);
        if (pid > 0)
                g_hash_table_add(own_children, GINT_TO_POINTER(pid));
        pthread_mutex_unlock(&own_children_mutex);
        pthread_rwlock_unlock(&spawning);
}

static void forget_child(pid_t pid)
{
        pthread_mutex_lock(&own_children_mutex);
        g_hash_table_remove(own_children, GINT_TO_POINTER(pid));
        pthread_mutex_unlock(&own_children_mutex);
}

static bool is_own_child(pid_t pid)
{
        pthread_mutex_lock(&own_children_mutex);
        bool own = own_children != NULL && g_hash_table_contains(own_children, GINT_TO_POINTER(pid));
        pthread_mutex_unlock(&own_children_mutex);
        return own;
}

bool child_reap_orphans(void)
{
        if (pthread_rwlock_trywrlock(&spawning) != 0)
                return true;
        bool again = false;
        for (;;) {
                siginfo_t info = {0};
                if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
                        break;
                again = is_own_child(info.si_pid);
                if (again)
                        break;
                waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
        }
        pthread_rwlock_unlock(&spawning);
        return again;
}

static int status_of(const siginfo_t *info)
{
        if (info->si_code == CLD_EXITED)
                return (info->si_status & 0xff) << 8;
        return (info->si_status & 0x7f) | (info->si_code == CLD_DUMPED ? 0x80 : 0);
}

// Takes a child that has ended. While it is not taken its pid is nobody else's, so it leaves the list before; and under
// the lock, as a sweep would take what is not in the list.
static int take(const struct child *child)
{
        siginfo_t info = {0};
        pthread_rwlock_rdlock(&spawning);
        forget_child(child->pid);
        waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG);
        pthread_rwlock_unlock(&spawning);
        return status_of(&info);
}

bool child_wait(struct child *child, int *ret_status, GError **error)
{
        siginfo_t info = {0};
        int failed;
        do {
                failed = waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOWAIT);
        } while (failed < 0 && errno == EINTR);
        if (failed < 0)
                return error_fail_errno(error, errno, "wait for process %d", (int)child->pid);
        *ret_status = take(child);
        return true;
}

bool child_try_wait(struct child *child, int *ret_status)
{
        siginfo_t info = {0};
        if (waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
                return false;
        *ret_status = take(child);
        return true;
}

void child_kill(const struct child *child, int signal)
{
        syscall(SYS_pidfd_send_signal, child->pidfd, signal, NULL, 0);
}

int child_exit_code(int status)
{
        return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static bool make_pipe(int fds[2], GError **error)
{
        if (pipe2(fds, O_CLOEXEC) < 0)
                return error_fail_errno(error, errno, "make pipe");
        fcntl(fds[0], F_SETFL, O_NONBLOCK);
        return true;
}

// False: end of file, the descriptor is closed.
static bool drain(int *fd, GString *text, size_t limit_bytes)
{
        char buffer[4096];
        for (;;) {
                ssize_t n = read(*fd, buffer, sizeof buffer);
                if (n > 0) {
                        if (text->len < limit_bytes)
                                g_string_append_len(text, buffer, (gssize)MIN((size_t)n, limit_bytes - text->len));
                } else if (n < 0 && errno == EINTR) {
                        continue;
                } else if (n < 0 && errno == EAGAIN) {
                        return true;
                } else {
                        fd_close(fd);
                        return false;
                }
        }
}

struct collection {
        struct child child;
        int out, err;
        size_t limit_bytes;
        struct spawn_output *output;
};

// Until the child has ended: a grandchild may keep the pipes open for ever.
static bool collect_until_end(struct collection *c, int timeout_ms)
{
        int64_t end_ns = clock_monotonic_ns() + timeout_ms * NS_PER_MS;
        for (;;) {
                int left_ms = timeout_ms < 0 ? -1 : (int)MAX(0, (end_ns - clock_monotonic_ns()) / NS_PER_MS);
                struct pollfd polled[] = {{c->child.pidfd, POLLIN, 0}, {c->out, POLLIN, 0}, {c->err, POLLIN, 0}};
                int n = poll(polled, G_N_ELEMENTS(polled), left_ms);
                if (n == 0)
                        return false;
                if (n < 0)
                        continue;
                if (c->out >= 0 && polled[1].revents != 0)
                        drain(&c->out, c->output->out, c->limit_bytes);
                if (c->err >= 0 && polled[2].revents != 0)
                        drain(&c->err, c->output->err, c->limit_bytes);
                if (polled[0].revents != 0 && child_try_wait(&c->child, &c->output->status)) {
                        if (c->out >= 0)
                                drain(&c->out, c->output->out, c->limit_bytes);
                        if (c->err >= 0)
                                drain(&c->err, c->output->err, c->limit_bytes);
                        return true;
                }
        }
}

static bool start_with_pipes(const struct spawn_options *options, const int out[2], const int err[2],
        struct child *ret_child, GError **error)
{
        struct spawn_fd fds[34];
        if (options->n_fds + 2 > G_N_ELEMENTS(fds))
                return error_fail(error, ERROR_INTERNAL, "start %s: too many descriptors", options->path);
        for (size_t i = 0; i < options->n_fds; i++)
                fds[i] = options->fds[i];
        fds[options->n_fds] = (struct spawn_fd){out[1], STDOUT_FILENO};
        fds[options->n_fds + 1] = (struct spawn_fd){err[1], STDERR_FILENO};
        struct spawn_options with_pipes = *options;
        with_pipes.fds = fds;
        with_pipes.n_fds = options->n_fds + 2;
        return spawn(&with_pipes, ret_child, error);
}

bool spawn_collect(const struct spawn_options *options, size_t limit_bytes, int timeout_ms,
        struct spawn_output *ret_output, GError **error)
{
        int out[2] = {-1, -1}, err[2] = {-1, -1};
        struct child child = {.pidfd = -1};
        bool started =
                make_pipe(out, error) && make_pipe(err, error) && start_with_pipes(options, out, err, &child, error);
        fd_close(&out[1]);
        fd_close(&err[1]);
        bool ended = false;
        if (started) {
                struct spawn_output output = {.out = g_string_new(NULL), .err = g_string_new(NULL)};
                struct collection collection = {child, out[0], err[0], limit_bytes, &output};
                ended = collect_until_end(&collection, timeout_ms);
                out[0] = collection.out;
                err[0] = collection.err;
                if (ended) {
                        *ret_output = output;
                } else {
                        child_kill(&child, SIGKILL);
                        child_wait(&child, &output.status, NULL);
                        spawn_output_done(&output);
                        error_fail(error, ERROR_DEADLINE_EXCEEDED, "%s did not end within %d ms", options->path,
                                timeout_ms);
                }
        }
        fd_close(&out[0]);
        fd_close(&err[0]);
        fd_close(&child.pidfd);
        return ended;
}

void spawn_output_done(struct spawn_output *output)
{
        if (output->out != NULL)
                g_string_free(output->out, TRUE);
        if (output->err != NULL)
                g_string_free(output->err, TRUE);
        *output = (struct spawn_output){0};
}
