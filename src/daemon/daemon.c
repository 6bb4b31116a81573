// SPDX-License-Identifier: Apache-2.0
//
// The order of the end is the heart of this file: no new connections, calls finish, workers finish, plugins stop in the
// opposite order of their start, then the loop runs dry. A second signal skips the waiting.
#include "daemon/daemon.h"

#include "base/fd.h"
#include "base/log.h"
#include "daemon/idle.h"
#include "daemon/last_end.h"
#include "daemon/listener.h"
#include "daemon/notify.h"
#include "daemon/plugin_set.h"
#include "daemon/plugins.h"
#include "daemon/recheck.h"
#include "io/lanes.h"
#include "io/loop.h"
#include "rpc/server.h"
#include "services/debug.h"
#include "sys/spawn.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

enum { DRAIN_TIMEOUT_MS = 5000, REAP_AGAIN_MS = 50, MAX_ARENAS = 2, LARGE_BYTES = 256 * 1024 };

struct daemon {
        struct config *config;
        struct loop *loop;
        struct lanes *lanes;
        struct plugin_set *plugins;
        struct rpc_server *server;
        size_t max_message_bytes; // of gRPC
        struct debug_service debug;
        struct idle *idle;
        struct recheck *recheck; // NULL: no need
        int signal_fd;
        struct loop_watch *signal_watch;
        uv_signal_t child;
        struct loop_timer *reap_again;
        bool draining;
        int lock_fd;
        bool has_lock;
        enum last_end last_end;
        GError *error;
};

static bool make_directory(const char *path, GError **error)
{
        if (*path != '/')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "directory \"%s\" must be an absolute path", path);
        if (g_mkdir_with_parents(path, 0711) < 0)
                return error_fail_errno(error, errno, "make directory %s", path);
        return true;
}

static bool lock_root(struct daemon *daemon, GError **error)
{
        g_autofree char *path = g_build_filename(config_string(daemon->config, "root"), "skiffd.lock", NULL);
        daemon->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (daemon->lock_fd < 0)
                return error_fail_errno(error, errno, "open %s", path);
        if (flock(daemon->lock_fd, LOCK_EX | LOCK_NB) < 0)
                return error_fail(error, ERROR_FAILED_PRECONDITION,
                        "root directory %s is in use by a running daemon: stop it, or choose another --root",
                        config_string(daemon->config, "root"));
        daemon->has_lock = true;
        daemon->last_end = last_end_begin(daemon->lock_fd);
        return true;
}

// By default each worker gets an arena of its own and keeps what it once held, and each large block that is freed makes
// malloc keep larger ones.
static void prepare_memory(void)
{
        mallopt(M_ARENA_MAX, MAX_ARENAS);
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
        mallopt(M_TRIM_THRESHOLD, LARGE_BYTES);
}

// SIGTERM and SIGINT: read from a descriptor once the daemon has started. One that comes before waits, as clients may
// have connected already.
static sigset_t end_signals(void)
{
        sigset_t ends;
        sigemptyset(&ends);
        sigaddset(&ends, SIGTERM);
        sigaddset(&ends, SIGINT);
        return ends;
}

static void prepare_process(void)
{
        signal(SIGPIPE, SIG_IGN);
        const sigset_t ends = end_signals();
        pthread_sigmask(SIG_BLOCK, &ends, NULL);
        umask(0022);
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        struct rlimit files;
        if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
                files.rlim_cur = files.rlim_max;
                setrlimit(RLIMIT_NOFILE, &files);
        }
}

static void set_oom_score(int64_t score)
{
        if (score == 0)
                return;
        g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, score);
        g_autoptr(GError) G_GNUC_UNUSED error = NULL;
        fd_auto int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, text, strlen(text)) < 0)
                log_warn("cannot set oom_score", "value", text, "error", errno_text(errno));
}

static void add_service(void *data, const char *id, void *instance)
{
        struct daemon *daemon = data;
        for (const struct plugin_service *service = instance; service != NULL; service = service->next)
                rpc_server_add(daemon->server, service->service, service->object, service->protocols);
}

static void read_listener(void *data, const char *id, void *instance)
{
        const struct listener *listener = instance;
        struct daemon *daemon = data;
        if (listener->protocol != RPC_GRPC)
                return;
        daemon->max_message_bytes = listener->max_message_bytes;
        daemon->debug.owner = listener->uid;
}

static void serve_listener(void *data, const char *id, void *instance)
{
        struct daemon *daemon = data;
        struct listener *listener = instance;
        if (daemon->error == NULL &&
                rpc_server_listen(daemon->server, listener->protocol, fd_take(&listener->fd), &daemon->error))
                log_info("serving...", "address", listener->address);
}

static void on_call_end(void *data, struct rpc_call *call, const GError *status)
{
        struct daemon *daemon = data;
        idle_note(daemon->idle);
}

static bool serve(struct daemon *daemon, GError **error)
{
        plugin_set_each(daemon->plugins, PLUGIN_SERVER, read_listener, daemon);
        struct rpc_server_options options = {
                .max_message_bytes = daemon->max_message_bytes, .on_call_end = on_call_end, .data = daemon};
        daemon->idle = idle_new(daemon->loop, daemon->lanes);
        daemon->server = rpc_server_new(daemon->loop, daemon->lanes, &options);
        plugin_set_each(daemon->plugins, PLUGIN_GRPC, add_service, daemon);
        plugin_set_each(daemon->plugins, PLUGIN_TTRPC, add_service, daemon);
        daemon->debug.server = daemon->server;
        rpc_server_add(daemon->server, &debug_service_table, &daemon->debug, RPC_GRPC);
        plugin_set_each(daemon->plugins, PLUGIN_SERVER, serve_listener, daemon);
        if (daemon->error == NULL)
                return true;
        g_propagate_error(error, g_steal_pointer(&daemon->error));
        return false;
}

