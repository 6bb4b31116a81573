// SPDX-License-Identifier: Apache-2.0
//
// A repository as its hosts serve it (OCI distribution specification): resolving a reference, fetching and uploading
// blobs and manifests, with mirrors, authorization and retries. Threads: one.
#pragma once

#include "base/error.h"
#include "base/reference.h"
#include "remote/auth.h"

struct registry_host {
        char *scheme, *host, *path; // "https", "registry-1.docker.io", "/v2"
        bool pull, resolve, push;
        char **headers; // "Name: value", …, NULL
        char *ca_file, *certificate_file, *key_file;
        bool skip_verify;
        bool http_fallback; // try http once https turned out not to be spoken
        unsigned connect_timeout_ms;
};
void registry_host_free(struct registry_host *host);

struct registry {
        struct reactor *reactor;
        struct reference reference;
        char *reference_text;
        char *user_agent;
        char **headers;   // for every request
        char *accept;     // replaces the default when resolving; NULL: none
        GPtrArray *hosts; // struct registry_host *, in the order to try
        struct auth *auth;
        unsigned retry_delay_ms; // of the first retry, then doubled
};

// Takes the hosts. INVALID_ARGUMENT for a bad reference.
struct registry *registry_new(struct reactor *reactor, const char *reference, GPtrArray *hosts, const char *user_agent,
        const struct auth_asker *asker, GError **error);
void registry_free(struct registry *registry);
DEFINE_AUTO(registry, registry_free)

struct descriptor {
        const char *media_type, *digest;
        int64_t size;
};
bool media_type_is_index(const char *media_type);
bool media_type_is_manifest(const char *media_type);

// The jobs: done is called once, later, and frees the job; a job that is cancelled calls nothing.
struct registry_job;
void registry_job_cancel(struct registry_job *job);

// What the reference stands for. NOT_FOUND "REF: not found"; UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE.
typedef void (*registry_resolved_fn)(void *data, const struct descriptor *descriptor, const GError *error);
struct registry_job *registry_resolve(struct registry *registry, registry_resolved_fn done, void *data);

// Writes the content from offset on to fd (not blocking, taken), goes on after a broken connection where it stopped,
// and closes fd before done. More than descriptor->size bytes are never written; fewer are an error.
typedef void (*registry_moved_fn)(void *data, int64_t n_bytes, bool existed, const GError *error);
struct registry_job *registry_get(struct registry *registry, const struct descriptor *descriptor, int64_t offset,
        int fd, registry_moved_fn done, void *data);
