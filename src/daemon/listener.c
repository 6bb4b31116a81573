// SPDX-License-Identifier: Apache-2.0
//
// A socket file that nobody answers at is what an earlier daemon left, and is replaced; one that answers is a running
// daemon's, and is not. The socket gets owner and mode before it listens.
#include "daemon/listener.h"

#include "base/fd.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static bool fill_address(const char *path, struct sockaddr_un *ret_address, GError **error)
{
        *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
        if (strlen(path) >= sizeof ret_address->sun_path)
                return error_fail(error, ERROR_INVALID_ARGUMENT,
                        "socket path %s is longer than the %zu bytes that the kernel takes", path,
                        sizeof ret_address->sun_path - 1);
        memcpy(ret_address->sun_path, path, strlen(path) + 1);
        return true;
}

static bool remove_stale(const char *path, const struct sockaddr_un *address, GError **error)
{
        struct stat status;
        if (lstat(path, &status) < 0)
                return errno == ENOENT || error_fail_errno(error, errno, "look at %s", path);
        if (!S_ISSOCK(status.st_mode))
                return error_fail(error, ERROR_FAILED_PRECONDITION, "%s exists and is not a socket", path);
        fd_auto int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return error_fail_errno(error, errno, "make socket");
        if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN)
                return error_fail(error, ERROR_FAILED_PRECONDITION,
                        "%s is in use by a running daemon: stop it, or choose another --address", path);
        if (unlink(path) < 0)
                return error_fail_errno(error, errno, "remove stale socket %s", path);
        return true;
}

static int listen_unix(const char *path, uid_t uid, gid_t gid, GError **error)
{
        struct sockaddr_un address;
        g_autofree char *folder = g_path_get_dirname(path);
        g_mkdir_with_parents(folder, 0711);
        if (!fill_address(path, &address, error) || !remove_stale(path, &address, error))
                return -1;
        fd_auto int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || chmod(path, 0660) < 0 ||
                chown(path, uid, gid) < 0 || listen(fd, SOMAXCONN) < 0) {
                error_fail_errno(error, errno, "listen on %s", path);
                return -1;
        }
        return fd_take(&fd);
}

static void *init_listener(struct plugin_host *host, enum rpc_protocol protocol, const char *address, GError **error)
{
        uid_t uid = (uid_t)plugin_host_config_int(host, "uid");
        int fd = listen_unix(address, uid, (gid_t)plugin_host_config_int(host, "gid"), error);
        if (fd < 0)
                return NULL;
        struct listener *listener = g_new0(struct listener, 1);
        listener->protocol = protocol;
        listener->address = g_strdup(address);
        listener->fd = fd;
        listener->uid = uid;
        return listener;
}

static void *init_grpc(struct plugin_host *host, GError **error)
{
        struct listener *listener = init_listener(host, RPC_GRPC, plugin_host_address(host), error);
        if (listener != NULL)
                listener->max_message_bytes = (size_t)MAX(0, plugin_host_config_int(host, "max_recv_message_size"));
        return listener;
}

static void *init_ttrpc(struct plugin_host *host, GError **error)
{
        const char *configured = plugin_host_config_string(host, "address");
        g_autofree char *beside = g_strconcat(plugin_host_address(host), ".ttrpc", NULL);
        return init_listener(host, RPC_TTRPC, *configured != 0 ? configured : beside, error);
}

static void stop_listener(void *instance)
{
        struct listener *listener = instance;
        fd_close(&listener->fd);
        unlink(listener->address);
        g_free(listener->address);
        g_free(listener);
}

const struct plugin grpc_listener_plugin = {
        .type = PLUGIN_SERVER,
        .id = "grpc",
        .settings =
                (const struct plugin_setting[]){
                        {"address", "''"},
                        {"uid", "0"},
                        {"gid", "0"},
                        {"max_recv_message_size", "16777216"},
                        {"max_send_message_size", "16777216"},
                        {NULL, NULL},
                },
        .requires_ = (const struct plugin_requirement[]){{PLUGIN_GRPC, NULL}, {NULL, NULL}},
        .init = init_grpc,
        .stop = stop_listener,
};

const struct plugin ttrpc_listener_plugin = {
        .type = PLUGIN_SERVER,
        .id = "ttrpc",
        .settings = (const struct plugin_setting[]){{"address", "''"}, {"uid", "0"}, {"gid", "0"}, {NULL, NULL}},
        .requires_ = (const struct plugin_requirement[]){{PLUGIN_TTRPC, NULL}, {NULL, NULL}},
        .init = init_ttrpc,
        .stop = stop_listener,
};
