// SPDX-License-Identifier: Apache-2.0
//
// Listeners, connections and the list of services. A connection is in the list from its birth to on_closed; drained is
// called when the list is empty. The server's memory outlives rpc_server_free as long as a handler holds a call.
#include "rpc/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum {
        DEFAULT_GRPC_MESSAGE_BYTES = 16 * 1024 * 1024,
        DEFAULT_TTRPC_MESSAGE_BYTES = 4 * 1024 * 1024,
        DEFAULT_STREAMS = 10000,
        DEFAULT_CONNECTIONS = 4096,
        DEFAULT_CONNECTION_QUEUE_BYTES = 32 * 1024 * 1024,
        DEFAULT_TOTAL_QUEUE_BYTES = 256 * 1024 * 1024,
        DEFAULT_KEEPALIVE_MS = 2 * 60 * 60 * 1000,
        ACCEPTS_PER_TURN = 16,
        ACCEPT_PAUSE_MS = 100 // after running out of descriptors
};

struct entry {
        const struct rpc_service *service;
        void *object;
        unsigned protocols;
};

struct listener {
        struct rpc_server *server;
        enum rpc_protocol protocol;
        int fd;
        struct loop_watch *watch;
        struct loop_timer *pause;
};

struct rpc_server {
        atomic_uint refs;
        struct loop *loop;
        struct lanes *lanes;
        struct rpc_server_options options;
        struct rpc_budget total;
        atomic_bool starved;
        struct rpc_calls calls;
        GArray *entries; // struct entry
        GPtrArray *listeners;
        struct rpc_connection *connections;
        unsigned n_connections;
        bool draining;
        struct loop_timer *drain_timer;
        void (*drained)(void *data);
        void *drained_data;
};

struct rpc_server *rpc_server_new(struct loop *loop, struct lanes *lanes, const struct rpc_server_options *options)
{
        struct rpc_server *server = g_new0(struct rpc_server, 1);
        atomic_init(&server->refs, 1);
        server->loop = loop;
        server->lanes = lanes;
        struct rpc_server_options *own = &server->options;
        if (options != NULL)
                *own = *options;
        if (own->max_streams == 0)
                own->max_streams = DEFAULT_STREAMS;
        if (own->max_connections == 0)
                own->max_connections = DEFAULT_CONNECTIONS;
        if (own->max_connection_queue_bytes == 0)
                own->max_connection_queue_bytes = DEFAULT_CONNECTION_QUEUE_BYTES;
        if (own->max_total_queue_bytes == 0)
                own->max_total_queue_bytes = DEFAULT_TOTAL_QUEUE_BYTES;
        if (own->keepalive_ms == 0)
                own->keepalive_ms = DEFAULT_KEEPALIVE_MS;
        server->total.cap = own->max_total_queue_bytes;
        uv_mutex_init(&server->calls.lock);
        server->entries = g_array_new(FALSE, FALSE, sizeof(struct entry));
        server->listeners = g_ptr_array_new();
        return server;
}

struct rpc_server *rpc_server_ref(struct rpc_server *server)
{
        atomic_fetch_add_explicit(&server->refs, 1, memory_order_relaxed);
        return server;
}

void rpc_server_unref(struct rpc_server *server)
{
        if (atomic_fetch_sub_explicit(&server->refs, 1, memory_order_acq_rel) != 1)
                return;
        g_assert(server->calls.first == NULL);
        uv_mutex_destroy(&server->calls.lock);
        g_array_unref(server->entries);
        g_ptr_array_unref(server->listeners);
        g_free(server);
}

void rpc_server_free(struct rpc_server *server)
{
        if (server == NULL)
                return;
        g_assert(server->connections == NULL && server->listeners->len == 0);
        rpc_server_unref(server);
}

const struct rpc_server_options *rpc_server_options(const struct rpc_server *server)
{
        return &server->options;
}

struct rpc_calls *rpc_server_calls(struct rpc_server *server)
{
        return &server->calls;
}

// ---- services

void rpc_server_add(struct rpc_server *server, const struct rpc_service *service, void *object, unsigned protocols)
{
        struct entry entry = {service, object, protocols};
        g_array_append_val(server->entries, entry);
}

const struct rpc_service *rpc_server_find(
        struct rpc_server *server, const struct rpc_connection *connection, const char *service, void **ret_object)
{
        for (guint i = 0; i < server->entries->len; i++) {
                const struct entry *entry = &g_array_index(server->entries, struct entry, i);
                if ((entry->protocols & connection->protocol) == 0 || strcmp(entry->service->name, service) != 0)
                        continue;
                *ret_object = entry->object;
                return entry->service;
        }
        return NULL;
}

// ---- connections

static void drain_finish(struct rpc_server *server)
{
        if (server->connections != NULL || server->drained == NULL)
                return;
        void (*drained)(void *data) = server->drained;
        server->drained = NULL;
        atomic_store(&server->starved, false); // no connection is left to be woken
        drained(server->drained_data);
}

static void close_connections(void *data)
{
        struct rpc_server *server = data;
        server->drain_timer = NULL;
        for (struct rpc_connection *connection = server->connections, *next; connection != NULL; connection = next) {
                next = connection->next;
                connection->transport->close(connection);
        }
        drain_finish(server);
}

