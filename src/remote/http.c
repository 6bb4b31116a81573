// SPDX-License-Identifier: Apache-2.0
//
// A thin layer over curl's easy handles. Redirects are curl's: at most ten, http and https only, Authorization is not
// sent to another host, port or scheme. Each answer on the way replaces the headers of the one before, so that what is
// left are those of the last. A pause works by refusing the next piece of the body, which curl keeps.
#include "remote/http.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define MAX_REDIRECTS 10
#define MAX_HEADER_BYTES (128 * 1024)
#define CONNECT_TIMEOUT_MS 30000
#define STALL_SECONDS 60
#define ERROR_BODY_BYTES 64000
#define BUFFER_BYTES (256 * 1024)

struct http_request {
        struct reactor *reactor;
        CURL *easy;
        struct curl_slist *headers;
        struct http_handler handler;
        void *data;
        struct http_response response;
        size_t max_body_bytes, n_header_bytes;
        int body_fd;
        struct reactor_watch *body_watch;
        char message[CURL_ERROR_SIZE];
        char *method;
        bool announced, paused, too_long, headers_too_long;
};

const char *http_response_header(const struct http_response *response, const char *name, size_t n)
{
        for (size_t i = 0; i + 1 < response->headers->len; i += 2)
                if (strcmp(response->headers->pdata[i], name) == 0 && n-- == 0)
                        return response->headers->pdata[i + 1];
        return NULL;
}

char *http_status_text(long status)
{
        static const struct {
                long status;
                const char *text;
        } texts[] = {{400, "Bad Request"}, {401, "Unauthorized"}, {402, "Payment Required"}, {403, "Forbidden"},
                {404, "Not Found"}, {405, "Method Not Allowed"}, {406, "Not Acceptable"}, {408, "Request Timeout"},
                {409, "Conflict"}, {410, "Gone"}, {413, "Request Entity Too Large"},
                {416, "Requested Range Not Satisfiable"}, {418, "I'm a teapot"}, {429, "Too Many Requests"},
                {451, "Unavailable For Legal Reasons"}, {500, "Internal Server Error"}, {501, "Not Implemented"},
                {502, "Bad Gateway"}, {503, "Service Unavailable"}, {504, "Gateway Timeout"}};
        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
                if (texts[i].status == status)
                        return g_strdup_printf("%ld %s", status, texts[i].text);
        return g_strdup_printf("%ld", status);
}

static bool succeeded(const struct http_request *request)
{
        return request->response.status >= 200 && request->response.status <= 299;
}

static size_t on_header(char *bytes, size_t size, size_t n, void *data)
{
        struct http_request *request = data;
        size_t n_bytes = size * n;
        request->n_header_bytes += n_bytes;
        if (request->n_header_bytes > MAX_HEADER_BYTES) {
                request->headers_too_long = true;
                return 0;
        }
        g_autofree char *line = g_strndup(bytes, n_bytes);
        g_strchomp(line);
        if (g_str_has_prefix(line, "HTTP/")) {
                g_ptr_array_set_size(request->response.headers, 0);
                return n_bytes;
        }
        char *colon = strchr(line, ':');
        if (colon != NULL) {
                g_ptr_array_add(request->response.headers, g_ascii_strdown(line, colon - line));
                g_ptr_array_add(request->response.headers, g_strdup(g_strstrip(colon + 1)));
        }
        return n_bytes;
}

// Fills in what curl knows once a final answer's headers are complete.
static void note_response(struct http_request *request)
{
        char *url = NULL;
        curl_off_t length = -1;
        curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &request->response.status);
        curl_easy_getinfo(request->easy, CURLINFO_EFFECTIVE_URL, &url);
        curl_easy_getinfo(request->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        g_free(request->response.url);
        request->response.url = g_strdup(url != NULL ? url : "");
        request->response.content_length = length;
}

static void announce(struct http_request *request)
{
        if (request->announced)
                return;
        request->announced = true;
        note_response(request);
        if (request->handler.on_response != NULL)
                request->handler.on_response(request->data, &request->response);
}

