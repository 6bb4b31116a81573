// SPDX-License-Identifier: Apache-2.0
//
// One HTTP request and its answer, redirects included, on the reactor. Threads: one.
#pragma once

#include "remote/reactor.h"

#include <stddef.h>

struct http_tls {
        const char *ca_file;          // NULL: the system's
        const char *certificate_file; // NULL: none
        const char *key_file;
        bool skip_verify;
};

struct http_response {
        long status;            // 0: none came
        char *url;              // after redirects
        GPtrArray *headers;     // name, value, … of the last answer; names in lower case
        GByteArray *body;       // of a failure or of a request without a sink, up to the limit
        int64_t content_length; // -1: unknown
};
// The n-th value of a header; NULL: none.
const char *http_response_header(const struct http_response *response, const char *name, size_t n);
// "404 Not Found". Caller frees.
char *http_status_text(long status);

enum http_failure {
        HTTP_NO_FAILURE,
        HTTP_NOT_CONNECTED, // nothing was sent: name, connection or proxy
        HTTP_TLS_FAILED,    // the server speaks no TLS or failed the handshake
        HTTP_UNTRUSTED,     // its certificate was refused
        HTTP_BROKEN,        // the connection broke or stalled: worth another try
        HTTP_REFUSED,       // by our own limits
};

struct http_request;
struct http_handler {
        // The status line and headers of the final answer. Not called for failures. May be NULL.
        void (*on_response)(void *data, const struct http_response *response);
        // Bytes of a 2xx answer's body. False: take a pause (these bytes count as taken). NULL: collected.
        bool (*on_body)(void *data, const void *bytes, size_t n_bytes);
        // Last callback. failure with error, or none and the answer; both are valid during the call alone.
        void (*on_done)(
                void *data, const struct http_response *response, enum http_failure failure, const GError *error);
};

struct http_options {
        const char *method; // "HEAD", "GET", "POST", "PUT", "PATCH"
        const char *url;
        const char *const *headers; // "Name: value", …, NULL
        const char *form;           // body of a POST; NULL: none
        // A body that is read from a descriptor (not blocking), as many bytes; -1: none.
        int body_fd;
        int64_t n_body;
        struct http_tls tls;
        unsigned connect_timeout_ms; // 0: 30 seconds
        size_t max_body_bytes;       // of a collected body; more is a failure for 2xx, else cut
        const struct http_handler *handler;
        void *data;
};

// Copies what it needs of the options, except body_fd, which stays the caller's until on_done.
struct http_request *http_request_start(struct reactor *reactor, const struct http_options *options);
void http_request_resume(struct http_request *request);
// Without any further callback.
void http_request_cancel(struct http_request *request);
