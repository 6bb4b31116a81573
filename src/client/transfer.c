// SPDX-License-Identifier: Apache-2.0
//
// Pull, import and export by the Transfer service. Bytes go over a stream with windows: who receives says how many
// bytes it takes, who sends keeps within that. An archive that is imported is sent by the calling thread, which reads
// the descriptor, while the Transfer call is under way; one that is exported is written by the loop's thread through a
// queue that the calling thread empties, so that a slow descriptor stalls neither progress nor other calls. skiffd ends
// that stream after the last byte; containerd 2.3 never does, and its answer to the call may overtake the bytes: there
// the archive's own end, two empty records, is the end.
#include "client/internal.h"

#include "base/clock.h"
#include "codec/platform.h"

#include <skiff/image.h>

#include "containerd/transfer.pb-c.h"
#include "containerd/transfer_types.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { CHUNK_BYTES = 32 * 1024, WINDOW_BYTES = 1024 * 1024, FLUSH_MS = 5000, LOOK_MS = 20, TAR_RECORD_BYTES = 512 };

static const struct skiff_transfer_options defaults;

// ---- progress

struct progress {
        const struct skiff_transfer_options *options;
        struct byte_stream *stream;
};

static void on_progress(void *data, const Google__Protobuf__Any *any)
{
        struct progress *progress = data;
        if (any == NULL || g_strcmp0(any->type_url, transfer_types__progress__descriptor.name) != 0)
                return;
        AUTO(arena) arena = arena_new();
        const TransferTypes__Progress *message =
                transfer_types__progress__unpack(arena_allocator(arena), any->value.len, any->value.data);
        if (message == NULL)
                return;
        struct skiff_progress line = {
                .event = message->event,
                .name = message->name,
                .digest = message->desc != NULL ? message->desc->digest : "",
                .media_type = message->desc != NULL ? message->desc->media_type : "",
                .done_bytes = message->progress,
                .total_bytes = message->total,
        };
        progress->options->on_progress(progress->options->data, &line);
}

// Opens the progress stream if somebody wants to see it.
static bool progress_open(
        struct progress *progress, struct skiff_client *client, Transfer__TransferOptions *transfer, GError **error)
{
        if (progress->options->on_progress == NULL)
                return true;
        progress->stream = byte_stream_open(client, "progress", on_progress, progress, error);
        if (progress->stream == NULL)
                return false;
        transfer->progress_stream = (char *)byte_stream_id(progress->stream);
        return true;
}

static void progress_close(struct progress *progress)
{
        if (progress->stream == NULL)
                return;
        byte_stream_half_close(progress->stream);
        byte_stream_wait(progress->stream, FLUSH_MS);
        byte_stream_free(progress->stream);
}

// ---- the call

static struct client_call *transfer_send(struct skiff_client *client, const ProtobufCMessage *source,
        const ProtobufCMessage *destination, Transfer__TransferOptions *transfer)
{
        AUTO(arena) arena = arena_new();
        Transfer__TransferRequest request = TRANSFER__TRANSFER_REQUEST__INIT;
        request.source = client_pack_any(source, arena);
        request.destination = client_pack_any(destination, arena);
        request.options = transfer;
        return client_send(client,
                CLIENT_METHOD("containerd.services.transfer.v1.Transfer", "Transfer", google__protobuf__empty),
                &request, NULL);
}

// The platforms that the options ask for, in the arena; NULL after an error. *ret_n: 0 for all of them.
static Types__Platform **wanted_platforms(
        const struct skiff_transfer_options *options, struct arena *arena, size_t *ret_n, GError **error)
{
        Types__Platform **list = arena_array(arena, Types__Platform *, 1);
        *ret_n = 0;
        if (options->all_platforms)
                return list;
        struct platform platform = platform_host();
        if (options->platform != NULL && !platform_parse(options->platform, &platform, error))
                return NULL;
        list[0] = arena_new0(arena, Types__Platform);
        types__platform__init(list[0]);
        list[0]->os = (char *)platform.os;
        list[0]->architecture = (char *)platform.architecture;
        list[0]->variant = (char *)platform.variant;
        *ret_n = 1;
        return list;
}

