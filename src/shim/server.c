// SPDX-License-Identifier: Apache-2.0
//
// One thread, one loop: the socket, the containers' ends and streams, the way to the daemon. Told to stop, it answers
// what is under way, sends the events that are left, removes its socket and ends.
#include "shim/server.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "shim/container.h"
#include "sys/sealed_program.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { DRAIN_TIMEOUT_MS = 1000, FLUSH_TIMEOUT_MS = 3000, BACKLOG = 128 };

struct server {
        struct shim shim; // first
        struct lanes *lanes;
        int signal_fd;
        struct loop_watch *signal_watch;
        char *path; // of the socket; NULL: it has none
        bool drained, flushed;
};

// The daemon reads the shim's log from a FIFO in the bundle. Kept open for both, so that a daemon that is gone neither
// ends nor blocks the shim: what does not fit meanwhile is lost.
static void open_log(const struct shim_flags *flags)
{
        fd_auto int fd = open("log", O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0)
                dup2(fd, STDERR_FILENO);
        log_configure(flags->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
}

static int listen_at(const char *path, GError **error)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        if (strlen(path) >= sizeof address.sun_path) {
                error_fail(error, ERROR_INVALID_ARGUMENT, "\"%s\": unix socket path too long", path);
                return -1;
        }
        memcpy(address.sun_path, path, strlen(path));
        fd_auto int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0) {
                error_fail_errno(error, errno, "listen at %s", path);
                return -1;
        }
        return fd_take(&fd);
}

// The path of the listening socket; NULL: it has none.
static char *path_of(int fd)
{
        struct sockaddr_un address = {0};
        socklen_t length = sizeof address - 1;
        if (getsockname(fd, (struct sockaddr *)&address, &length) < 0 || address.sun_path[0] != '/')
                return NULL;
        return g_strdup(address.sun_path);
}

static void end_if_done(struct server *server)
{
        if (server->drained && server->flushed)
                loop_stop(server->shim.loop);
}

static void on_flushed(void *data)
{
        struct server *server = data;
        server->flushed = true;
        end_if_done(server);
}

static void on_drained(void *data)
{
        struct server *server = data;
        server->drained = true;
        end_if_done(server);
}

static void stop(struct shim *shim)
{
        struct server *server = (struct server *)shim;
        if (shim->stopping)
                return;
        shim->stopping = true;
        // At once: later it may be that of a new shim of the group, which found this one deaf.
        if (server->path != NULL)
                unlink(server->path);
        publisher_flush(shim->publisher, FLUSH_TIMEOUT_MS, on_flushed, server);
        rpc_server_drain(shim->server, DRAIN_TIMEOUT_MS, on_drained, server);
}

static void on_signal(void *data, int events)
{
        struct server *server = data;
        struct signalfd_siginfo info;
        if (read(server->signal_fd, &info, sizeof info) > 0)
                stop(&server->shim);
}

static bool watch_signals(struct server *server, GError **error)
{
        sigset_t ends;
        sigemptyset(&ends);
        sigaddset(&ends, SIGTERM);
        sigaddset(&ends, SIGINT);
        sigprocmask(SIG_BLOCK, &ends, NULL);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        server->signal_fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
        if (server->signal_fd < 0)
                return error_fail_errno(error, errno, "open signalfd");
        server->signal_watch = loop_watch_start(server->shim.loop, server->signal_fd, UV_READABLE, on_signal, server);
        return true;
}

static void unref_container(void *container)
{
        container_unref(container);
}

static bool set_up(struct server *server, const struct shim_flags *flags, int fd, GError **error)
{
        struct shim *shim = &server->shim;
        const char *events_address = g_getenv("TTRPC_ADDRESS");
        shim->namespace_ = g_strdup(flags->namespace_);
        shim->stop = stop;
        shim->containers = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, unref_container);
        if ((shim->loop = loop_new(error)) == NULL || (shim->reaper = reaper_new(shim->loop, error)) == NULL ||
                !watch_signals(server, error))
                return false;
        shim->publisher = publisher_new(shim->loop, events_address != NULL ? events_address : "", flags->namespace_);
        server->lanes = lanes_new_inline(shim->loop);
        shim->server = rpc_server_new(shim->loop, server->lanes, NULL);
        task_service_add(shim->server, shim);
        return rpc_server_listen(shim->server, RPC_TTRPC, fd, error);
}

bool server_run(const struct shim_flags *flags, GError **error)
{
        open_log(flags);
        unsetenv("NOTIFY_SOCKET"); // the daemon's, not for the OCI runtime
        if (g_strcmp0(g_getenv("GLIBC_TUNABLES"), SERVER_TUNABLES) == 0)
                unsetenv("GLIBC_TUNABLES"); // the shim's alone
        const char *copied_runtime = g_getenv(SEALED_PROGRAM_VARIABLE);
        if (copied_runtime != NULL && fcntl(SEALED_PROGRAM_FD, F_SETFD, FD_CLOEXEC) < 0)
                copied_runtime = NULL;
        int fd = flags->socket != NULL ? listen_at(flags->socket, error) : SERVER_SOCKET_FD;
        if (fd < 0)
                return false;
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        struct server server = {.shim.copied_runtime = g_strdup(copied_runtime), .signal_fd = -1, .path = path_of(fd)};
        unsetenv(SEALED_PROGRAM_VARIABLE);
        const char *path = server.path;
        server.shim.socket_directory = path != NULL ? g_path_get_dirname(path) : g_strdup(g_get_tmp_dir());
        if (!set_up(&server, flags, fd, error))
                return false;
        log_debug("shim serves", "id", flags->id, "namespace", flags->namespace_, "socket", path);
        loop_run(server.shim.loop);
        exit(EXIT_SUCCESS); // all that is left belongs to the process, which ends here
}
