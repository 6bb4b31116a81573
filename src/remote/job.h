// SPDX-License-Identifier: Apache-2.0
//
// Private to src/remote: what the jobs of registry.h share, and a request to one host with authorization and retries.
#pragma once

#include "remote/registry.h"

struct registry_job {
        void (*cancel)(struct registry_job *job); // frees it
};

struct exchange;
struct exchange_options {
        struct registry *registry;
        struct registry_host *host;
        const char *method;
        const char *tail;   // below the repository: "manifests/latest"
        const char *url;    // instead of host, path and tail (an upload's location); NULL
        const char *accept; // NULL: none
        const char *extra;  // one more header line; NULL
        int64_t range_from; // 0: the whole
        bool push;          // the scope to be authorized for
        bool last_host;     // no other host will be tried: transient failures are worth retries
        int body_fd;        // -1
        int64_t n_body;
        size_t max_body_bytes;
        const struct http_handler *handler; // on_done's failures have their context; http_request_resume via resume
        void *data;
};
// Like http_request_start, on_done comes later or within the call of reactor_run. Copies the options.
struct exchange *exchange_start(const struct exchange_options *options);
void exchange_resume(struct exchange *exchange);
void exchange_cancel(struct exchange *exchange);

// "unexpected status from GET request to URL: 500 Internal Server Error" and what the registry says in its body.
bool exchange_fail_status(const char *method, const struct http_response *response, GError **error);
