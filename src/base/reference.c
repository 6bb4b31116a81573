// SPDX-License-Identifier: Apache-2.0
//
// Two grammars live here. containerd's is that of a URL without a scheme: everything up to the first slash is the host,
// the path ends at the first ":" or "@". Docker's (the distribution project's reference grammar) is stricter in its
// characters and fills in a registry, "library/" and "latest". The trap: "name:5000" is a tag for docker and a host
// with a port for containerd.
#include "base/reference.h"

#include "base/digest.h"
#include "base/error.h"

#include <string.h>

#define DOCKER_DOMAIN "docker.io"
#define DOCKER_LEGACY_DOMAIN "index.docker.io"
#define DOCKER_LIBRARY "library/"
#define DOCKER_NAME_MAX 255
#define DOCKER_TAG_MAX 128

static bool invalid(GError **error)
{
        return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid reference");
}

// ---- containerd's grammar

static bool host_valid(const char *host, const char *text, GError **error)
{
        const char *port = strrchr(host, ':');
        if (host[0] == '[') {
                const char *end = strchr(host, ']');
                if (end == NULL || (end[1] != '\0' && end[1] != ':'))
                        return invalid(error);
                port = end[1] == ':' ? end + 1 : NULL;
        }
        if (port != NULL && strspn(port + 1, "0123456789") != strlen(port + 1))
                return error_fail(error, ERROR_INVALID_ARGUMENT, "parse \"dummy://%s\": invalid port \"%s\" after host",
                        text, port);
        for (const char *c = host; *c != '\0'; c++)
                if (!g_ascii_isalnum(*c) && strchr("-._:[]", *c) == NULL && (unsigned char)*c < 0x80)
                        return invalid(error);
        return true;
}

// Drops empty and "." components, as joining paths does; ".." would leave the repository.
static char *path_clean(const char *path, GError **error)
{
        g_auto(GStrv) components = g_strsplit(path, "/", -1);
        g_autoptr(GString) clean = g_string_new(NULL);
        for (size_t i = 0; components[i] != NULL; i++) {
                if (components[i][0] == '\0' || strcmp(components[i], ".") == 0)
                        continue;
                if (strcmp(components[i], "..") == 0) {
                        invalid(error);
                        return NULL;
                }
                g_string_append_printf(clean, "%s%s", clean->len > 0 ? "/" : "", components[i]);
        }
        return g_string_free(g_steal_pointer(&clean), FALSE);
}

bool reference_parse(const char *text, struct reference *ret_reference, GError **error)
{
        if (strstr(text, "://") != NULL || strpbrk(text, "?#% \t\r\n\v\f\177\\\"<>^`{|}") != NULL)
                return invalid(error);
        for (const char *c = text; *c != '\0'; c++)
                if ((unsigned char)*c < 0x20)
                        return invalid(error);

        size_t n_host = strcspn(text, "/");
        g_autofree char *host = g_strndup(text, n_host);
        if (host[0] == '\0')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "hostname required");
        if (!host_valid(host, text, error))
                return false;

        const char *path = text + n_host;
        size_t n_path = strcspn(path, ":@");
        const char *object = path + n_path;
        if (*object == ':')
                object++;
        g_autofree char *raw = g_strndup(path, n_path);
        g_autofree char *repository = path_clean(raw, error);
        if (repository == NULL)
                return false;
        *ret_reference = (struct reference){
                .host = g_steal_pointer(&host),
                .repository = g_steal_pointer(&repository),
                .object = g_strdup(object),
        };
        return true;
}

void reference_done(struct reference *reference)
{
        g_free(reference->host);
        g_free(reference->repository);
        g_free(reference->object);
        *reference = (struct reference){0};
}

const char *reference_digest(const struct reference *reference)
{
        const char *at = strchr(reference->object, '@');
        return at != NULL ? at + 1 : NULL;
}

char *reference_oci_name(const char *text)
{
        struct reference reference;
        if (!reference_parse(text, &reference, NULL))
                return g_strdup(text);
        bool tagged = reference.object[0] != '\0' && reference.object[0] != '@';
        char *name = g_strdup(tagged ? reference.object : text);
        reference_done(&reference);
        return name;
}

// ---- docker's grammar

struct docker_name {
        char *domain, *path, *tag, *digest; // the last two may be NULL
};

static void docker_name_done(struct docker_name *name)
{
        g_free(name->domain);
        g_free(name->path);
        g_free(name->tag);
        g_free(name->digest);
}

static bool lower_alnum(char c)
{
        return g_ascii_islower(c) || g_ascii_isdigit(c);
}

// Runs of lower-case letters and digits, joined by ".", "_", "__" or any number of "-".
static bool path_component_valid(const char *text, size_t n)
{
        size_t i = 0;
        for (;;) {
                size_t start = i;
                while (i < n && lower_alnum(text[i]))
                        i++;
                if (i == start)
                        return false;
                if (i == n)
                        return true;
                if (text[i] == '-') {
                        while (i < n && text[i] == '-')
                                i++;
                } else if (text[i] == '_') {
                        i += i + 1 < n && text[i + 1] == '_' ? 2 : 1;
                } else if (text[i] == '.') {
                        i++;
                } else {
                        return false;
                }
        }
}

static bool docker_path_valid(const char *path)
{
        for (;;) {
                size_t n = strcspn(path, "/");
                if (!path_component_valid(path, n))
                        return false;
                if (path[n] == '\0')
                        return true;
                path += n + 1;
        }
}