static void on_connection_closed(struct rpc_connection *connection, void *data)
{
        struct rpc_server *server = data;
        if (connection->prev != NULL)
                connection->prev->next = connection->next;
        else
                server->connections = connection->next;
        if (connection->next != NULL)
                connection->next->prev = connection->prev;
        server->n_connections--;
        if (server->drain_timer != NULL && server->connections == NULL) {
                loop_timer_stop(server->drain_timer);
                server->drain_timer = loop_timer_start(server->loop, 0, close_connections, server);
        }
}

struct rpc_connection_options rpc_server_connection_options(
        struct rpc_server *server, enum rpc_protocol protocol, const struct rpc_transport *transport)
{
        size_t max = server->options.max_message_bytes;
        if (max == 0)
                max = protocol == RPC_GRPC ? DEFAULT_GRPC_MESSAGE_BYTES : DEFAULT_TTRPC_MESSAGE_BYTES;
        return (struct rpc_connection_options){
                .loop = server->loop,
                .lanes = server->lanes,
                .server = server,
                .protocol = protocol,
                .transport = transport,
                .max_message_bytes = max,
                .max_queue_bytes = server->options.max_connection_queue_bytes,
                .total = &server->total,
                .on_closed = on_connection_closed,
                .on_closed_data = server,
        };
}

static struct rpc_peer peer_of(int fd)
{
        struct ucred credentials;
        socklen_t length = sizeof credentials;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0)
                return (struct rpc_peer){0, UINT32_MAX};
        return (struct rpc_peer){credentials.pid, credentials.uid};
}

void rpc_server_add_connection(struct rpc_server *server, enum rpc_protocol protocol, int fd)
{
        if (server->draining || server->n_connections >= server->options.max_connections ||
                !rpc_socket_prepare(fd, NULL)) {
                close(fd);
                return;
        }
        struct rpc_connection *(*connection_new)(struct rpc_server * server, int fd) =
                protocol == RPC_GRPC ? rpc_h2_server_new : rpc_ttrpc_server_new;
        g_assert(connection_new != NULL); // else the program was linked without that protocol
        struct rpc_peer peer = peer_of(fd);
        struct rpc_connection *connection = connection_new(server, fd);
        connection->peer = peer;
        connection->next = server->connections;
        if (connection->next != NULL)
                connection->next->prev = connection;
        server->connections = connection;
        server->n_connections++;
        connection->transport->open(connection);
}

// ---- budgets

static void wake_connections(void *data)
{
        struct rpc_server *server = data;
        for (struct rpc_connection *connection = server->connections; connection != NULL; connection = connection->next)
                if (atomic_load(&connection->starved))
                        rpc_connection_wake(connection);
        rpc_server_unref(server);
}

void rpc_server_budget_full(struct rpc_server *server)
{
        atomic_store(&server->starved, true);
}

void rpc_server_budget_freed(struct rpc_server *server)
{
        if (atomic_load_explicit(&server->starved, memory_order_relaxed) && atomic_exchange(&server->starved, false))
                loop_post(server->loop, wake_connections, rpc_server_ref(server));
}

// ---- listeners

static void on_acceptable(void *data, int events);

static void resume_accepting(void *data)
{
        struct listener *listener = data;
        listener->pause = NULL;
        loop_watch_change(listener->watch, UV_READABLE);
}

static void pause_accepting(struct listener *listener)
{
        loop_watch_change(listener->watch, 0);
        listener->pause = loop_timer_start(listener->server->loop, ACCEPT_PAUSE_MS, resume_accepting, listener);
}

static void on_acceptable(void *data, int events)
{
        struct listener *listener = data;
        for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
                int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0) {
                        rpc_server_add_connection(listener->server, listener->protocol, fd);
                        continue;
                }
                if (errno == EINTR || errno == ECONNABORTED)
                        continue;
                if (errno != EAGAIN)
                        pause_accepting(listener);
                return;
        }
}

bool rpc_server_listen(struct rpc_server *server, enum rpc_protocol protocol, int fd, GError **error)
{
        if (!rpc_socket_prepare(fd, error)) {
                close(fd);
                return false;
        }
        struct listener *listener = g_new0(struct listener, 1);
        listener->server = server;
        listener->protocol = protocol;
        listener->fd = fd;
        listener->watch = loop_watch_start(server->loop, fd, UV_READABLE, on_acceptable, listener);
        g_ptr_array_add(server->listeners, listener);
        return true;
}

static void stop_listening(struct rpc_server *server)
{
        for (guint i = 0; i < server->listeners->len; i++) {
                struct listener *listener = g_ptr_array_index(server->listeners, i);
                loop_watch_stop(listener->watch);
                if (listener->pause != NULL)
                        loop_timer_stop(listener->pause);
                close(listener->fd);
                g_free(listener);
        }
        g_ptr_array_set_size(server->listeners, 0);
}

// ---- the end

void rpc_server_drain(struct rpc_server *server, unsigned timeout_ms, void (*done)(void *data), void *data)
{
        g_assert(!server->draining);
        server->draining = true;
        server->drained = done; // not called from here: the caller may be in the midst of its own work
        server->drained_data = data;
        stop_listening(server);
        server->drain_timer =
                loop_timer_start(server->loop, server->connections == NULL ? 0 : timeout_ms, close_connections, server);
        for (struct rpc_connection *connection = server->connections, *next; connection != NULL; connection = next) {
                next = connection->next;
                connection->transport->drain(connection);
        }
}
