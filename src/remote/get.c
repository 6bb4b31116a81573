// SPDX-License-Identifier: Apache-2.0
//
// Fetching one blob or manifest into a descriptor. The hosts are tried in order until one begins to answer; from then
// on a connection that breaks is taken up again with a range, after a pause, as long as each attempt brings something.
// The reader of the descriptor sets the pace: what it does not take stays in one buffer, and curl is paused.
#include "base/clock.h"
#include "base/fd.h"
#include "remote/job.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define MAX_FRUITLESS_ATTEMPTS 5
#define MAX_BACKOFF_SHIFT 6

struct get {
        struct registry_job job;
        struct registry *registry;
        char *media_type, *digest;
        int64_t size, start, position; // position: the next byte wanted; all before it went into the buffer or fd
        int64_t skip;                  // bytes of this answer that lie before position
        int fd;
        registry_moved_fn done;
        void *data;
        size_t host;
        struct exchange *exchange;
        struct reactor_watch *watch;
        struct reactor_timer *timer;
        GByteArray *buffer;
        size_t n_flushed;
        unsigned fruitless;
        bool begun;    // some host has served a byte: stay with it
        bool answered; // this attempt's answer is a good one
        bool complete;
        GError *first_error, *fatal;
};

static void get_next(struct get *get);

static void get_free(struct get *get)
{
        if (get->watch != NULL)
                reactor_watch_stop(get->watch);
        if (get->timer != NULL)
                reactor_timer_stop(get->timer);
        fd_close(&get->fd);
        g_byte_array_unref(get->buffer);
        g_clear_error(&get->first_error);
        g_clear_error(&get->fatal);
        g_free(get->media_type);
        g_free(get->digest);
        g_free(get);
}

static void get_cancel(struct registry_job *job)
{
        struct get *get = (struct get *)job;
        if (get->exchange != NULL)
                exchange_cancel(get->exchange);
        get_free(get);
}

static void get_finish(struct get *get, const GError *error)
{
        fd_close(&get->fd);
        get->done(get->data, get->position - get->start, false, error);
        get_free(get);
}

static bool buffered(const struct get *get)
{
        return get->n_flushed < get->buffer->len;
}

// Writes what the descriptor takes. False: its reader is gone.
static bool flush(struct get *get)
{
        while (buffered(get)) {
                ssize_t n = write(get->fd, get->buffer->data + get->n_flushed, get->buffer->len - get->n_flushed);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return true;
                if (n < 0)
                        return error_fail(&get->fatal, ERROR_CANCELED, "write content: %s", errno_text(errno));
                get->n_flushed += (size_t)n;
        }
        g_byte_array_set_size(get->buffer, 0);
        get->n_flushed = 0;
        return true;
}

static void on_writable(void *data)
{
        struct get *get = data;
        if (get->fatal != NULL || !flush(get)) {
                if (get->exchange != NULL)
                        exchange_cancel(g_steal_pointer(&get->exchange));
                get_finish(get, get->fatal);
                return;
        }
        if (buffered(get))
                return;
        reactor_watch_change(get->watch, 0);
        if (get->complete)
                get_finish(get, NULL);
        else if (get->exchange != NULL)
                exchange_resume(get->exchange);
}

// ---- one answer

// Where the body of a partial answer begins; -1: it does not say.
static int64_t range_start(const struct http_response *response)
{
        const char *range = http_response_header(response, "content-range", 0);
        if (range == NULL || g_ascii_strncasecmp(range, "bytes ", 6) != 0)
                return -1;
        return g_ascii_strtoll(range + 6, NULL, 10);
}

static void on_response(void *data, const struct http_response *response)
{
        struct get *get = data;
        get->answered = response->status >= 200 && response->status <= 299;
        if (!get->answered)
                return;
        int64_t begins = response->status == 206 ? range_start(response) : 0;
        if (begins < 0)
                begins = get->position;
        if (begins > get->position)
                error_fail(&get->fatal, ERROR_UNKNOWN, "unhandled content range in response: %s",
                        http_response_header(response, "content-range", 0));
        get->skip = get->position - begins;
        bool identity = true;
        const char *encoding = http_response_header(response, "content-encoding", 0);
        if (encoding != NULL && encoding[0] != '\0')
                identity = g_ascii_strcasecmp(encoding, "identity") == 0;
        if (!identity)
                error_fail(&get->fatal, ERROR_UNKNOWN, "unsupported Content-Encoding algorithm: %.64s", encoding);
}

static bool on_body(void *data, const void *bytes, size_t n_bytes)
{
        struct get *get = data;
        if (get->fatal != NULL)
                return true; // dropped; the end of the answer reports it
        size_t n_skip = (size_t)MIN(get->skip, (int64_t)n_bytes);
        get->skip -= (int64_t)n_skip;
        bytes = (const char *)bytes + n_skip;
        n_bytes -= n_skip;
        if (n_bytes == 0)
                return true;
        if ((int64_t)n_bytes > get->size - get->position) {
                error_fail(&get->fatal, ERROR_FAILED_PRECONDITION,
                        "content of %s is longer than %" G_GINT64_FORMAT " bytes", get->digest, get->size);
                reactor_watch_change(get->watch, CURL_WAIT_POLLOUT);
                return true;
        }
        get->begun = true;
        get->fruitless = 0;
        get->position += (int64_t)n_bytes;
        g_byte_array_append(get->buffer, bytes, (guint)n_bytes);
        bool alive = flush(get);
        if (alive && !buffered(get))
                return true;
        reactor_watch_change(get->watch, CURL_WAIT_POLLOUT);
        return false;
}

