// SPDX-License-Identifier: Apache-2.0
//
// A host's directory is DIR/HOST_PORT_, DIR/HOST:PORT or DIR/_default. Its hosts.toml lists mirrors in the order of the
// file and, last, the server itself; without one, *.crt, *.cert and *.key in the directory count for the server. What
// the files say of a server that they do not name is filled in with the defaults: https, or for this machine http as
// well, which is tried after https wherever the port does not tell.
#include "plugins/transfer/hosts.h"

#include "base/clock.h"
#include "base/log.h"
#include "codec/toml.h"

#include <stdio.h>
#include <string.h>

#define MAX_FILE_BYTES (4 * 1024 * 1024)
#define MAX_HOSTS 64
#define MAX_TIMEOUT_MS (24 * 3600 * 1000)

struct list {
        Fetch__Host *items[MAX_HOSTS];
        size_t n;
};

// ---- files

static bool read_file(const char *path, struct arena *arena, ProtobufCBinaryData *ret, GError **error)
{
        g_autofree char *content = NULL;
        gsize n_bytes;
        g_autoptr(GError) failure = NULL;
        if (!g_file_get_contents(path, &content, &n_bytes, &failure))
                return error_fail(error, ERROR_UNKNOWN, "unable to read CA cert \"%s\": %s", path, failure->message);
        if (n_bytes > MAX_FILE_BYTES)
                return error_fail(error, ERROR_RESOURCE_EXHAUSTED, "%s is too long", path);
        // Several files for one purpose are put together.
        uint8_t *joined = arena_alloc(arena, ret->len + n_bytes + 1);
        if (ret->len > 0)
                memcpy(joined, ret->data, ret->len);
        memcpy(joined + ret->len, content, n_bytes);
        joined[ret->len + n_bytes] = '\n';
        *ret = (ProtobufCBinaryData){ret->len + n_bytes + 1, joined};
        return true;
}

static bool read_below(
        const char *directory, const char *name, struct arena *arena, ProtobufCBinaryData *ret, GError **error)
{
        g_autofree char *path = g_path_is_absolute(name) ? g_strdup(name) : g_build_filename(directory, name, NULL);
        return read_file(path, arena, ret, error);
}

static char *host_directory(const char *root, const char *host)
{
        g_autofree char *underscored = NULL;
        const char *colon = strrchr(host, ':');
        if (colon != NULL && colon > host)
                underscored = g_strdup_printf("%.*s_%s_", (int)(colon - host), host, colon + 1);
        const char *names[] = {underscored != NULL ? underscored : host, host, "_default"};
        g_auto(GStrv) roots = g_strsplit(root, ":", -1);
        for (size_t i = 0; roots[i] != NULL; i++) {
                for (size_t j = 0; roots[i][0] != '\0' && j < G_N_ELEMENTS(names); j++) {
                        g_autofree char *path = g_build_filename(roots[i], names[j], NULL);
                        if (g_file_test(path, G_FILE_TEST_EXISTS))
                                return g_steal_pointer(&path);
                }
        }
        return NULL;
}

// ---- hosts.toml

static Fetch__Host *host_new(struct arena *arena)
{
        Fetch__Host *host = arena_new0(arena, Fetch__Host);
        fetch__host__init(host);
        return host;
}

static bool set_server(Fetch__Host *host, const char *server, bool override_path, struct arena *arena, GError **error)
{
        const char *url = g_str_has_prefix(server, "http") ? server : arena_printf(arena, "https://%s", server);
        const char *rest = strstr(url, "://");
        if (rest == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "unable to parse server %s", server);
        size_t n_host = strcspn(rest + 3, "/?#");
        host->scheme = arena_printf(arena, "%.*s", (int)(rest - url), url);
        host->host = arena_printf(arena, "%.*s", (int)n_host, rest + 3);
        char *path = arena_strdup(arena, rest + 3 + n_host);
        while (path[0] != '\0' && path[strlen(path) - 1] == '/')
                path[strlen(path) - 1] = '\0';
        host->path = override_path || g_str_has_suffix(path, "/v2") ? path : arena_printf(arena, "%s/v2", path);
        return true;
}

static bool set_capabilities(Fetch__Host *host, const json_t *list, GError **error)
{
        host->pull = host->resolve = host->push = json_array_size(list) == 0;
        for (size_t i = 0; i < json_array_size(list); i++) {
                const char *name = json_string_value(json_array_get(list, i));
                if (name != NULL && g_ascii_strcasecmp(name, "pull") == 0)
                        host->pull = true;
                else if (name != NULL && g_ascii_strcasecmp(name, "resolve") == 0)
                        host->resolve = true;
                else if (name != NULL && g_ascii_strcasecmp(name, "push") == 0)
                        host->push = true;
                else if (name == NULL || g_ascii_strcasecmp(name, "referrers") != 0)
                        return error_fail(
                                error, ERROR_INVALID_ARGUMENT, "unknown capability %s", name != NULL ? name : "");
        }
        return true;
}

