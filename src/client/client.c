// SPDX-License-Identifier: Apache-2.0
//
// The connection. A lane's thread runs the loop; calls are sent from any thread and answered there. An answer lives
// only as long as its callback, so it is packed again and kept as bytes until the caller fetches it: that costs a copy
// of small messages, and lets several calls be under way without a thread for each.
#include "client/internal.h"

#include "io/cancel.h"
#include "io/lanes.h"
#include "io/loop.h"

#include "containerd/version.pb-c.h"
#include "google/protobuf/empty.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CONNECT_TIMEOUT_MS = 10000 };

const char *skiff_version(void)
{
        return SKIFF_VERSION;
}

// ---- connect

static const char *socket_path(const char *address)
{
        return g_str_has_prefix(address, "unix://") ? address + strlen("unix://") : address;
}

static void run_loop(void *data)
{
        struct skiff_client *client = data;
        loop_run(client->loop);
        waiter_signal(client->loop_ended);
}

// Says what is wrong with a socket that could not be connected to, better than connect(2) does.
static void explain_connect(const char *address, GError **error)
{
        const char *path = socket_path(address);
        struct stat info;
        if (*path != '/' || error == NULL)
                return;
        if (stat(path, &info) == 0) {
                if (access(path, R_OK | W_OK) != 0 && errno == EACCES) {
                        g_clear_error(error);
                        error_fail(error, ERROR_PERMISSION_DENIED, "connect to %s: permission denied", path);
                }
                return;
        }
        int cause = errno;
        g_clear_error(error);
        if (cause == EACCES)
                error_fail(error, ERROR_PERMISSION_DENIED, "connect to %s: permission denied", path);
        else
                error_fail(error, ERROR_NOT_FOUND, "connect to %s: no such socket", path);
}

void client_run(struct skiff_client *client, enum lane lane, lane_fn fn, void *data)
{
        lanes_submit(client->lanes, lane, fn, data);
}

static struct skiff_client *client_new(const char *address, const char *name_space, int fd, GError **error)
{
        struct loop *loop = loop_new(error);
        if (loop == NULL) {
                close(fd);
                return NULL;
        }
        struct skiff_client *client = g_new0(struct skiff_client, 1);
        client->loop = loop;
        client->address = g_strdup(address);
        client->name_space = g_strdup(name_space);
        client->loop_ended = waiter_new();
        client->interrupted = cancel_new();
        client->lanes = lanes_new(&(struct lanes_options){.fast_threads = 1, .slow_threads = 64});
        client->left = g_ptr_array_new();
        g_assert(uv_mutex_init(&client->mutex) == 0);
        client->rpc = rpc_client_new(loop, RPC_GRPC, fd, NULL);
        client_run(client, LANE_FAST, run_loop, client);
        return client;
}

struct skiff_client *skiff_client_connect(const struct skiff_client_options *options, struct skiff_error **error)
{
        static const struct skiff_client_options defaults;
        const struct skiff_client_options *o = options != NULL ? options : &defaults;
        const char *address = o->address != NULL ? o->address : SKIFF_DEFAULT_ADDRESS;
        const char *name_space = o->name_space != NULL ? o->name_space : SKIFF_DEFAULT_NAMESPACE;
        unsigned timeout_ms = o->connect_timeout_ms != 0 ? o->connect_timeout_ms : CONNECT_TIMEOUT_MS;

        GError *failure = NULL;
        int fd = rpc_connect_unix(address, timeout_ms, &failure);
        if (fd < 0) {
                explain_connect(address, &failure);
                g_propagate_error(inner(error), failure);
                return NULL;
        }
        return client_new(address, name_space, fd, inner(error));
}

// The connection's end was posted before this, and posts more itself; the loop runs its mailbox empty.
static void stop_loop(void *data)
{
        loop_stop(data);
}

void skiff_client_free(struct skiff_client *client)
{
        if (client == NULL)
                return;
        for (guint i = 0; i < client->left->len; i++)
                client_receive(client->left->pdata[i], NULL, NULL);
        g_ptr_array_free(client->left, TRUE);
        prepared_free(client->prepared);
        uv_mutex_destroy(&client->mutex);
        rpc_client_unref(client->rpc);
        loop_post(client->loop, stop_loop, client->loop);
        waiter_wait(client->loop_ended, -1);
        lanes_free(client->lanes);
        loop_free(client->loop);
        waiter_free(client->loop_ended);
        cancel_unref(client->interrupted);
        g_free(client->address);
        g_free(client->name_space);
        g_free(client);
}

void skiff_client_interrupt(struct skiff_client *client)
{
        cancel_trigger(client->interrupted, ERROR_CANCELED, "interrupted");
}

const char *skiff_client_namespace(const struct skiff_client *client)
{
        return client->name_space;
}

const char *skiff_client_address(const struct skiff_client *client)
{
        return client->address;
}

// ---- calls

struct client_call {
        atomic_uint owners; // who waits, and who answers
        struct waiter *answered;
        const ProtobufCMessageDescriptor *type;
        uint8_t *bytes;
        size_t n_bytes;
        GError *error;
};