// The image store as destination: what to store, and where to unpack it.
static bool fill_store(TransferTypes__ImageStore *store, const struct skiff_transfer_options *options,
        struct arena *arena, GError **error)
{
        store->platforms = wanted_platforms(options, arena, &store->n_platforms, error);
        if (store->platforms == NULL)
                return false;
        const char *snapshotter = options->snapshotter != NULL ? options->snapshotter : SKIFF_DEFAULT_SNAPSHOTTER;
        if (*snapshotter == '\0' || options->all_platforms)
                return true;
        TransferTypes__UnpackConfiguration *unpack = arena_new0(arena, TransferTypes__UnpackConfiguration);
        transfer_types__unpack_configuration__init(unpack);
        unpack->platform = store->platforms[0];
        unpack->snapshotter = (char *)snapshotter;
        store->unpacks = arena_array(arena, TransferTypes__UnpackConfiguration *, 1);
        store->unpacks[0] = unpack;
        store->n_unpacks = 1;
        return true;
}

// ---- pull

struct login {
        const struct skiff_transfer_options *options;
        struct byte_stream *stream;
        bool asked;
};

// The daemon asks once for each host; the same secret that was refused is not sent again.
static void on_auth_request(void *data, const Google__Protobuf__Any *any)
{
        struct login *login = data;
        if (any == NULL || g_strcmp0(any->type_url, transfer_types__auth_request__descriptor.name) != 0)
                return;
        TransferTypes__AuthResponse response = TRANSFER_TYPES__AUTH_RESPONSE__INIT;
        if (!login->asked && login->options->password != NULL) {
                response.authtype = TRANSFER_TYPES__AUTH_TYPE__CREDENTIALS;
                response.username = (char *)(login->options->username != NULL ? login->options->username : "");
                response.secret = (char *)login->options->password;
        }
        login->asked = true;
        byte_stream_send(login->stream, &response.base);
}

bool skiff_image_pull(struct skiff_client *client, const char *name, const struct skiff_transfer_options *options,
        struct skiff_error **error)
{
        const struct skiff_transfer_options *o = options != NULL ? options : &defaults;
        AUTO(arena) arena = arena_new();
        TransferTypes__RegistryResolver resolver = TRANSFER_TYPES__REGISTRY_RESOLVER__INIT;
        TransferTypes__OCIRegistry source = TRANSFER_TYPES__OCIREGISTRY__INIT;
        TransferTypes__ImageStore destination = TRANSFER_TYPES__IMAGE_STORE__INIT;
        Transfer__TransferOptions transfer = TRANSFER__TRANSFER_OPTIONS__INIT;
        struct progress progress = {.options = o};
        struct login login = {.options = o};
        source.reference = destination.name = (char *)name;
        source.resolver = &resolver;
        if (o->plain_http)
                resolver.default_scheme = (char *)"http";
        if (o->hosts_dir != NULL)
                resolver.host_dir = (char *)o->hosts_dir;
        if (!fill_store(&destination, o, arena, inner(error)))
                return false;
        if (o->password != NULL) {
                login.stream = byte_stream_open(client, "auth", on_auth_request, &login, inner(error));
                if (login.stream == NULL)
                        return false;
                resolver.auth_stream = (char *)byte_stream_id(login.stream);
        }
        bool ok = progress_open(&progress, client, &transfer, inner(error));
        if (ok) {
                ok = client_receive(transfer_send(client, &source.base, &destination.base, &transfer), NULL,
                             inner(error)) != NULL;
                progress_close(&progress);
        }
        byte_stream_free(login.stream);
        return ok;
}

// ---- import

// What the daemon allows us to send. Threads: the loop adds, the caller takes.
struct window {
        uv_mutex_t mutex;
        uv_cond_t changed;
        int64_t bytes;
        bool ended;
};

