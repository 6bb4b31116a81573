// SPDX-License-Identifier: Apache-2.0
//
// The repository object, and resolving: HEAD of the manifest at each host that may resolve, in order. The digest of a
// tag comes from the registry's header (or from hashing the manifest where it sends none); that of a digest reference
// is the reference's own. The error that is returned is that of the attempt that got furthest.
#include "remote/registry.h"

#include "base/digest.h"
#include "remote/job.h"

#include <string.h>

#define MAX_MANIFEST_BYTES (4 * 1048 * 1048) // containerd's limit, its slip included
#define RETRY_DELAY_MS 100
#define RESOLVE_ACCEPT                                                                                                 \
        "application/vnd.docker.distribution.manifest.v2+json, "                                                       \
        "application/vnd.docker.distribution.manifest.list.v2+json, "                                                  \
        "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*"
#define SCHEMA1 "application/vnd.docker.distribution.manifest.v1+prettyjws"

bool media_type_is_index(const char *media_type)
{
        return strcmp(media_type, "application/vnd.oci.image.index.v1+json") == 0 ||
               strcmp(media_type, "application/vnd.docker.distribution.manifest.list.v2+json") == 0;
}

bool media_type_is_manifest(const char *media_type)
{
        return strcmp(media_type, "application/vnd.oci.image.manifest.v1+json") == 0 ||
               strcmp(media_type, "application/vnd.docker.distribution.manifest.v2+json") == 0;
}

void registry_host_free(struct registry_host *host)
{
        g_free(host->scheme);
        g_free(host->host);
        g_free(host->path);
        g_strfreev(host->headers);
        g_free(host->ca_file);
        g_free(host->certificate_file);
        g_free(host->key_file);
        g_free(host);
}

struct registry *registry_new(struct reactor *reactor, const char *reference, GPtrArray *hosts, const char *user_agent,
        const struct auth_asker *asker, GError **error)
{
        struct reference parsed;
        if (!reference_parse(reference, &parsed, error)) {
                g_ptr_array_unref(hosts);
                return NULL;
        }
        struct registry *registry = g_new0(struct registry, 1);
        registry->reactor = reactor;
        registry->reference = parsed;
        registry->reference_text = g_strdup(reference);
        registry->user_agent = g_strdup(user_agent);
        registry->hosts = hosts;
        registry->auth = auth_new(reactor, user_agent, asker);
        registry->retry_delay_ms = RETRY_DELAY_MS;
        return registry;
}

void registry_free(struct registry *registry)
{
        auth_free(registry->auth);
        g_ptr_array_unref(registry->hosts);
        reference_done(&registry->reference);
        g_free(registry->reference_text);
        g_free(registry->user_agent);
        g_strfreev(registry->headers);
        g_free(registry->accept);
        g_free(registry);
}

void registry_job_cancel(struct registry_job *job)
{
        job->cancel(job);
}

// ---- resolving

enum progress { NOT_TRIED, NO_ANSWER, NOT_THERE, REFUSED, TOO_LARGE };

struct resolve {
        struct registry_job job;
        struct registry *registry;
        registry_resolved_fn done;
        void *data;
        char *digest; // of the reference; NULL: to be found out
        GPtrArray *hosts;
        size_t next_host;
        bool in_blobs; // second round, for content that is no manifest
        bool whole;    // getting the manifest, as its head said too little
        struct exchange *exchange;
        GError *error;
        enum progress progress;
};

static void resolve_next(struct resolve *resolve);

static void resolve_free(struct resolve *resolve)
{
        g_ptr_array_unref(resolve->hosts);
        g_clear_error(&resolve->error);
        g_free(resolve->digest);
        g_free(resolve);
}

static void resolve_cancel(struct registry_job *job)
{
        struct resolve *resolve = (struct resolve *)job;
        if (resolve->exchange != NULL)
                exchange_cancel(resolve->exchange);
        resolve_free(resolve);
}

static void resolve_finish(struct resolve *resolve, const struct descriptor *descriptor, const GError *error)
{
        resolve->done(resolve->data, descriptor, error);
        resolve_free(resolve);
}

// Keeps the error of the attempt that got furthest (takes it).
static void note_failure(struct resolve *resolve, enum progress progress, GError *error)
{
        if (progress <= resolve->progress) {
                g_error_free(error);
                return;
        }
        g_clear_error(&resolve->error);
        resolve->error = error;
        resolve->progress = progress;
}

static char *content_type(const struct http_response *response)
{
        const char *text = http_response_header(response, "content-type", 0);
        g_autofree char *type = g_strndup(text != NULL ? text : "", strcspn(text != NULL ? text : "", ";"));
        g_strstrip(type);
        // Some old registries name no type; what they serve is schema 1.
        return g_strdup(strcmp(type, "text/plain") == 0 ? SCHEMA1 : type);
}