static void call_unref(struct client_call *call)
{
        if (atomic_fetch_sub_explicit(&call->owners, 1, memory_order_acq_rel) != 1)
                return;
        waiter_free(call->answered);
        g_clear_error(&call->error);
        g_free(call->bytes);
        g_free(call);
}

static void on_answer(void *data, const ProtobufCMessage *response, const GError *error)
{
        struct client_call *call = data;
        if (error != NULL) {
                call->error = g_error_copy(error);
        } else {
                call->bytes = g_malloc(protobuf_c_message_get_packed_size(response) + 1);
                call->n_bytes = protobuf_c_message_pack(response, call->bytes);
        }
        waiter_signal(call->answered);
        call_unref(call);
}

struct rpc_request client_request(
        struct skiff_client *client, const struct client_method *method, const char *metadata[5], const char *lease)
{
        metadata[0] = "containerd-namespace";
        metadata[1] = client->name_space;
        metadata[2] = lease != NULL ? "containerd-lease" : NULL;
        metadata[3] = lease;
        metadata[4] = NULL;
        return (struct rpc_request){
                .service = method->service,
                .method = method->method,
                .response = method->response,
                .metadata = metadata,
                .cancel = client->interrupted,
        };
}

struct client_call *client_send(
        struct skiff_client *client, const struct client_method *method, const void *message, const char *lease)
{
        struct client_call *call = g_new0(struct client_call, 1);
        atomic_init(&call->owners, 2);
        call->answered = waiter_new();
        call->type = method->response;
        const char *metadata[5];
        struct rpc_request request = client_request(client, method, metadata, lease);
        request.message = message;
        rpc_client_call(client->rpc, &request, on_answer, call);
        return call;
}

const void *client_receive(struct client_call *call, struct arena *arena, GError **error)
{
        waiter_wait(call->answered, -1);
        const void *response = NULL;
        if (call->error != NULL)
                g_propagate_error(error, g_steal_pointer(&call->error));
        else if (arena == NULL)
                response = "";
        else
                response = protobuf_c_message_unpack(call->type, arena_allocator(arena), call->n_bytes, call->bytes);
        call_unref(call);
        return response;
}

bool client_answered(const struct client_call *call, bool *ret_ok)
{
        if (!waiter_wait(call->answered, 0))
                return false;
        *ret_ok = call->error == NULL;
        return true;
}

void client_forget(struct client_call *call)
{
        if (call != NULL)
                call_unref(call);
}

void client_leave(struct skiff_client *client, struct client_call *call)
{
        uv_mutex_lock(&client->mutex);
        g_ptr_array_add(client->left, call);
        uv_mutex_unlock(&client->mutex);
}

const void *client_call(struct skiff_client *client, const struct client_method *method, const void *message,
        struct arena *arena, GError **error)
{
        return client_receive(client_send(client, method, message, NULL), arena, error);
}

bool skiff_daemon_version(
        struct skiff_client *client, struct skiff_daemon_version *ret_version, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        const Version__VersionResponse *response = client_call(client,
                CLIENT_METHOD("containerd.services.version.v1.Version", "Version", version__version_response),
                &(Google__Protobuf__Empty)GOOGLE__PROTOBUF__EMPTY__INIT, arena, inner(error));
        if (response == NULL)
                return false;
        g_strlcpy(ret_version->version, response->version, sizeof(ret_version->version));
        g_strlcpy(ret_version->revision, response->revision, sizeof(ret_version->revision));
        return true;
}

// ---- helpers

char *client_strdup_c(const char *text)
{
        char *copy = strdup(text);
        g_assert(copy != NULL);
        return copy;
}

Google__Protobuf__Any *client_pack_any(const ProtobufCMessage *message, struct arena *arena)
{
        Google__Protobuf__Any *any = arena_new0(arena, Google__Protobuf__Any);
        google__protobuf__any__init(any);
        any->type_url = (char *)message->descriptor->name;
        any->value.data = arena_alloc(arena, protobuf_c_message_get_packed_size(message) + 1);
        any->value.len = protobuf_c_message_pack(message, any->value.data);
        return any;
}

// Every map entry of protobuf-c has this form.
struct map_entry {
        ProtobufCMessage base;
        char *key, *value;
};

static int compare_pairs(const void *a, const void *b)
{
        return strcmp(((const struct skiff_pair *)a)->key, ((const struct skiff_pair *)b)->key);
}

struct skiff_pair *client_pairs_from_map(void *const *entries, size_t n, struct arena *arena)
{
        struct skiff_pair *pairs = arena_array(arena, struct skiff_pair, n + 1);
        for (size_t i = 0; i < n; i++) {
                const struct map_entry *entry = entries[i];
                pairs[i] = (struct skiff_pair){entry->key, entry->value};
        }
        qsort(pairs, n, sizeof(*pairs), compare_pairs);
        return pairs;
}

int64_t client_time_ns(const Google__Protobuf__Timestamp *time)
{
        return time == NULL ? 0 : time->seconds * 1000000000 + time->nanos;
}