static void on_retry_due(void *data)
{
        struct get *get = data;
        get->timer = NULL;
        get_next(get);
}

static void retry_later(struct get *get)
{
        int64_t delay_ms = (int64_t)get->registry->retry_delay_ms << MIN(get->fruitless, MAX_BACKOFF_SHIFT);
        get->fruitless++;
        get->timer = reactor_timer_start(get->registry->reactor, delay_ms, on_retry_due, get);
}

static void set_error(struct get *get, const struct http_response *response, enum http_failure failure,
        const GError *reason, GError **error)
{
        if (failure != HTTP_NO_FAILURE) {
                g_propagate_error(error, g_error_copy(reason));
        } else if (response->status == 404) {
                error_fail(error, ERROR_NOT_FOUND, "content at %s not found: not found", response->url);
        } else if (!get->answered) {
                exchange_fail_status("GET", response, error);
        } else {
                error_fail(error, ERROR_UNAVAILABLE,
                        "content of %s ended at %" G_GINT64_FORMAT " of %" G_GINT64_FORMAT " bytes", get->digest,
                        get->position, get->size);
        }
}

static void give_up(struct get *get)
{
        bool manifest = media_type_is_manifest(get->media_type) || media_type_is_index(get->media_type);
        if (!manifest && error_is(get->first_error, ERROR_NOT_FOUND)) {
                g_clear_error(&get->first_error);
                error_fail(&get->first_error, ERROR_NOT_FOUND,
                        "could not fetch content descriptor %s (%s) from remote: not found", get->digest,
                        get->media_type);
        }
        get_finish(get, get->first_error);
}

static void on_done(void *data, const struct http_response *response, enum http_failure failure, const GError *reason)
{
        struct get *get = data;
        get->exchange = NULL;
        if (get->fatal != NULL) {
                get_finish(get, get->fatal);
                return;
        }
        if (get->position == get->size && get->begun) {
                get->complete = true;
                if (!buffered(get))
                        get_finish(get, NULL);
                return;
        }
        g_autoptr(GError) error = NULL;
        set_error(get, response, failure, reason, &error);
        bool broken = failure == HTTP_BROKEN || (failure == HTTP_NO_FAILURE && get->answered) ||
                      (get->begun && failure != HTTP_UNTRUSTED);
        if (get->begun && broken && get->fruitless < MAX_FRUITLESS_ATTEMPTS) {
                retry_later(get);
                return;
        }
        if (get->first_error == NULL)
                get->first_error = g_steal_pointer(&error);
        if (!get->begun && ++get->host < get->registry->hosts->len)
                get_next(get);
        else
                give_up(get);
}

static void get_next(struct get *get)
{
        static const struct http_handler handler = {on_response, on_body, on_done};
        bool manifest = media_type_is_manifest(get->media_type) || media_type_is_index(get->media_type);
        g_autofree char *tail = g_strconcat(manifest ? "manifests/" : "blobs/", get->digest, NULL);
        g_autofree char *accept = get->media_type[0] != '\0' ? g_strconcat(get->media_type, ", */*", NULL) : NULL;
        get->answered = false;
        get->exchange = exchange_start(&(struct exchange_options){
                .registry = get->registry,
                .host = get->registry->hosts->pdata[get->host],
                .method = "GET",
                .tail = tail,
                .accept = accept != NULL ? accept : "*/*",
                .range_from = get->position,
                .last_host = get->begun || get->host + 1 == get->registry->hosts->len,
                .body_fd = -1,
                .handler = &handler,
                .data = get,
        });
}

static void on_start(void *data)
{
        struct get *get = data;
        get->timer = NULL;
        bool can_pull = false;
        for (size_t i = 0; i < get->registry->hosts->len; i++)
                can_pull |= ((struct registry_host *)get->registry->hosts->pdata[i])->pull;
        if (!can_pull)
                error_fail(&get->fatal, ERROR_NOT_FOUND, "no pull hosts: not found");
        if (get->fatal != NULL || get->position == get->size)
                get_finish(get, get->fatal);
        else
                get_next(get);
}

struct registry_job *registry_get(struct registry *registry, const struct descriptor *descriptor, int64_t offset,
        int fd, registry_moved_fn done, void *data)
{
        struct get *get = g_new0(struct get, 1);
        get->job.cancel = get_cancel;
        get->registry = registry;
        get->media_type = g_strdup(descriptor->media_type);
        get->digest = g_strdup(descriptor->digest);
        get->size = descriptor->size;
        get->start = get->position = offset;
        get->fd = fd;
        get->done = done;
        get->data = data;
        get->buffer = g_byte_array_new();
        get->watch = reactor_watch_start(registry->reactor, fd, 0, on_writable, get);
        get->timer = reactor_timer_start(registry->reactor, 0, on_start, get);
        return &get->job;
}
