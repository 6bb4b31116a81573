// SPDX-License-Identifier: Apache-2.0
//
// SIGCHLD comes by a signalfd and tells only that something happened: each watched process is asked, then strangers
// (grandchildren that lost their parent) are swept away. An ended process stays a zombie, its id taken, until one of
// the two collects it; so no exit is lost however early it comes, and no id is ever mistaken for another process.
#include "shim/reaper.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

struct entry {
        pid_t pid;
        reaper_fn fn;
        void *data;
        int status;
};

struct reaper {
        struct loop *loop;
        int signal_fd;
        struct loop_watch *watch;
        GArray *entries; // of struct entry
        unsigned n_holds;
        bool check_posted, freed;
};

// False: still running.
static bool try_reap(struct entry *entry)
{
        pid_t pid;
        do {
                pid = waitpid(entry->pid, &entry->status, WNOHANG);
        } while (pid < 0 && errno == EINTR);
        if (pid < 0)
                entry->status = -1;
        return pid != 0;
}

static void reap_watched(struct reaper *reaper)
{
        g_autoptr(GArray) ended = NULL;
        for (guint i = 0; i < reaper->entries->len;) {
                struct entry *entry = &g_array_index(reaper->entries, struct entry, i);
                if (!try_reap(entry)) {
                        i++;
                        continue;
                }
                if (ended == NULL)
                        ended = g_array_new(FALSE, FALSE, sizeof(struct entry));
                g_array_append_val(ended, *entry);
                g_array_remove_index(reaper->entries, i);
        }
        int64_t now_ns = ended != NULL ? clock_now_ns() : 0;
        for (guint i = 0; ended != NULL && i < ended->len; i++) {
                const struct entry *entry = &g_array_index(ended, struct entry, i);
                entry->fn(entry->data, entry->status, now_ns);
        }
}

static bool is_watched(const struct reaper *reaper, pid_t pid)
{
        for (guint i = 0; i < reaper->entries->len; i++) {
                if (g_array_index(reaper->entries, struct entry, i).pid == pid)
                        return true;
        }
        return false;
}

static void sweep_strangers(struct reaper *reaper)
{
        while (reaper->n_holds == 0) {
                siginfo_t info = {0};
                if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
                        return;
                if (is_watched(reaper, info.si_pid))
                        reap_watched(reaper);
                else
                        waitpid(info.si_pid, NULL, WNOHANG);
        }
}

static void check(void *data)
{
        struct reaper *reaper = data;
        reaper->check_posted = false;
        if (reaper->freed) {
                g_free(reaper);
                return;
        }
        reap_watched(reaper);
        sweep_strangers(reaper);
}

static void post_check(struct reaper *reaper)
{
        if (!reaper->check_posted)
                loop_post(reaper->loop, check, reaper);
        reaper->check_posted = true;
}

static void on_signal(void *data, int events)
{
        struct reaper *reaper = data;
        struct signalfd_siginfo infos[4];
        while (read(reaper->signal_fd, infos, sizeof infos) > 0)
                continue;
        post_check(reaper);
}

struct reaper *reaper_new(struct loop *loop, GError **error)
{
        if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
                error_fail_errno(error, errno, "become subreaper");
                return NULL;
        }
        sigset_t children;
        sigemptyset(&children);
        sigaddset(&children, SIGCHLD);
        sigprocmask(SIG_BLOCK, &children, NULL);
        int fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fd < 0) {
                error_fail_errno(error, errno, "open signalfd");
                return NULL;
        }
        struct reaper *reaper = g_new0(struct reaper, 1);
        reaper->loop = loop;
        reaper->signal_fd = fd;
        reaper->entries = g_array_new(FALSE, FALSE, sizeof(struct entry));
        reaper->watch = loop_watch_start(loop, fd, UV_READABLE, on_signal, reaper);
        return reaper;
}

void reaper_free(struct reaper *reaper)
{
        if (reaper == NULL)
                return;
        loop_watch_stop(reaper->watch);
        fd_close(&reaper->signal_fd);
        g_array_unref(reaper->entries);
        reaper->freed = true;
        if (!reaper->check_posted)
                g_free(reaper);
}

void reaper_watch(struct reaper *reaper, pid_t pid, reaper_fn fn, void *data)
{
        struct entry entry = {.pid = pid, .fn = fn, .data = data};
        g_array_append_val(reaper->entries, entry);
        post_check(reaper);
}

void reaper_hold(struct reaper *reaper)
{
        reaper->n_holds++;
}

void reaper_release(struct reaper *reaper)
{
        g_assert(reaper->n_holds > 0);
        if (--reaper->n_holds == 0)
                post_check(reaper);
}
