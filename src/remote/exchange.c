// SPDX-License-Identifier: Apache-2.0
//
// One request to one host until there is an answer to give: authorize, send, and send again where that may help. A 401
// is answered once per set of credentials; 405 to a HEAD of a manifest becomes a GET; 408 and 429 wait as long as the
// server asks; 5xx and broken connections are tried again on the last host alone, so that mirrors are left quickly.
// A body that was begun is never repeated here: the get job does that, with a range.
#include "base/clock.h"
#include "remote/challenge.h"
#include "remote/job.h"

#include <jansson.h>
#include <string.h>

#define MAX_ATTEMPTS 5
#define MAX_RETRY_AFTER_MS 30000
#define MAX_ERROR_TEXT_BYTES 2048

struct exchange {
        struct exchange_options options;
        char *method, *tail, *url, *accept, *extra;
        char *host_name, *scope;
        unsigned attempts;
        long last_status;
        bool over_tls, sent_authorization, body_begun, authorizing, cancelled;
        struct http_request *request;
        struct reactor_timer *timer;
};

static void exchange_send(struct exchange *exchange);

static void exchange_free(struct exchange *exchange)
{
        g_free(exchange->method);
        g_free(exchange->tail);
        g_free(exchange->url);
        g_free(exchange->accept);
        g_free(exchange->extra);
        g_free(exchange->host_name);
        g_free(exchange->scope);
        g_free(exchange);
}

void exchange_cancel(struct exchange *exchange)
{
        if (exchange->request != NULL)
                http_request_cancel(exchange->request);
        if (exchange->timer != NULL)
                reactor_timer_stop(exchange->timer);
        exchange->request = NULL;
        exchange->timer = NULL;
        exchange->cancelled = true;
        if (!exchange->authorizing) // else the authorizer's callback frees it
                exchange_free(exchange);
}

void exchange_resume(struct exchange *exchange)
{
        if (exchange->request != NULL)
                http_request_resume(exchange->request);
}

static void finish(
        struct exchange *exchange, const struct http_response *response, enum http_failure failure, const GError *error)
{
        exchange->options.handler->on_done(exchange->options.data, response, failure, error);
        exchange_free(exchange);
}

static void fail(struct exchange *exchange, GError *error)
{
        finish(exchange, NULL, HTTP_REFUSED, error);
        g_error_free(error);
}

static struct auth_target target_of(const struct exchange *exchange)
{
        const struct registry_host *host = exchange->options.host;
        return (struct auth_target){
                .host = exchange->host_name,
                .scope = exchange->scope,
                .tls = {host->ca_file, host->certificate_file, host->key_file, host->skip_verify},
        };
}

// ---- the registry's own error texts

// Keeps what is printable of a text that came from outside.
static void append_clean(GString *text, const char *from)
{
        g_autofree char *valid = g_utf8_make_valid(from, -1);
        for (const char *c = valid; *c != '\0' && text->len < MAX_ERROR_TEXT_BYTES; c++)
                g_string_append_c(text, (unsigned char)*c < 0x20 || *c == 0x7f ? ' ' : *c);
}

static void append_error(GString *text, const json_t *entry)
{
        const char *code = json_string_value(json_object_get(entry, "code"));
        const char *message = json_string_value(json_object_get(entry, "message"));
        g_autofree char *lower = g_ascii_strdown(code != NULL ? code : "UNKNOWN", -1);
        g_strdelimit(lower, "_", ' ');
        append_clean(text, lower);
        if (message != NULL && message[0] != '\0') {
                g_string_append(text, ": ");
                append_clean(text, message);
        }
}