static size_t on_write(char *bytes, size_t size, size_t n, void *data)
{
        struct http_request *request = data;
        size_t n_bytes = size * n;
        if (request->paused)
                return CURL_WRITEFUNC_PAUSE;
        announce(request);
        if (succeeded(request) && request->handler.on_body != NULL) {
                request->paused = !request->handler.on_body(request->data, bytes, n_bytes);
                return n_bytes;
        }
        size_t limit = succeeded(request) ? request->max_body_bytes : ERROR_BODY_BYTES;
        size_t room = limit - MIN(limit, request->response.body->len);
        if (n_bytes > room && succeeded(request)) {
                request->too_long = true;
                return 0;
        }
        g_byte_array_append(request->response.body, (const guint8 *)bytes, (guint)MIN(n_bytes, room));
        return n_bytes;
}

static void on_body_readable(void *data)
{
        struct http_request *request = data;
        reactor_watch_change(request->body_watch, 0);
        curl_easy_pause(request->easy, CURLPAUSE_CONT);
}

static size_t on_read(char *bytes, size_t size, size_t n, void *data)
{
        struct http_request *request = data;
        ssize_t n_read;
        do
                n_read = read(request->body_fd, bytes, size * n);
        while (n_read < 0 && errno == EINTR);
        if (n_read >= 0)
                return (size_t)n_read;
        if (errno != EAGAIN)
                return CURL_READFUNC_ABORT;
        reactor_watch_change(request->body_watch, CURL_WAIT_POLLIN);
        return CURL_READFUNC_PAUSE;
}

static void request_free(struct http_request *request)
{
        if (request->body_watch != NULL)
                reactor_watch_stop(request->body_watch);
        curl_easy_cleanup(request->easy);
        curl_slist_free_all(request->headers);
        g_ptr_array_unref(request->response.headers);
        g_byte_array_unref(request->response.body);
        g_free(request->response.url);
        g_free(request->method);
        g_free(request);
}

static enum http_failure failure_of(CURLcode result)
{
        switch (result) {
        case CURLE_OK:
                return HTTP_NO_FAILURE;
        case CURLE_COULDNT_RESOLVE_PROXY:
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_CONNECT:
                return HTTP_NOT_CONNECTED;
        case CURLE_SSL_CONNECT_ERROR:
                return HTTP_TLS_FAILED;
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_ISSUER_ERROR:
                return HTTP_UNTRUSTED;
        case CURLE_OPERATION_TIMEDOUT:
        case CURLE_PARTIAL_FILE:
        case CURLE_GOT_NOTHING:
        case CURLE_SEND_ERROR:
        case CURLE_RECV_ERROR:
        case CURLE_HTTP2:
        case CURLE_HTTP2_STREAM:
                return HTTP_BROKEN;
        default:
                return HTTP_REFUSED;
        }
}

// Why it failed, in the words that clients know from Go's HTTP client where they look for them.
static char *reason_text(const struct http_request *request, CURLcode result, const char *host)
{
        long os_error = 0;
        curl_easy_getinfo(request->easy, CURLINFO_OS_ERRNO, &os_error);
        const char *said = request->message[0] != '\0' ? request->message : curl_easy_strerror(result);
        if (result == CURLE_TOO_MANY_REDIRECTS)
                return g_strdup("stopped after 10 redirects");
        if (request->too_long)
                return g_strdup("the answer is too long");
        if (request->headers_too_long)
                return g_strdup("the answer's headers are too long");
        if (result == CURLE_COULDNT_RESOLVE_HOST)
                return g_strdup_printf("dial tcp: lookup %s: no such host", host);
        if (result == CURLE_COULDNT_CONNECT && os_error != 0)
                return g_strdup_printf("dial tcp %s: connect: %s", host, errno_text((int)os_error));
        if (failure_of(result) == HTTP_UNTRUSTED)
                return g_strdup_printf("tls: failed to verify certificate: x509: %s", said);
        return g_strdup(said);
}