static void on_drained(void *data)
{
        struct daemon *daemon = data;
        loop_stop(daemon->loop);
}

static void on_signal(void *data, int events)
{
        struct daemon *daemon = data;
        struct signalfd_siginfo info;
        if (read(daemon->signal_fd, &info, sizeof info) != sizeof info)
                return;
        if (daemon->draining)
                _exit(128 + (int)info.ssi_signo);
        daemon->draining = true;
        log_info("stopping", "signal", g_strsignal((int)info.ssi_signo));
        notify_service_manager("STOPPING=1");
        rpc_server_drain(daemon->server, DRAIN_TIMEOUT_MS, on_drained, daemon);
}

static void reap_orphans(void *data)
{
        struct daemon *daemon = data;
        daemon->reap_again =
                child_reap_orphans() ? loop_timer_start(daemon->loop, REAP_AGAIN_MS, reap_orphans, daemon) : NULL;
}

static void on_child(uv_signal_t *handle, int number)
{
        struct daemon *daemon = handle->data;
        if (daemon->reap_again == NULL)
                reap_orphans(daemon);
}

static bool watch_signals(struct daemon *daemon, GError **error)
{
        const sigset_t ends = end_signals();
        daemon->signal_fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
        if (daemon->signal_fd < 0)
                return error_fail_errno(error, errno, "open signalfd");
        daemon->signal_watch = loop_watch_start(daemon->loop, daemon->signal_fd, UV_READABLE, on_signal, daemon);
        uv_signal_init(loop_uv(daemon->loop), &daemon->child);
        daemon->child.data = daemon;
        uv_signal_start(&daemon->child, on_child, SIGCHLD);
        reap_orphans(daemon); // what ended while the plugins started
        return true;
}

static bool start(struct daemon *daemon, GError **error)
{
        const char *root = config_string(daemon->config, "root"), *state = config_string(daemon->config, "state");
        if (strcmp(root, state) == 0)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "root and state must be different paths");
        if (!make_directory(root, error) || !make_directory(state, error) || !lock_root(daemon, error))
                return false;
        set_oom_score(config_int(daemon->config, "oom_score"));
        daemon->loop = loop_new(error);
        if (daemon->loop == NULL)
                return false;
        daemon->lanes = lanes_new(NULL);
        struct plugin_set_options options = {
                .config = daemon->config,
                .loop = daemon->loop,
                .lanes = daemon->lanes,
                .plugins = builtin_plugins,
        };
        daemon->plugins = plugin_set_start(&options, error);
        return daemon->plugins != NULL && serve(daemon, error);
}

static void note_instance(void *data, const char *id, void *instance)
{
        *(void **)data = instance;
}

// Clients do not wait for it: what was acknowledged is there after a kill, and this looks for what should not happen.
static void check_after_unclean_end(struct daemon *daemon)
{
        void *metadata = NULL, *content = NULL;
        plugin_set_each(daemon->plugins, PLUGIN_METADATA, note_instance, &metadata);
        plugin_set_each(daemon->plugins, PLUGIN_CONTENT, note_instance, &content);
        const struct checkup checkup = {
                .metadata = metadata, .content = content, .hash = daemon->last_end == LAST_END_MACHINE};
        if (daemon->last_end != LAST_END_CLEAN && metadata != NULL)
                daemon->recheck = recheck_start(daemon->lanes, daemon->lock_fd, &checkup);
}

static void finish(struct daemon *daemon)
{
        bool checked = recheck_stop(daemon->recheck);
        plugin_set_stop(daemon->plugins);
        lanes_join(daemon->lanes, daemon->loop);
        rpc_server_free(daemon->server);
        idle_free(daemon->idle);
        // A worker that has given its last answer may not have been reaped yet: its end comes by the loop, to a lane.
        if (daemon->loop != NULL)
                loop_drain(daemon->loop);
        lanes_free(daemon->lanes);
        loop_free(daemon->loop);
        if (daemon->has_lock && (checked || daemon->last_end == LAST_END_CLEAN))
                last_end_clean(daemon->lock_fd);
        fd_close(&daemon->signal_fd);
        fd_close(&daemon->lock_fd);
}

bool daemon_run(struct config *config, GError **error)
{
        struct daemon daemon = {.config = config, .lock_fd = -1, .signal_fd = -1};
        prepare_memory();
        prepare_process();
        bool started = start(&daemon, error) && watch_signals(&daemon, error);
        if (started) {
                notify_service_manager("READY=1");
                log_info("skiffd successfully booted");
                check_after_unclean_end(&daemon);
                loop_run(daemon.loop);
                loop_watch_stop(daemon.signal_watch);
                const sigset_t ends = end_signals();
                pthread_sigmask(SIG_UNBLOCK, &ends, NULL); // one more does not wait for the rest
                uv_close((uv_handle_t *)&daemon.child, NULL);
                loop_timer_stop(daemon.reap_again);
        }
        finish(&daemon);
        return started;
}
