// SPDX-License-Identifier: Apache-2.0
//
// A job is a child of ours, so the reaper tells its end; its output, a few lines at most, waits in a pipe until then.
// The container's first process may inherit that pipe, so its end is not waited for. While a job runs that leaves a
// process behind, the reaper is held: until the pid file is read nobody knows that the process is not a stranger.
//
// How long a runtime may take, nobody can say: CRIU writes gigabytes. But once the container's process has ended, there
// is nothing that takes long, and one that hangs would keep the container from being deleted: it is killed.
#include "shim/oci.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "codec/json_scan.h"
#include "sys/files.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { OUTPUT_LIMIT_BYTES = 16 * 1024, LOG_LIMIT_BYTES = 1024 * 1024, HANG_LIMIT_MS = 10 * 1000 };

struct job {
        const struct oci *oci; // the caller's, and there until done
        struct reaper *reaper;
        pid_t pid;
        struct loop_timer *timer;
        char *binary;
        int output; // -1: not collected
        bool held;
        oci_done_fn done;
        void *data;
};

void oci_done(struct oci *oci)
{
        g_free(oci->binary);
        g_free(oci->root);
        g_free(oci->log);
        g_free(oci->bundle);
        *oci = (struct oci){0};
}

static GError *error_of(const struct job *job, int status)
{
        if (status == 0)
                return NULL;
        g_autofree char *output = job->output >= 0 ? file_read_some(job->output, OUTPUT_LIMIT_BYTES) : g_strdup("");
        g_autofree char *how = WIFSIGNALED(status) ? g_strdup_printf("signal: %s", strsignal(WTERMSIG(status)))
                                                   : g_strdup_printf("exit status %d", child_exit_code(status));
        return g_error_new(SKIFF_ERROR, ERROR_UNKNOWN, "%s did not terminate successfully: %s%s%s", job->binary, how,
                job->output >= 0 ? ": " : "", output);
}

static void on_end(void *data, int status, int64_t ended_ns)
{
        struct job *job = data;
        g_autoptr(GError) error = error_of(job, status);
        loop_timer_stop(job->timer);
        fd_close(&job->output);
        job->done(job->data, error);
        if (job->held)
                reaper_release(job->reaper);
        g_free(job->binary);
        g_free(job);
}

static void on_hang_limit(void *data)
{
        struct job *job = data;
        if (job->oci->container_ended) {
                log_error("OCI runtime hangs and is killed", "runtime", job->binary, "bundle", job->oci->bundle);
                kill(job->pid, SIGKILL); // a child of ours that was not reaped
        }
        job->timer = loop_timer_start(job->oci->loop, HANG_LIMIT_MS, on_hang_limit, job);
}

static GPtrArray *command_line(const struct oci *oci, const char *const *args)
{
        GPtrArray *argv = g_ptr_array_new();
        const char *head[] = {oci->binary, "--root", oci->root, "--log", oci->log, "--log-format", "json"};
        for (size_t i = 0; i < G_N_ELEMENTS(head); i++)
                g_ptr_array_add(argv, (char *)head[i]);
        if (oci->systemd_cgroup)
                g_ptr_array_add(argv, (char *)"--systemd-cgroup");
        for (; *args != NULL; args++)
                g_ptr_array_add(argv, (char *)*args);
        g_ptr_array_add(argv, NULL);
        return argv;
}

static int file_with(const char *text, GError **error)
{
        int fd = memfd_create("input", MFD_CLOEXEC);
        size_t n = strlen(text);
        if (fd >= 0 && write(fd, text, n) == (ssize_t)n && lseek(fd, 0, SEEK_SET) == 0)
                return fd;
        error_fail_errno(error, errno, "keep input of the OCI runtime");
        fd_close(&fd);
        return -1;
}

bool oci_run(const struct oci *oci, const struct oci_job *options, oci_done_fn done, void *data, GError **error)
{
        fd_auto int input = -1, read_end = -1, write_end = -1;
        struct spawn_fd fds[3];
        size_t n_fds = 0;
        if (options->input != NULL) {
                if ((input = file_with(options->input, error)) < 0)
                        return false;
                fds[n_fds++] = (struct spawn_fd){input, STDIN_FILENO};
        }
        if (options->fds == NULL) {
                int ends[2];
                if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
                        return error_fail_errno(error, errno, "make pipe");
                read_end = ends[0];
                write_end = ends[1];
                fcntl(write_end, F_SETFL, 0);
                fds[n_fds++] = (struct spawn_fd){write_end, STDOUT_FILENO};
                fds[n_fds++] = (struct spawn_fd){write_end, STDERR_FILENO};
        }
        g_autoptr(GPtrArray) argv = command_line(oci, options->args);
        struct spawn_options spawn_options = {
                .path = oci->binary,
                .program_fd = oci->program_fd,
                .argv = (const char *const *)argv->pdata,
                .cwd = oci->bundle,
                .fds = options->fds != NULL ? options->fds : fds,
                .n_fds = options->fds != NULL ? options->n_fds : n_fds,
        };
        struct child child;
        if (!spawn(&spawn_options, &child, error))
                return false;
        fd_close(&child.pidfd);
        struct job *job = g_new0(struct job, 1);
        *job = (struct job){
                .oci = oci,
                .reaper = oci->reaper,
                .pid = child.pid,
                .timer = loop_timer_start(oci->loop, HANG_LIMIT_MS, on_hang_limit, job),
                .binary = g_strdup(oci->binary),
                .output = fd_take(&read_end),
                .held = options->leaves_process,
                .done = done,
                .data = data,
        };
        if (job->held)
                reaper_hold(job->reaper);
        reaper_watch(oci->reaper, child.pid, on_end, job);
        return true;
}

// The text of the last record of level error; "" if there is none.
static char *last_error(const char *text)
{
        char *found = NULL;
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; *line != NULL; line++) {
                struct json_span record;
                if (!json_scan_document(*line, strlen(*line), &record) ||
                        !json_span_is(json_member(record, "level"), "\"error\""))
                        continue;
                char *message = json_span_string(json_member(record, "msg"));
                if (message == NULL)
                        continue;
                g_free(found);
                found = g_strstrip(message);
        }
        return found != NULL ? found : g_strdup("");
}

static bool read_file(const char *path, char **ret_text, GError **error)
{
        fd_auto int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return error_fail(error, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_UNKNOWN, "open %s: %s", path,
                        errno_text(errno));
        *ret_text = file_read_some(fd, LOG_LIMIT_BYTES);
        return true;
}

GError *oci_describe(const struct oci *oci, const char *what, const GError *error)
{
        g_autofree char *log = NULL;
        g_autoptr(GError) no_log = NULL;
        if (!read_file(oci->log, &log, &no_log))
                return g_error_new(SKIFF_ERROR, ERROR_UNKNOWN, "%s: unable to retrieve OCI runtime error (%s): %s",
                        what, no_log->message, error->message);
        g_autofree char *last = last_error(log);
        return g_error_new(SKIFF_ERROR, ERROR_UNKNOWN, "%s: %s", what, *last != '\0' ? last : error->message);
}

bool oci_read_pid(const char *path, pid_t *ret_pid, GError **error)
{
        g_autofree char *text = NULL;
        if (!read_file(path, &text, error))
                return false;
        char *end;
        long pid = strtol(text, &end, 10);
        if (end == text || pid <= 0 || pid > G_MAXINT)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "%s holds no process id", path);
        *ret_pid = (pid_t)pid;
        return true;
}
