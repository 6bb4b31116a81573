// SPDX-License-Identifier: Apache-2.0
//
// See ttrpc_fixture.h.
#include "rpc/ttrpc_fixture.h"

#include <sys/socket.h>

// ---- frames

void ttrpc_send_frame(
        struct ttrpc_fixture *f, uint32_t id, uint8_t type, uint8_t flags, const void *bytes, size_t n_bytes)
{
        struct ttrpc_frame frame = {.stream = id, .type = type, .flags = flags, .n_data = n_bytes};
        uint8_t header[TTRPC_HEADER_BYTES];
        ttrpc_pack_header(header, &frame);
        g_assert_cmpint(send(f->fd, header, sizeof header, 0), ==, sizeof header);
        for (size_t sent = 0; sent < n_bytes;) {
                ssize_t n = send(f->fd, (const char *)bytes + sent, n_bytes - sent, MSG_DONTWAIT);
                if (n > 0)
                        sent += (size_t)n;
                uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
        }
}

size_t ttrpc_pack_key(const char *key, uint8_t *bytes)
{
        Ttrpc__KeyValue message = TTRPC__KEY_VALUE__INIT;
        message.key = (char *)key;
        return ttrpc__key_value__pack(&message, bytes);
}

void ttrpc_send_data(struct ttrpc_fixture *f, uint32_t id, uint8_t flags, const char *key)
{
        uint8_t bytes[64];
        ttrpc_send_frame(f, id, TTRPC_DATA, flags, bytes, key == NULL ? 0 : ttrpc_pack_key(key, bytes));
}

static void log_key(GString *log, const uint8_t *bytes, size_t n_bytes)
{
        Ttrpc__KeyValue *message = ttrpc__key_value__unpack(NULL, n_bytes, bytes);
        g_assert_nonnull(message);
        g_string_append_printf(log, " %s;", message->key);
        ttrpc__key_value__free_unpacked(message, NULL);
}

static void log_response(struct ttrpc_fixture *f, const struct ttrpc_frame *frame)
{
        Ttrpc__Response *response = ttrpc__response__unpack(NULL, frame->n_data, frame->data);
        g_assert_nonnull(response);
        g_string_append_printf(f->got, "%u response", frame->stream);
        if (response->status != NULL)
                g_string_append_printf(f->got, " %d %s (%zu);", response->status->code, response->status->message,
                        response->payload.len);
        else
                log_key(f->got, response->payload.data, response->payload.len);
        ttrpc__response__free_unpacked(response, NULL);
}

static void log_request(struct ttrpc_fixture *f, const struct ttrpc_frame *frame)
{
        Ttrpc__Request *request = ttrpc__request__unpack(NULL, frame->n_data, frame->data);
        g_assert_nonnull(request);
        g_string_append_printf(
                f->got, "%u request %02x %s/%s", frame->stream, frame->flags, request->service, request->method);
        for (size_t i = 0; i < request->n_metadata; i++)
                g_string_append_printf(f->got, " %s=%s", request->metadata[i]->key, request->metadata[i]->value);
        if (request->timeout_nano != 0)
                g_string_append(f->got, request->timeout_nano > 0 ? " timeout" : " negative");
        log_key(f->got, request->payload.data, request->payload.len);
        ttrpc__request__free_unpacked(request, NULL);
}

static bool log_frame(void *data, const struct ttrpc_frame *frame)
{
        struct ttrpc_fixture *f = data;
        if (frame->type == TTRPC_RESPONSE) {
                g_assert_cmpuint(frame->flags, ==, 0);
                log_response(f, frame);
        } else if (frame->type == TTRPC_REQUEST) {
                log_request(f, frame);
        } else {
                g_string_append_printf(f->got, "%u data %02x", frame->stream, frame->flags);
                log_key(f->got, frame->data, frame->n_data);
        }
        return true;
}

void ttrpc_settle(struct ttrpc_fixture *f)
{
        for (int quiet = 0; quiet < 5; quiet++) {
                uint8_t buffer[4096];
                uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
                ssize_t n = recv(f->fd, buffer, sizeof buffer, MSG_DONTWAIT);
                if (n > 0) {
                        ttrpc_reader_feed(&f->reader, buffer, (size_t)n, log_frame, f);
                        quiet = 0;
                }
        }
}

// ---- fixtures

int ttrpc_begin(struct ttrpc_fixture *f)
{
        int ends[2];
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), ==, 0);
        f->loop = loop_new(NULL);
        f->got = g_string_new(NULL);
        f->ended = g_string_new(NULL);
        ttrpc_reader_init(&f->reader, TTRPC_MAX_DATA_BYTES);
        f->fd = ends[1];
        return ends[0];
}

static void set(void *data)
{
        *(bool *)data = true;
}

void ttrpc_tear_down(struct ttrpc_fixture *f, gconstpointer data)
{
        rpc_client_unref(f->client);
        close(f->fd);
        bool drained = f->server == NULL;
        if (f->server != NULL)
                rpc_server_drain(f->server, 1000, set, &drained);
        while (!drained)
                uv_run(loop_uv(f->loop), UV_RUN_ONCE);
        for (int i = 0; i < 4; i++)
                uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
        if (f->server != NULL) {
                rpc_server_free(f->server);
                lanes_free(f->lanes);
        }
        loop_free(f->loop);
        ttrpc_reader_done(&f->reader);
        g_string_free(f->got, TRUE);
        g_string_free(f->ended, TRUE);
}