// One name or a list of them.
static bool set_ca(Fetch__Host *host, const json_t *value, const char *directory, struct arena *arena, GError **error)
{
        if (json_is_string(value))
                return read_below(directory, json_string_value(value), arena, &host->ca, error);
        for (size_t i = 0; i < json_array_size(value); i++) {
                const char *name = json_string_value(json_array_get(value, i));
                if (name == NULL)
                        return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid type for \"ca\"");
                if (!read_below(directory, name, arena, &host->ca, error))
                        return false;
        }
        return true;
}

// A file with both, a list of those, or a list of pairs. curl takes one: the first.
static bool set_client(
        Fetch__Host *host, const json_t *value, const char *directory, struct arena *arena, GError **error)
{
        const json_t *first = json_is_array(value) ? json_array_get(value, 0) : value;
        const char *certificate = json_string_value(json_is_array(first) ? json_array_get(first, 0) : first);
        const char *key = json_is_array(first) ? json_string_value(json_array_get(first, 1)) : NULL;
        if (certificate == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid type for \"client\"");
        return read_below(directory, certificate, arena, &host->client_certificate, error) &&
               (key == NULL || key[0] == '\0' || read_below(directory, key, arena, &host->client_key, error));
}

static bool add_header(GPtrArray *headers, const char *name, const json_t *value, struct arena *arena, GError **error)
{
        const char *text = json_string_value(value);
        if (text == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid type for header \"%s\"", name);
        Fetch__Header *header = arena_new0(arena, Fetch__Header);
        fetch__header__init(header);
        header->name = arena_strdup(arena, name);
        header->value = arena_strdup(arena, text);
        g_ptr_array_add(headers, header);
        return true;
}

static bool set_headers(Fetch__Host *host, json_t *table, struct arena *arena, GError **error)
{
        g_autoptr(GPtrArray) headers = g_ptr_array_new();
        const char *name;
        json_t *value;
        json_object_foreach (table, name, value) {
                size_t n = json_is_array(value) ? json_array_size(value) : 1;
                for (size_t i = 0; i < n; i++)
                        if (!add_header(headers, name, json_is_array(value) ? json_array_get(value, i) : value, arena,
                                    error))
                                return false;
        }
        host->headers = arena_array(arena, Fetch__Header *, headers->len + 1);
        for (size_t i = 0; i < headers->len; i++)
                host->headers[host->n_headers++] = headers->pdata[i];
        return true;
}

static bool set_timeout(Fetch__Host *host, const char *text, GError **error)
{
        int64_t ns;
        if (!clock_parse_duration(text, &ns) || ns < 0)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "time: invalid duration \"%s\"", text);
        host->connect_timeout_ms = (uint32_t)CLAMP(ns / NS_PER_MS, ns > 0, MAX_TIMEOUT_MS);
        return true;
}

struct parsed {
        Fetch__Host *host;
        bool tls_configured;
};

static bool parse_host(const char *server, json_t *table, const char *directory, struct arena *arena,
        struct parsed *parsed, GError **error)
{
        Fetch__Host *host = parsed->host = host_new(arena);
        const json_t *ca = json_object_get(table, "ca"), *client = json_object_get(table, "client"),
                     *skip = json_object_get(table, "skip_verify"), *timeout = json_object_get(table, "dial_timeout");
        parsed->tls_configured = ca != NULL || client != NULL || skip != NULL;
        host->skip_verify = json_is_true(skip);
        return (server == NULL ||
                       set_server(host, server, json_is_true(json_object_get(table, "override_path")), arena, error)) &&
               set_capabilities(host, json_object_get(table, "capabilities"), error) &&
               (ca == NULL || set_ca(host, ca, directory, arena, error)) &&
               (client == NULL || set_client(host, client, directory, arena, error)) &&
               set_headers(host, json_object_get(table, "header"), arena, error) &&
               (timeout == NULL || !json_is_string(timeout) || set_timeout(host, json_string_value(timeout), error));
}

// http with TLS settings, on a port that does not tell: https first.
static void decide_scheme(struct parsed *parsed, struct arena *arena)
{
        Fetch__Host *host = parsed->host;
        if (!parsed->tls_configured || strcmp(host->scheme, "http") != 0 || g_str_has_suffix(host->host, ":80"))
                return;
        host->scheme = arena_strdup(arena, "https");
        host->http_fallback = true;
}

static bool is_this_machine(const char *host)
{
        g_autofree char *name = g_strdup(host);
        char *colon = strrchr(name, ':');
        if (name[0] == '[') {
                return g_str_has_prefix(name, "[::1]");
        }
        if (colon != NULL)
                *colon = '\0';
        unsigned a, b, c, d;
        char rest;
        bool loopback = sscanf(name, "%u.%u.%u.%u%c", &a, &b, &c, &d, &rest) == 4 && a == 127;
        return loopback || strcmp(name, "localhost") == 0 || strcmp(name, "::1") == 0;
}