static void window_init(struct window *window)
{
        *window = (struct window){0};
        g_assert(uv_mutex_init(&window->mutex) == 0);
        g_assert(uv_cond_init(&window->changed) == 0);
}

static void window_done(struct window *window)
{
        uv_cond_destroy(&window->changed);
        uv_mutex_destroy(&window->mutex);
}

static void on_window_update(void *data, const Google__Protobuf__Any *any)
{
        struct window *window = data;
        TransferTypes__WindowUpdate *update = NULL;
        AUTO(arena) arena = arena_new();
        if (any != NULL && g_strcmp0(any->type_url, transfer_types__window_update__descriptor.name) == 0)
                update = transfer_types__window_update__unpack(arena_allocator(arena), any->value.len, any->value.data);
        uv_mutex_lock(&window->mutex);
        if (any == NULL)
                window->ended = true;
        else if (update != NULL && update->update > 0)
                window->bytes += update->update;
        uv_cond_broadcast(&window->changed);
        uv_mutex_unlock(&window->mutex);
}

// Waits for room; 0: the stream has ended.
static size_t window_take(struct window *window)
{
        uv_mutex_lock(&window->mutex);
        while (window->bytes == 0 && !window->ended)
                uv_cond_wait(&window->changed, &window->mutex);
        size_t n = window->ended ? 0 : (size_t)MIN(window->bytes, CHUNK_BYTES);
        uv_mutex_unlock(&window->mutex);
        return n;
}

static void window_use(struct window *window, size_t n)
{
        uv_mutex_lock(&window->mutex);
        window->bytes -= (int64_t)n;
        uv_mutex_unlock(&window->mutex);
}

// Sends the descriptor's bytes until its end or the stream's. False: it could not be read.
static bool send_archive(struct byte_stream *stream, struct window *window, int fd, GError **error)
{
        g_autofree uint8_t *buffer = g_malloc(CHUNK_BYTES);
        size_t room;
        while ((room = window_take(window)) > 0) {
                ssize_t n = read(fd, buffer, room);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_fail_errno(error, errno, "read the archive");
                if (n == 0)
                        break;
                window_use(window, (size_t)n);
                TransferTypes__Data message = TRANSFER_TYPES__DATA__INIT;
                message.data = (ProtobufCBinaryData){.data = buffer, .len = (size_t)n};
                if (!byte_stream_send(stream, &message.base))
                        break;
        }
        return true;
}

// The name under which what the archive holds is stored: the prefix, or one of today.
static void fill_import_names(TransferTypes__ImageStore *store, const char *prefix, struct arena *arena)
{
        TransferTypes__ImageReference *reference = arena_new0(arena, TransferTypes__ImageReference);
        transfer_types__image_reference__init(reference);
        g_autofree char *now = clock_format_rfc3339(clock_now_ns());
        reference->name = prefix != NULL ? (char *)prefix : arena_printf(arena, "import-%.10s", now);
        reference->is_prefix = true;
        reference->allow_overwrite = prefix == NULL;
        store->extra_references = arena_array(arena, TransferTypes__ImageReference *, 1);
        store->extra_references[0] = reference;
        store->n_extra_references = 1;
}