static void set_error(struct http_request *request, CURLcode result, GError **error)
{
        char *url = NULL;
        curl_easy_getinfo(request->easy, CURLINFO_EFFECTIVE_URL, &url);
        const char *start = url != NULL ? strstr(url, "://") : NULL;
        start = start != NULL ? start + 3 : "";
        g_autofree char *host = g_strndup(start, strcspn(start, "/?#"));
        g_autofree char *reason = reason_text(request, result, host);
        g_autofree char *verb = g_ascii_strdown(request->method, -1);
        verb[0] = g_ascii_toupper(verb[0]);
        error_fail(error, ERROR_UNAVAILABLE, "%s \"%s\": %s", verb, url != NULL ? url : "", reason);
}

static void on_finished(void *data, CURLcode result)
{
        struct http_request *request = data;
        g_autoptr(GError) error = NULL;
        if (result == CURLE_OK)
                announce(request);
        else
                set_error(request, result, &error);
        request->handler.on_done(request->data, &request->response, failure_of(result), error);
        request_free(request);
}

static void set_tls(CURL *easy, const struct http_tls *tls)
{
        if (tls->ca_file != NULL)
                curl_easy_setopt(easy, CURLOPT_CAINFO, tls->ca_file);
        if (tls->certificate_file != NULL) {
                curl_easy_setopt(easy, CURLOPT_SSLCERT, tls->certificate_file);
                curl_easy_setopt(easy, CURLOPT_SSLKEY, tls->key_file);
        }
        if (tls->skip_verify) {
                curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
                curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
        }
}

static void set_method(struct http_request *request, const struct http_options *options)
{
        CURL *easy = request->easy;
        if (strcmp(options->method, "HEAD") == 0) {
                curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        } else if (options->form != NULL) {
                curl_easy_setopt(easy, CURLOPT_POST, 1L);
                curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(options->form));
                curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, options->form);
        } else if (options->body_fd >= 0) {
                request->body_fd = options->body_fd;
                request->body_watch =
                        reactor_watch_start(request->reactor, options->body_fd, 0, on_body_readable, request);
                curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
                curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
                curl_easy_setopt(easy, CURLOPT_READDATA, request);
                curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)options->n_body);
                curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, options->method);
        } else if (strcmp(options->method, "GET") != 0) {
                curl_easy_setopt(easy, CURLOPT_POST, 1L);
                curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, 0L);
                curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, "");
                curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, options->method);
        }
}

struct http_request *http_request_start(struct reactor *reactor, const struct http_options *options)
{
        struct http_request *request = g_new0(struct http_request, 1);
        CURL *easy = curl_easy_init();
        request->reactor = reactor;
        request->easy = easy;
        request->handler = *options->handler;
        request->data = options->data;
        request->method = g_strdup(options->method);
        request->max_body_bytes = options->max_body_bytes;
        request->body_fd = -1;
        request->response.headers = g_ptr_array_new_with_free_func(g_free);
        request->response.body = g_byte_array_new();
        for (size_t i = 0; options->headers != NULL && options->headers[i] != NULL; i++)
                request->headers = curl_slist_append(request->headers, options->headers[i]);
        // curl waits for "100 Continue" before it sends a body; registries do not answer it.
        request->headers = curl_slist_append(request->headers, "Expect:");

        curl_easy_setopt(easy, CURLOPT_URL, options->url);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
        curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BUFFER_BYTES);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request->headers);
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->message);
        curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS);
        curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                (long)(options->connect_timeout_ms != 0 ? options->connect_timeout_ms : CONNECT_TIMEOUT_MS));
        set_tls(easy, &options->tls);
        set_method(request, options);
        reactor_add(reactor, easy, on_finished, request);
        return request;
}

void http_request_resume(struct http_request *request)
{
        if (!request->paused)
                return;
        request->paused = false;
        curl_easy_pause(request->easy, CURLPAUSE_CONT);
}

void http_request_cancel(struct http_request *request)
{
        reactor_remove(request->reactor, request->easy);
        request_free(request);
}