// The server that the files did not name: the one of the reference.
static void fill_in_server(struct parsed *parsed, const struct hosts_request *request, struct arena *arena)
{
        Fetch__Host *host = parsed->host;
        const char *colon = strrchr(request->host, ':');
        const char *port = colon != NULL && strchr(colon, ']') == NULL ? colon + 1 : "";
        host->host = arena_strdup(arena, request->host);
        host->scheme = arena_strdup(arena, request->default_scheme[0] != '\0' ? request->default_scheme : "https");
        host->path = (char *)"/v2";
        host->pull = host->resolve = host->push = true;
        if (strcmp(request->host, "docker.io") == 0) {
                host->host = (char *)"registry-1.docker.io";
                host->scheme = (char *)"https";
        } else if (is_this_machine(request->host) && request->default_scheme[0] == '\0') {
                host->scheme = (char *)(port[0] == '\0' || strcmp(port, "443") == 0 ? "https" : "http");
                if (strcmp(port, "80") != 0) {
                        host->skip_verify = true;
                        parsed->tls_configured = true;
                }
        }
}

static bool add(struct list *list, Fetch__Host *host, GError **error)
{
        if (list->n == MAX_HOSTS)
                return error_fail(error, ERROR_RESOURCE_EXHAUSTED, "more than %d hosts", MAX_HOSTS);
        list->items[list->n++] = host;
        return true;
}

static bool add_mirrors(struct list *list, json_t *root, const char *directory, struct arena *arena, GError **error)
{
        const char *server;
        json_t *table;
        json_object_foreach (json_object_get(root, "host"), server, table) {
                struct parsed parsed;
                if (!parse_host(server, table, directory, arena, &parsed, error))
                        return false;
                decide_scheme(&parsed, arena);
                if (!add(list, parsed.host, error))
                        return false;
        }
        return true;
}

static bool parse_file(struct list *list, const char *directory, const struct hosts_request *request,
        struct arena *arena, bool *ret_found, GError **error)
{
        g_autofree char *path = g_build_filename(directory, "hosts.toml", NULL);
        g_autofree char *text = NULL;
        gsize n_text;
        if (!g_file_get_contents(path, &text, &n_text, NULL) || n_text == 0)
                return true;
        json_t *root = toml_parse(text, n_text, path, error);
        if (root == NULL)
                return false;
        struct parsed last;
        const char *server = json_string_value(json_object_get(root, "server"));
        bool good = add_mirrors(list, root, directory, arena, error) &&
                    parse_host(server, root, directory, arena, &last, error);
        if (good && server == NULL)
                fill_in_server(&last, request, arena);
        if (good)
                decide_scheme(&last, arena);
        good = good && add(list, last.host, error);
        *ret_found = good;
        json_decref(root);
        return good;
}

// Docker's layout: NAME.crt are CA certificates, NAME.cert and NAME.key a client's.
static bool load_certificates(struct parsed *parsed, const char *directory, struct arena *arena, GError **error)
{
        g_autoptr(GDir) entries = g_dir_open(directory, 0, NULL);
        const char *name;
        Fetch__Host *host = parsed->host;
        while (entries != NULL && (name = g_dir_read_name(entries)) != NULL) {
                bool good = true;
                if (g_str_has_suffix(name, ".crt"))
                        good = read_below(directory, name, arena, &host->ca, error);
                else if (g_str_has_suffix(name, ".cert") && host->client_certificate.len == 0) {
                        good = read_below(directory, name, arena, &host->client_certificate, error);
                        g_autofree char *key = g_strdup_printf("%.*s.key", (int)strlen(name) - 5, name);
                        g_autofree char *path = g_build_filename(directory, key, NULL);
                        if (good && g_file_test(path, G_FILE_TEST_EXISTS))
                                good = read_file(path, arena, &host->client_key, error);
                }
                if (!good)
                        return false;
                parsed->tls_configured |= host->ca.len > 0 || host->client_certificate.len > 0;
        }
        return true;
}

bool hosts_configure(const struct hosts_request *request, Fetch__Setup *setup, struct arena *arena, GError **error)
{
        struct list list = {.n = 0};
        g_autofree char *directory = host_directory(request->directory, request->host);
        bool found = false;
        if (directory != NULL) {
                g_autoptr(GError) failure = NULL;
                if (!parse_file(&list, directory, request, arena, &found, &failure)) {
                        log_error("failed to decode hosts.toml", "directory", directory, "error", failure->message);
                        list.n = 0;
                }
        }
        if (!found) {
                struct parsed parsed = {.host = host_new(arena)};
                if (directory != NULL && !load_certificates(&parsed, directory, arena, error))
                        return false;
                fill_in_server(&parsed, request, arena);
                decide_scheme(&parsed, arena);
                add(&list, parsed.host, NULL);
        }
        setup->hosts = arena_array(arena, Fetch__Host *, list.n);
        memcpy(setup->hosts, list.items, list.n * sizeof(Fetch__Host *));
        setup->n_hosts = list.n;
        return true;
}