bool skiff_image_import(struct skiff_client *client, int fd, const char *prefix,
        const struct skiff_transfer_options *options, struct skiff_error **error)
{
        const struct skiff_transfer_options *o = options != NULL ? options : &defaults;
        AUTO(arena) arena = arena_new();
        TransferTypes__ImageImportStream source = TRANSFER_TYPES__IMAGE_IMPORT_STREAM__INIT;
        TransferTypes__ImageStore destination = TRANSFER_TYPES__IMAGE_STORE__INIT;
        Transfer__TransferOptions transfer = TRANSFER__TRANSFER_OPTIONS__INIT;
        struct progress progress = {.options = o};
        if (!fill_store(&destination, o, arena, inner(error)) ||
                !progress_open(&progress, client, &transfer, inner(error)))
                return false;
        fill_import_names(&destination, prefix, arena);

        struct window window;
        window_init(&window);
        bool ok = false;
        struct byte_stream *stream = byte_stream_open(client, "import", on_window_update, &window, inner(error));
        if (stream != NULL) {
                source.stream = (char *)byte_stream_id(stream);
                struct client_call *call = transfer_send(client, &source.base, &destination.base, &transfer);
                g_autoptr(GError) unread = NULL;
                bool sent = send_archive(stream, &window, fd, &unread);
                if (sent)
                        byte_stream_half_close(stream);
                else
                        byte_stream_free(g_steal_pointer(&stream)); // so that the daemon does not take it for the end
                ok = client_receive(call, NULL, inner(error)) != NULL && sent;
                byte_stream_free(stream);
                if (!sent && error != NULL) {
                        g_clear_error(inner(error));
                        g_propagate_error(inner(error), g_steal_pointer(&unread));
                }
        }
        progress_close(&progress);
        window_done(&window);
        return ok;
}

// ---- export

// Bytes that have come and are not written yet. Threads: the loop adds, the caller takes.
struct inflow {
        uv_mutex_t mutex;
        uv_cond_t changed;
        GQueue chunks; // GBytes
        bool ended;
        uint64_t n_bytes, n_zeros; // taken, and how many of them are the empty end
        int64_t answered_ns;       // when the call was seen to be answered; 0: not yet
};

static bool archive_has_ended(const struct inflow *inflow)
{
        return inflow->n_bytes % TAR_RECORD_BYTES == 0 && inflow->n_zeros >= 2 * TAR_RECORD_BYTES;
}

static void note_tail(struct inflow *inflow, const uint8_t *bytes, size_t n)
{
        size_t zeros = 0;
        while (zeros < n && bytes[n - 1 - zeros] == 0)
                zeros++;
        inflow->n_zeros = zeros == n ? inflow->n_zeros + n : zeros;
        inflow->n_bytes += n;
}

static void on_data(void *data, const Google__Protobuf__Any *any)
{
        struct inflow *inflow = data;
        GBytes *chunk = NULL;
        AUTO(arena) arena = arena_new();
        if (any != NULL && g_strcmp0(any->type_url, transfer_types__data__descriptor.name) == 0) {
                TransferTypes__Data *message =
                        transfer_types__data__unpack(arena_allocator(arena), any->value.len, any->value.data);
                if (message != NULL)
                        chunk = g_bytes_new(message->data.data, message->data.len);
        }
        uv_mutex_lock(&inflow->mutex);
        if (any == NULL)
                inflow->ended = true;
        else if (chunk != NULL)
                g_queue_push_tail(&inflow->chunks, chunk);
        uv_cond_broadcast(&inflow->changed);
        uv_mutex_unlock(&inflow->mutex);
}

// Under the mutex. False: nothing more will come.
static bool inflow_wait(struct inflow *inflow, const struct client_call *call)
{
        if (inflow->ended)
                return false;
        bool ok = true;
        if (client_answered(call, &ok)) {
                if (inflow->answered_ns == 0)
                        inflow->answered_ns = clock_monotonic_ns();
                bool late = clock_monotonic_ns() - inflow->answered_ns > FLUSH_MS * NS_PER_MS;
                if (!ok || late || archive_has_ended(inflow))
                        return false;
        }
        uv_cond_timedwait(&inflow->changed, &inflow->mutex, LOOK_MS * NS_PER_MS);
        return true;
}

// NULL: all was taken.
static GBytes *inflow_take(struct inflow *inflow, const struct client_call *call)
{
        uv_mutex_lock(&inflow->mutex);
        while (g_queue_is_empty(&inflow->chunks) && inflow_wait(inflow, call))
                ;
        GBytes *chunk = g_queue_pop_head(&inflow->chunks);
        if (chunk != NULL)
                note_tail(inflow, g_bytes_get_data(chunk, NULL), g_bytes_get_size(chunk));
        uv_mutex_unlock(&inflow->mutex);
        return chunk;
}

