// SPDX-License-Identifier: Apache-2.0
//
// What the parts of libskiff share: the connection, calls that can be sent before others are answered, streams, the
// content of images. A public `struct skiff_error` is a GError, so errors pass through unchanged.
#pragma once

#include "base/arena.h"
#include "base/auto.h"
#include "base/error.h"
#include "io/lanes.h"
#include "io/waiter.h"
#include "rpc/client.h"

#include <glib.h>
#include <skiff/client.h>
#include <skiff/error.h>
#include <stdbool.h>
#include <uv.h>

#include "containerd/containers.pb-c.h"
#include "containerd/types.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

#define SKIFF_DEFAULT_SNAPSHOTTER "overlayfs"
#define SKIFF_DEFAULT_RUNTIME "io.containerd.runc.v2"

struct skiff_client {
        struct loop *loop;
        struct lanes *lanes;
        struct rpc_client *rpc;
        struct waiter *loop_ended;
        struct cancel *interrupted;
        char *address, *name_space;
        uv_mutex_t mutex;
        struct prepared *prepared; // under mutex
        GPtrArray *left;           // under mutex: calls that nobody waits for, until the end
};

static inline GError **inner(struct skiff_error **error)
{
        return (GError **)error;
}

// ---- calls

// What is called: service and method, the response's type, and how. INIT: CALL("…Images", "Get", images__…_response).
struct client_method {
        const char *service, *method;
        const ProtobufCMessageDescriptor *response;
};
#define CLIENT_METHOD(service_name, method_name, response_prefix)                                                      \
        (&(const struct client_method){(service_name), (method_name), &response_prefix##__descriptor})

// A call under way. Several may be: the answers come in any order. lease: NULL or its id.
struct client_call;
struct client_call *client_send(
        struct skiff_client *client, const struct client_method *method, const void *message, const char *lease);
// Waits for the answer, which lives in arena (NULL: it is not wanted; then some pointer but NULL comes back). Frees the
// call. NULL: it failed.
const void *client_receive(struct client_call *call, struct arena *arena, GError **error);
// Whether the answer is there, and whether it is a good one; does not wait.
bool client_answered(const struct client_call *call, bool *ret_ok);
// Does not wait. The call may be broken off when the client is freed.
void client_forget(struct client_call *call);
// Does not wait either, but skiff_client_free will.
void client_leave(struct skiff_client *client, struct client_call *call);
// Sends and waits.
const void *client_call(struct skiff_client *client, const struct client_method *method, const void *message,
        struct arena *arena, GError **error);
// For calls to rpc_client itself: the namespace header, and the token that skiff_client_interrupt triggers.
struct rpc_request client_request(
        struct skiff_client *client, const struct client_method *method, const char *metadata[5], const char *lease);

struct client_call *lease_create_send(struct skiff_client *client, const char *id, unsigned expire_s);
struct client_call *lease_remove_send(struct skiff_client *client, const char *id);
struct client_call *snapshot_remove_send(struct skiff_client *client, const char *snapshotter, const char *key);

// A thread of the client's runs fn(data). Its threads take no signals: those are the program's.
void client_run(struct skiff_client *client, enum lane lane, lane_fn fn, void *data);

// ---- the streaming service: byte and progress streams beside a Transfer

struct byte_stream;
// Messages of the peer, in the loop's thread; at the end one call with NULL.
typedef void (*byte_stream_fn)(void *data, const Google__Protobuf__Any *message);
// Opens a stream of that name and waits until the daemon has registered it.
struct byte_stream *byte_stream_open(
        struct skiff_client *client, const char *prefix, byte_stream_fn fn, void *data, GError **error);
const char *byte_stream_id(const struct byte_stream *stream);
// False: the stream has ended.
bool byte_stream_send(struct byte_stream *stream, const ProtobufCMessage *message);
void byte_stream_half_close(struct byte_stream *stream);
// Waits until the peer has ended it, at most timeout_ms.
bool byte_stream_wait(struct byte_stream *stream, int timeout_ms);
// Ends it; after this fn is not called any more.
void byte_stream_free(struct byte_stream *stream);
DEFINE_AUTO(byte_stream, byte_stream_free)

// ---- content

// A blob of at most 8 MiB as a text that ends with a NUL. NOT_FOUND.
GString *content_read(struct skiff_client *client, const char *digest, GError **error);

// What a container needs of an image's config; strings live in the arena.
struct image_config {
        const char *const *env, *const *entrypoint, *const *cmd; // never NULL
        const char *cwd, *user, *stop_signal;                    // NULL: not set
        const struct skiff_pair *labels;
        size_t n_labels;
        const char *chain_id; // of all its layers; "" without any
};
// Follows digest (of an index or a manifest) to the config for this machine's platform.
const struct image_config *image_config_read(
        struct skiff_client *client, const char *digest, const char *media_type, struct arena *arena, GError **error);

// Bytes of config and layers as that manifest gives them; -1: failed.
int64_t image_size_read(struct skiff_client *client, const char *digest, const char *media_type, GError **error);

// ---- records

// Never NULL without an error. NOT_FOUND.
const Containers__Container *container_read(
        struct skiff_client *client, const char *id, struct arena *arena, GError **error);

// ---- processes

struct skiff_process;
struct skiff_client *process_client(const struct skiff_process *process);

// The root file system's mounts of a container that this client has just made; they are asked for once. False: not the
// last one.
void client_keep_mounts(struct skiff_client *client, const char *id, Types__Mount *const *mounts, size_t n);
struct prepared {
        char *id;
        struct arena *arena;
        Types__Mount **mounts;
        size_t n;
};
struct prepared *client_take_mounts(struct skiff_client *client, const char *id);
void prepared_free(struct prepared *prepared);
DEFINE_AUTO(prepared, prepared_free)

// ---- small helpers

char *client_strdup_c(const char *text); // for callers who will use free(3)
// Types "containerd.types…": a message in an Any whose type URL is the message's name.
Google__Protobuf__Any *client_pack_any(const ProtobufCMessage *message, struct arena *arena);
// Sorted by key; a protobuf map whose entries have key and value as first members.
struct skiff_pair *client_pairs_from_map(void *const *entries, size_t n, struct arena *arena);
// Seconds and nanoseconds to nanoseconds; NULL: 0.
int64_t client_time_ns(const Google__Protobuf__Timestamp *time);