static bool domain_valid(const char *domain)
{
        const char *port = NULL;
        size_t n = strlen(domain);
        if (domain[0] == '[') {
                const char *end = strchr(domain, ']');
                if (end == NULL || strspn(domain + 1, "0123456789abcdefABCDEF:") != (size_t)(end - domain - 1))
                        return false;
                port = end[1] == '\0' ? NULL : end + 1;
        } else {
                n = strcspn(domain, ":");
                port = domain[n] == ':' ? domain + n : NULL;
                for (size_t i = 0; i < n; i++) {
                        bool edge = i == 0 || i + 1 == n || domain[i - 1] == '.' || domain[i + 1] == '.';
                        bool alnum = g_ascii_isalnum(domain[i]);
                        if (!alnum && (edge || (domain[i] != '-' && domain[i] != '.')))
                                return false;
                }
        }
        if (n == 0)
                return false;
        return port == NULL ||
               (port[0] == ':' && port[1] != '\0' && strspn(port + 1, "0123456789") == strlen(port + 1));
}

static bool tag_valid(const char *tag)
{
        size_t n = strlen(tag);
        if (n == 0 || n > DOCKER_TAG_MAX || (!g_ascii_isalnum(tag[0]) && tag[0] != '_'))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!g_ascii_isalnum(tag[i]) && strchr("_.-", tag[i]) == NULL)
                        return false;
        return true;
}

static bool bad_format(GError **error)
{
        return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid reference format");
}

// The part before the first slash is a registry if it looks like a host.
static void split_domain(const char *name, char **ret_domain, char **ret_remainder)
{
        size_t n = strcspn(name, "/");
        g_autofree char *first = g_strndup(name, n);
        g_autofree char *lower = g_ascii_strdown(first, -1);
        bool is_domain = name[n] == '/' &&
                         (strpbrk(first, ".:") != NULL || strcmp(first, "localhost") == 0 || strcmp(lower, first) != 0);
        const char *remainder = is_domain ? name + n + 1 : name;
        const char *domain = is_domain ? first : DOCKER_DOMAIN;
        if (strcmp(domain, DOCKER_LEGACY_DOMAIN) == 0)
                domain = DOCKER_DOMAIN;
        bool official = strcmp(domain, DOCKER_DOMAIN) == 0 && strchr(remainder, '/') == NULL;
        *ret_domain = g_strdup(domain);
        *ret_remainder = g_strconcat(official ? DOCKER_LIBRARY : "", remainder, NULL);
}

static bool is_identifier(const char *text)
{
        return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

static bool docker_parse(const char *text, struct docker_name *ret_name, GError **error)
{
        if (text[0] == '\0')
                return bad_format(error);
        if (is_identifier(text))
                return error_fail(error, ERROR_INVALID_ARGUMENT,
                        "invalid repository name (%s), cannot specify 64-byte hexadecimal strings", text);
        g_autofree char *domain = NULL, *remainder = NULL;
        split_domain(text, &domain, &remainder);

        const char *at = strchr(remainder, '@');
        g_autofree char *digest = at != NULL ? g_strdup(at + 1) : NULL;
        g_autofree char *named = at != NULL ? g_strndup(remainder, (size_t)(at - remainder)) : g_strdup(remainder);
        char *colon = strrchr(named, ':');
        g_autofree char *tag = colon != NULL ? g_strdup(colon + 1) : NULL;
        if (colon != NULL)
                *colon = '\0';

        for (const char *c = named; *c != '\0'; c++)
                if (g_ascii_isupper(*c))
                        return error_fail(error, ERROR_INVALID_ARGUMENT,
                                "invalid reference format: repository name (%s) must be lowercase", named);
        if (!domain_valid(domain) || !docker_path_valid(named) || (tag != NULL && !tag_valid(tag)))
                return bad_format(error);
        if (digest != NULL && !digest_parse(digest, NULL, NULL))
                return bad_format(error);
        if (strlen(domain) + 1 + strlen(named) > DOCKER_NAME_MAX)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "repository name must not be more than %d characters",
                        DOCKER_NAME_MAX);
        *ret_name = (struct docker_name){
                g_steal_pointer(&domain), g_steal_pointer(&named), g_steal_pointer(&tag), g_steal_pointer(&digest)};
        return true;
}

char *reference_normalize(const char *text, GError **error)
{
        struct docker_name name;
        if (!docker_parse(text, &name, error))
                return NULL;
        char *full;
        if (name.digest != NULL)
                full = g_strdup_printf("%s/%s@%s", name.domain, name.path, name.digest);
        else
                full = g_strdup_printf("%s/%s:%s", name.domain, name.path, name.tag != NULL ? name.tag : "latest");
        docker_name_done(&name);
        return full;
}

char *reference_familiar(const char *text, GError **error)
{
        struct docker_name name;
        if (!docker_parse(text, &name, error)) {
                g_prefix_error(error, "failed to parse \"%s\": ", text);
                return NULL;
        }
        g_autoptr(GString) familiar = g_string_new(NULL);
        const char *path = name.path;
        if (strcmp(name.domain, DOCKER_DOMAIN) == 0) {
                if (g_str_has_prefix(path, DOCKER_LIBRARY) && strchr(path + strlen(DOCKER_LIBRARY), '/') == NULL)
                        path += strlen(DOCKER_LIBRARY);
        } else {
                g_string_append_printf(familiar, "%s/", name.domain);
        }
        g_string_append(familiar, path);
        if (name.tag != NULL || name.digest == NULL)
                g_string_append_printf(familiar, ":%s", name.tag != NULL ? name.tag : "latest");
        if (name.digest != NULL)
                g_string_append_printf(familiar, "@%s", name.digest);
        docker_name_done(&name);
        return g_string_free(g_steal_pointer(&familiar), FALSE);
}