static bool write_all(int fd, const uint8_t *at, size_t n, GError **error)
{
        while (n > 0) {
                ssize_t written = write(fd, at, n);
                if (written < 0 && errno == EAGAIN)
                        poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
                else if (written < 0 && errno != EINTR)
                        return error_fail_errno(error, errno, "write the archive");
                else if (written > 0) {
                        at += written;
                        n -= (size_t)written;
                }
        }
        return true;
}

static bool receive_archive(
        struct byte_stream *stream, struct inflow *inflow, const struct client_call *call, int fd, GError **error)
{
        TransferTypes__WindowUpdate update = TRANSFER_TYPES__WINDOW_UPDATE__INIT;
        int32_t window = 0;
        while (true) {
                if (window < WINDOW_BYTES / 2) {
                        update.update = WINDOW_BYTES - window;
                        byte_stream_send(stream, &update.base);
                        window = WINDOW_BYTES;
                }
                g_autoptr(GBytes) chunk = inflow_take(inflow, call);
                if (chunk == NULL)
                        return true;
                window -= (int32_t)g_bytes_get_size(chunk);
                if (!write_all(fd, g_bytes_get_data(chunk, NULL), g_bytes_get_size(chunk), error))
                        return false;
        }
}

static bool export_over(struct skiff_client *client, struct byte_stream *stream, struct inflow *inflow, int fd,
        const char *const *names, const struct skiff_transfer_options *options, GError **error)
{
        AUTO(arena) arena = arena_new();
        TransferTypes__ImageStore source = TRANSFER_TYPES__IMAGE_STORE__INIT;
        TransferTypes__ImageExportStream destination = TRANSFER_TYPES__IMAGE_EXPORT_STREAM__INIT;
        Transfer__TransferOptions transfer = TRANSFER__TRANSFER_OPTIONS__INIT;
        struct progress progress = {.options = options};
        destination.stream = (char *)byte_stream_id(stream);
        destination.all_platforms = options->all_platforms;
        destination.platforms = wanted_platforms(options, arena, &destination.n_platforms, error);
        if (destination.platforms == NULL)
                return false;
        source.n_extra_references = g_strv_length((char **)names);
        source.extra_references = arena_array(arena, TransferTypes__ImageReference *, source.n_extra_references + 1);
        for (size_t i = 0; i < source.n_extra_references; i++) {
                source.extra_references[i] = arena_new0(arena, TransferTypes__ImageReference);
                transfer_types__image_reference__init(source.extra_references[i]);
                source.extra_references[i]->name = (char *)names[i];
        }
        if (!progress_open(&progress, client, &transfer, error))
                return false;
        struct client_call *call = transfer_send(client, &source.base, &destination.base, &transfer);
        bool written = receive_archive(stream, inflow, call, fd, error);
        bool ok;
        if (written) {
                ok = client_receive(call, NULL, error) != NULL;
                if (ok && !archive_has_ended(inflow))
                        ok = error_fail(error, ERROR_DATA_LOSS, "the archive came only in part");
        } else {
                client_forget(call);
                ok = false;
        }
        progress_close(&progress);
        return ok;
}

bool skiff_image_export(struct skiff_client *client, int fd, const char *const *names,
        const struct skiff_transfer_options *options, struct skiff_error **error)
{
        struct inflow inflow = {.chunks = G_QUEUE_INIT};
        g_assert(uv_mutex_init(&inflow.mutex) == 0);
        g_assert(uv_cond_init(&inflow.changed) == 0);
        bool ok = false;
        struct byte_stream *stream = byte_stream_open(client, "export", on_data, &inflow, inner(error));
        if (stream != NULL) {
                ok = export_over(
                        client, stream, &inflow, fd, names, options != NULL ? options : &defaults, inner(error));
                byte_stream_free(stream);
        }
        g_queue_clear_full(&inflow.chunks, (GDestroyNotify)g_bytes_unref);
        uv_cond_destroy(&inflow.changed);
        uv_mutex_destroy(&inflow.mutex);
        return ok;
}