static void resolved(struct resolve *resolve, const struct http_response *response)
{
        const char *claimed = http_response_header(response, "docker-content-digest", 0);
        bool has_body = response->body->len > 0;
        int64_t size = has_body ? (int64_t)response->body->len : response->content_length;
        g_autofree char *media_type = content_type(response);
        g_autofree char *digest = g_strdup(resolve->digest);
        g_autoptr(GError) error = NULL;
        if (digest == NULL && claimed != NULL && size >= 0) {
                if (!digest_parse(claimed, NULL, &error)) {
                        g_prefix_error(&error, "\"%.128s\" in header not a valid digest: ", claimed);
                        resolve_finish(resolve, NULL, error);
                        return;
                }
                digest = g_strdup(claimed);
        }
        if (strcmp(media_type, SCHEMA1) == 0 && digest == NULL) {
                error_fail(&error, ERROR_UNIMPLEMENTED,
                        "media type \"%s\" is no longer supported since containerd v2.0, please rebuild the image as "
                        "\"application/vnd.docker.distribution.manifest.v2+json\" or "
                        "\"application/vnd.oci.image.manifest.v1+json\": not implemented",
                        SCHEMA1);
                resolve_finish(resolve, NULL, error);
                return;
        }
        if (digest == NULL && has_body)
                digest = digest_of_bytes(DIGEST_SHA256, response->body->data, response->body->len);
        if ((digest == NULL || size < 0) && !resolve->whole) {
                resolve->whole = true;
                resolve->next_host--;
                resolve_next(resolve);
                return;
        }
        if (size > MAX_MANIFEST_BYTES || digest == NULL || size < 0) {
                error_fail(&error, ERROR_NOT_FOUND, "rejecting %" G_GINT64_FORMAT " byte manifest for %s: not found",
                        size, resolve->registry->reference_text);
                note_failure(resolve, TOO_LARGE, g_steal_pointer(&error));
                resolve_next(resolve);
                return;
        }
        resolve_finish(resolve, &(struct descriptor){media_type, digest, size}, NULL);
}

static void on_resolve_done(
        void *data, const struct http_response *response, enum http_failure failure, const GError *reason)
{
        struct resolve *resolve = data;
        GError *error = NULL;
        resolve->exchange = NULL;
        if (failure != HTTP_NO_FAILURE) {
                error = g_error_copy(reason);
                if (strstr(error->message, "authorization failed") != NULL)
                        g_prefix_error(
                                &error, "pull access denied, repository does not exist or may require authorization: ");
                note_failure(resolve, NO_ANSWER, error);
        } else if (response->status == 404) {
                error_fail(&error, ERROR_NOT_FOUND, "%s: not found", resolve->registry->reference_text);
                note_failure(resolve, NOT_THERE, error);
        } else if (response->status > 299) {
                exchange_fail_status(resolve->whole ? "GET" : "HEAD", response, &error);
                note_failure(resolve, REFUSED, error);
        } else {
                resolved(resolve, response);
                return;
        }
        resolve->whole = false;
        resolve_next(resolve);
}

static void resolve_next(struct resolve *resolve)
{
        static const struct http_handler handler = {.on_done = on_resolve_done};
        if (resolve->next_host == resolve->hosts->len && resolve->digest != NULL && !resolve->in_blobs &&
                resolve->progress <= NOT_THERE) {
                resolve->in_blobs = true;
                resolve->next_host = 0;
        }
        if (resolve->next_host == resolve->hosts->len) {
                g_autoptr(GError) error = g_steal_pointer(&resolve->error);
                resolve_finish(resolve, NULL, error);
                return;
        }
        struct registry *registry = resolve->registry;
        struct registry_host *host = resolve->hosts->pdata[resolve->next_host++];
        g_autofree char *tail = g_strconcat(resolve->in_blobs ? "blobs/" : "manifests/",
                resolve->digest != NULL ? resolve->digest : registry->reference.object, NULL);
        resolve->exchange = exchange_start(&(struct exchange_options){
                .registry = registry,
                .host = host,
                .method = resolve->whole ? "GET" : "HEAD",
                .tail = tail,
                .accept = registry->accept != NULL ? registry->accept : RESOLVE_ACCEPT,
                .last_host = resolve->next_host == resolve->hosts->len,
                .body_fd = -1,
                .max_body_bytes = MAX_MANIFEST_BYTES,
                .handler = &handler,
                .data = resolve,
        });
}

static void fail_later(void *data)
{
        struct resolve *resolve = data;
        g_autoptr(GError) error = g_steal_pointer(&resolve->error);
        resolve_finish(resolve, NULL, error);
}

struct registry_job *registry_resolve(struct registry *registry, registry_resolved_fn done, void *data)
{
        struct resolve *resolve = g_new0(struct resolve, 1);
        const char *digest = reference_digest(&registry->reference);
        resolve->job.cancel = resolve_cancel;
        resolve->registry = registry;
        resolve->done = done;
        resolve->data = data;
        resolve->digest = g_strdup(digest);
        resolve->hosts = g_ptr_array_new();
        for (size_t i = 0; i < registry->hosts->len; i++) {
                struct registry_host *host = registry->hosts->pdata[i];
                if (host->pull && (host->resolve || digest != NULL))
                        g_ptr_array_add(resolve->hosts, host);
        }
        if (registry->reference.object[0] == '\0')
                error_fail(&resolve->error, ERROR_INVALID_ARGUMENT, "object required");
        else if (digest != NULL)
                digest_parse(digest, NULL, &resolve->error);
        if (resolve->error == NULL && resolve->hosts->len == 0)
                error_fail(&resolve->error, ERROR_NOT_FOUND, "no resolve hosts: not found");
        if (resolve->error != NULL)
                reactor_timer_start(registry->reactor, 0, fail_later, resolve);
        else
                resolve_next(resolve);
        return &resolve->job;
}
