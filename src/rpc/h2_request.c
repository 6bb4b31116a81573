// SPDX-License-Identifier: Apache-2.0
//
// Requests' header blocks, judged as grpc-go judges them: order and repetition of pseudo-headers and names in upper
// case are stream errors, a wrong method or content type gets an HTTP status, and all else a gRPC status. Of :authority
// nothing is asked, since clients on unix sockets send paths there.
#include "rpc/h2.h"

#include "rpc/grpc_text.h"

#include <string.h>

struct h2_request {
        struct arena *arena;
        GPtrArray *metadata; // key, value, …
        char *method, *path, *scheme, *authority, *content_type, *encoding, *timeout;
        unsigned n_hosts;
        bool regular; // pseudo-headers are over
        GError *error;
};

struct h2_request *h2_request_new(void)
{
        struct h2_request *request = g_new0(struct h2_request, 1);
        request->arena = arena_new();
        request->metadata = g_ptr_array_new();
        return request;
}

void h2_request_free(struct h2_request *request)
{
        if (request == NULL)
                return;
        arena_free(request->arena);
        g_ptr_array_unref(request->metadata);
        g_clear_error(&request->error);
        g_free(request);
}

static bool add_pseudo(struct h2_request *request, const char *name, const char *value)
{
        char **field = strcmp(name, ":method") == 0      ? &request->method
                       : strcmp(name, ":path") == 0      ? &request->path
                       : strcmp(name, ":scheme") == 0    ? &request->scheme
                       : strcmp(name, ":authority") == 0 ? &request->authority
                                                         : NULL;
        if (field == NULL || *field != NULL || request->regular)
                return false;
        *field = arena_strdup(request->arena, value);
        return true;
}

static bool name_is_valid(const char *name)
{
        for (const char *at = name; *at != '\0'; at++)
                if (g_ascii_isupper(*at) || *at <= ' ' || *at >= 0x7f || *at == ':')
                        return false;
        return name[0] != '\0';
}

static bool value_is_valid(const char *value)
{
        return strpbrk(value, "\r\n") == NULL;
}

static bool is_hop_by_hop(const char *name)
{
        return strcmp(name, "connection") == 0 || strcmp(name, "transfer-encoding") == 0 ||
               strcmp(name, "upgrade") == 0 || strcmp(name, "keep-alive") == 0 || strcmp(name, "proxy-connection") == 0;
}

static void add_metadata(struct h2_request *request, const char *name, const char *value)
{
        if (g_str_has_suffix(name, "-bin") && !grpc_is_base64(value) && request->error == NULL) {
                g_autofree char *quoted_value = grpc_quote(value), *quoted_name = grpc_quote(name);
                error_fail(&request->error, ERROR_INTERNAL, "malformed binary metadata %s in header %s: illegal base64",
                        quoted_value, quoted_name);
        }
        g_ptr_array_add(request->metadata, arena_strdup(request->arena, name));
        g_ptr_array_add(request->metadata, arena_strdup(request->arena, value));
}

bool h2_request_add(struct h2_request *request, const char *name, const char *value)
{
        if (name[0] == ':')
                return value_is_valid(value) && add_pseudo(request, name, value);
        request->regular = true;
        if (!name_is_valid(name) || !value_is_valid(value) || is_hop_by_hop(name))
                return false;
        if (strcmp(name, "te") == 0)
                return strcmp(value, "trailers") == 0;
        if (strcmp(name, "host") == 0)
                request->n_hosts++;
        else if (strcmp(name, "content-type") == 0)
                request->content_type = arena_strdup(request->arena, value);
        else if (strcmp(name, "grpc-encoding") == 0)
                request->encoding = arena_strdup(request->arena, value);
        else if (strcmp(name, "grpc-timeout") == 0)
                request->timeout = arena_strdup(request->arena, value);
        else if (!g_str_has_prefix(name, "grpc-") || g_str_has_prefix(name, "grpc-trace"))
                add_metadata(request, name, value);
        return true;
}

static bool check_headers(struct h2_request *request, int64_t *ret_timeout_ns, unsigned *ret_status, GError **error)
{
        *ret_status = 400;
        if (request->n_hosts > 1)
                return error_fail(error, ERROR_INTERNAL,
                        "num values of host: %u, must only have 1 value as per HTTP/2 "
                        "spec",
                        request->n_hosts);
        if (request->content_type == NULL || !grpc_content_type_is_valid(request->content_type)) {
                g_autofree char *quoted = grpc_quote(request->content_type == NULL ? "" : request->content_type);
                *ret_status = 415;
                return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid gRPC request content-type %s", quoted);
        }
        if (request->error != NULL) {
                g_propagate_error(error, g_steal_pointer(&request->error));
                return false;
        }
        if (request->timeout != NULL && !grpc_parse_timeout(request->timeout, ret_timeout_ns, error)) {
                g_prefix_error(error, "malformed grpc-timeout: ");
                return false;
        }
        if (request->method == NULL || strcmp(request->method, "POST") != 0) {
                g_autofree char *quoted = grpc_quote(request->method == NULL ? "" : request->method);
                *ret_status = 405;
                return error_fail(
                        error, ERROR_INTERNAL, "Received a HEADERS frame with :method %s which should be POST", quoted);
        }
        *ret_status = 200;
        return true;
}

// "/package.Service/Method", cut in place.
static bool split_path(struct h2_request *request, struct rpc_incoming *incoming, GError **error)
{
        char *path = request->path == NULL ? arena_strdup(request->arena, "") : request->path;
        char *slash = path[0] == '/' ? strrchr(path + 1, '/') : NULL;
        if (slash == NULL) {
                g_autofree char *quoted = grpc_quote(path);
                return error_fail(error, ERROR_UNIMPLEMENTED, "malformed method name: %s", quoted);
        }
        *slash = '\0';
        incoming->service = path + 1;
        incoming->method = slash + 1;
        return true;
}

bool h2_request_finish(
        struct h2_request *request, struct rpc_incoming *ret_incoming, unsigned *ret_http_status, GError **error)
{
        struct rpc_incoming incoming = {.timeout_ns = -1};
        if (!check_headers(request, &incoming.timeout_ns, ret_http_status, error) ||
                !split_path(request, &incoming, error))
                return false;
        if (request->encoding != NULL && strcmp(request->encoding, "identity") != 0 && request->encoding[0] != '\0') {
                g_autofree char *quoted = grpc_quote(request->encoding);
                return error_fail(
                        error, ERROR_UNIMPLEMENTED, "grpc: Decompressor is not installed for grpc-encoding %s", quoted);
        }
        size_t n = request->metadata->len;
        char **metadata = arena_array(request->arena, char *, n + 1);
        if (n > 0)
                memcpy(metadata, request->metadata->pdata, n * sizeof *metadata);
        incoming.metadata = (const char *const *)metadata;
        incoming.arena = g_steal_pointer(&request->arena);
        *ret_incoming = incoming;
        return true;
}