static char *registry_text(const GByteArray *body)
{
        json_error_t problem;
        json_t *root = json_loadb((const char *)body->data, body->len, 0, &problem);
        json_t *errors = json_object_get(root, "errors");
        size_t n = json_array_size(errors);
        g_autoptr(GString) text = g_string_new(NULL);
        if (n > 1)
                g_string_append(text, "errors:\n");
        for (size_t i = 0; i < n && text->len < MAX_ERROR_TEXT_BYTES; i++) {
                append_error(text, json_array_get(errors, i));
                if (n > 1)
                        g_string_append_c(text, '\n');
        }
        json_decref(root);
        return text->len > 0 ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

static enum error_code status_class(long status)
{
        switch (status) {
        case 401:
                return ERROR_UNAUTHENTICATED;
        case 403:
                return ERROR_PERMISSION_DENIED;
        case 404:
                return ERROR_NOT_FOUND;
        case 429:
                return ERROR_RESOURCE_EXHAUSTED;
        default:
                return status >= 500 ? ERROR_UNAVAILABLE : ERROR_UNKNOWN;
        }
}

bool exchange_fail_status(const char *method, const struct http_response *response, GError **error)
{
        g_autofree char *status = http_status_text(response->status);
        g_autofree char *said = registry_text(response->body);
        return error_fail(error, status_class(response->status), "unexpected status from %s request to %s: %s%s%s",
                method, response->url, status, said != NULL ? "\n" : "", said != NULL ? said : "");
}

// ---- retries

static void on_retry_due(void *data)
{
        struct exchange *exchange = data;
        exchange->timer = NULL;
        exchange_send(exchange);
}

static void retry_after(struct exchange *exchange, int64_t delay_ms)
{
        exchange->timer = reactor_timer_start(exchange->options.registry->reactor, delay_ms, on_retry_due, exchange);
}

static int64_t backoff_ms(const struct exchange *exchange)
{
        return (int64_t)exchange->options.registry->retry_delay_ms << MIN(exchange->attempts - 1, 6);
}

static int64_t wanted_delay_ms(const struct exchange *exchange, const struct http_response *response)
{
        const char *text = http_response_header(response, "retry-after", 0);
        int64_t seconds = text != NULL ? g_ascii_strtoll(text, NULL, 10) : 0;
        return seconds > 0 ? MIN(seconds * 1000, MAX_RETRY_AFTER_MS) : backoff_ms(exchange);
}

static bool method_is(const struct exchange *exchange, const char *method)
{
        return strcmp(exchange->method, method) == 0;
}

// True: the request will be sent again.
static bool retry_status(struct exchange *exchange, const struct http_response *response)
{
        long status = response->status, last = exchange->last_status;
        exchange->last_status = status;
        if (exchange->attempts >= MAX_ATTEMPTS || exchange->options.body_fd >= 0)
                return false;
        switch (status) {
        case 405:
                if (!method_is(exchange, "HEAD") || strstr(exchange->tail, "manifests/") == NULL)
                        return false;
                g_free(exchange->method);
                exchange->method = g_strdup("GET");
                exchange_send(exchange);
                return true;
        case 408:
        case 429:
                retry_after(exchange, wanted_delay_ms(exchange, response));
                return true;
        case 500:
        case 503:
        case 504:
                if (last == status || !exchange->options.last_host)
                        return false;
                retry_after(exchange, wanted_delay_ms(exchange, response));
                return true;
        default:
                return false;
        }
}

// The server does not speak TLS, or nobody listens at https's port where none was named: plain HTTP may be meant.
static bool fall_back(struct exchange *exchange, enum http_failure failure)
{
        struct registry_host *host = exchange->options.host;
        bool port_named = strchr(host->host, ':') != NULL;
        if (!host->http_fallback || exchange->url != NULL)
                return false;
        if (failure != HTTP_TLS_FAILED && !(failure == HTTP_NOT_CONNECTED && !port_named))
                return false;
        if (strcmp(host->scheme, "https") == 0) { // else another request was faster
                g_free(host->scheme);
                host->scheme = g_strdup("http");
        }
        exchange_send(exchange);
        return true;
}

static bool retry_failure(struct exchange *exchange, enum http_failure failure)
{
        if (exchange->body_begun || exchange->attempts >= MAX_ATTEMPTS || exchange->options.body_fd >= 0)
                return false;
        if (exchange->over_tls && fall_back(exchange, failure))
                return true;
        if (failure != HTTP_BROKEN || !exchange->options.last_host)
                return false;
        retry_after(exchange, backoff_ms(exchange));
        return true;
}

// ---- one attempt

struct unanswered { // a 401, kept while the authorizer asks for credentials
        struct exchange *exchange;
        struct http_response response;
};

static struct http_response response_copy(const struct http_response *response)
{
        struct http_response copy = *response;
        copy.url = g_strdup(response->url);
        copy.headers = g_ptr_array_ref(response->headers);
        copy.body = g_byte_array_ref(response->body);
        return copy;
}

static void on_challenged(void *data, bool retry, const GError *error)
{
        struct unanswered *unanswered = data;
        struct exchange *exchange = unanswered->exchange;
        exchange->authorizing = false;
        if (exchange->cancelled)
                exchange_free(exchange);
        else if (retry)
                exchange_send(exchange);
        else
                finish(exchange, error == NULL ? &unanswered->response : NULL,
                        error == NULL ? HTTP_NO_FAILURE : HTTP_REFUSED, error);
        g_free(unanswered->response.url);
        g_ptr_array_unref(unanswered->response.headers);
        g_byte_array_unref(unanswered->response.body);
        g_free(unanswered);
}

// What a registry says that refuses a token it has just been given ("insufficient_scope").
static bool refused_token(const struct http_response *response, GError **error)
{
        const char *header;
        for (size_t i = 0; (header = http_response_header(response, "www-authenticate", i)) != NULL; i++) {
                struct challenge challenge;
                if (!challenge_parse(header, &challenge))
                        continue;
                const char *said = challenge_parameter(&challenge, "error");
                bool refused = challenge.scheme == CHALLENGE_BEARER && said != NULL;
                if (refused)
                        error_fail(error, ERROR_UNAUTHENTICATED, "server message: %.64s: authorization failed", said);
                challenge_done(&challenge);
                if (refused)
                        return true;
        }
        return false;
}

static void on_unauthorized(struct exchange *exchange, const struct http_response *response)
{
        bool again = exchange->last_status == 401 && exchange->sent_authorization;
        exchange->last_status = 401;
        g_autoptr(GError) error = NULL;
        if (again && refused_token(response, &error)) {
                finish(exchange, NULL, HTTP_REFUSED, error);
                return;
        }
        if (again || exchange->attempts >= MAX_ATTEMPTS) {
                finish(exchange, response, HTTP_NO_FAILURE, NULL);
                return;
        }
        struct unanswered *unanswered = g_new0(struct unanswered, 1);
        unanswered->exchange = exchange;
        unanswered->response = response_copy(response);
        struct auth_target target = target_of(exchange);
        exchange->authorizing = true;
        auth_challenged(exchange->options.registry->auth, &target, response, exchange->sent_authorization,
                on_challenged, unanswered);
}

static void on_response(void *data, const struct http_response *response)
{
        struct exchange *exchange = data;
        if (exchange->options.handler->on_response != NULL && response->status != 401)
                exchange->options.handler->on_response(exchange->options.data, response);
}

static bool on_body(void *data, const void *bytes, size_t n_bytes)
{
        struct exchange *exchange = data;
        exchange->body_begun = true;
        return exchange->options.handler->on_body(exchange->options.data, bytes, n_bytes);
}

static void on_done(void *data, const struct http_response *response, enum http_failure failure, const GError *reason)
{
        struct exchange *exchange = data;
        exchange->request = NULL;
        if (failure != HTTP_NO_FAILURE) {
                if (retry_failure(exchange, failure))
                        return;
                g_autoptr(GError) error = g_error_copy(reason);
                g_prefix_error(&error, "failed to do request: ");
                finish(exchange, NULL, failure, error);
                return;
        }
        if (response->status == 401)
                on_unauthorized(exchange, response);
        else if (!retry_status(exchange, response))
                finish(exchange, response, HTTP_NO_FAILURE, NULL);
}

static char *url_of(const struct exchange *exchange)
{
        const struct registry *registry = exchange->options.registry;
        const struct registry_host *host = exchange->options.host;
        if (exchange->url != NULL)
                return g_strdup(exchange->url);
        const char *repository = registry->reference.repository;
        bool proxied = strcmp(registry->reference.host, host->host) != 0 &&
                       !(strcmp(registry->reference.host, "docker.io") == 0 &&
                               strcmp(host->host, "registry-1.docker.io") == 0);
        return g_strdup_printf("%s://%s%s/%s%s%s%s%s", host->scheme, host->host, host->path, repository,
                repository[0] != '\0' ? "/" : "", exchange->tail, proxied ? "?ns=" : "",
                proxied ? registry->reference.host : "");
}

static void add_headers(GPtrArray *lines, char *const *headers)
{
        for (size_t i = 0; headers != NULL && headers[i] != NULL; i++)
                g_ptr_array_add(lines, g_strdup(headers[i]));
}

static void send_with(struct exchange *exchange, const char *authorization)
{
        const struct exchange_options *options = &exchange->options;
        struct http_handler handler = {on_response, options->handler->on_body != NULL ? on_body : NULL, on_done};
        g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
        add_headers(lines, options->registry->headers);
        add_headers(lines, options->host->headers);
        bool has_agent = false;
        for (size_t i = 0; i < lines->len; i++)
                has_agent |= g_ascii_strncasecmp(lines->pdata[i], "user-agent:", 11) == 0;
        if (!has_agent)
                g_ptr_array_add(lines, g_strconcat("User-Agent: ", options->registry->user_agent, NULL));
        if (exchange->accept != NULL)
                g_ptr_array_add(lines, g_strconcat("Accept: ", exchange->accept, NULL));
        if (exchange->extra != NULL)
                g_ptr_array_add(lines, g_strdup(exchange->extra));
        if (options->range_from > 0)
                g_ptr_array_add(lines, g_strdup_printf("Range: bytes=%" G_GINT64_FORMAT "-", options->range_from));
        if (authorization != NULL)
                g_ptr_array_add(lines, g_strconcat("Authorization: ", authorization, NULL));
        g_ptr_array_add(lines, NULL);

        g_autofree char *url = url_of(exchange);
        struct auth_target target = target_of(exchange);
        exchange->over_tls = g_str_has_prefix(url, "https:");
        exchange->sent_authorization = authorization != NULL;
        exchange->request = http_request_start(
                options->registry->reactor, &(struct http_options){
                                                    .method = exchange->method,
                                                    .url = url,
                                                    .headers = (const char *const *)lines->pdata,
                                                    .body_fd = options->body_fd,
                                                    .n_body = options->n_body,
                                                    .tls = target.tls,
                                                    .connect_timeout_ms = options->host->connect_timeout_ms,
                                                    .max_body_bytes = options->max_body_bytes,
                                                    .handler = &handler,
                                                    .data = exchange,
                                            });
}

static void on_authorized(void *data, const char *header, const GError *reason)
{
        struct exchange *exchange = data;
        exchange->authorizing = false;
        if (exchange->cancelled) {
                exchange_free(exchange);
        } else if (reason != NULL) {
                GError *error = g_error_copy(reason);
                g_prefix_error(&error, "failed to authorize: ");
                fail(exchange, error);
        } else {
                send_with(exchange, header);
        }
}

static void exchange_send(struct exchange *exchange)
{
        exchange->attempts++;
        exchange->authorizing = true;
        struct auth_target target = target_of(exchange);
        auth_authorize(exchange->options.registry->auth, &target, on_authorized, exchange);
}

struct exchange *exchange_start(const struct exchange_options *options)
{
        struct exchange *exchange = g_new0(struct exchange, 1);
        const struct reference *reference = &options->registry->reference;
        exchange->options = *options;
        exchange->method = g_strdup(options->method);
        exchange->tail = g_strdup(options->tail != NULL ? options->tail : "");
        exchange->url = g_strdup(options->url);
        exchange->accept = g_strdup(options->accept);
        exchange->extra = g_strdup(options->extra);
        exchange->host_name = g_strdup(options->host->host);
        exchange->scope = g_strdup_printf("repository:%s:pull%s", reference->repository, options->push ? ",push" : "");
        // Later, so that no callback of the caller comes before this returns.
        retry_after(exchange, 0);
        return exchange;
}
