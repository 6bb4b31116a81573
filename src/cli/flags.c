// SPDX-License-Identifier: Apache-2.0
//
// Parsers of what people write after options. None of them asks the daemon or looks at what the paths name, except for
// the environment file itself: sources of mounts are the daemon's business.
#include "cli/flags.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define FLAG_ERROR g_quark_from_static_string("flag")

// ---- mounts

void mount_list_init(struct mount_list *flags)
{
        flags->mounts = g_array_new(FALSE, TRUE, sizeof(struct skiff_mount));
        flags->strings = g_ptr_array_new_with_free_func(g_free);
}

void mount_list_done(struct mount_list *flags)
{
        g_array_free(flags->mounts, TRUE);
        g_ptr_array_free(flags->strings, TRUE);
}

static const char *keep(struct mount_list *flags, char *text)
{
        g_ptr_array_add(flags->strings, text);
        return text;
}

static bool contains(const GPtrArray *options, const char *one, const char *other)
{
        for (guint i = 0; i < options->len; i++) {
                if (strcmp(options->pdata[i], one) == 0 || strcmp(options->pdata[i], other) == 0)
                        return true;
        }
        return false;
}

// A bind mount takes what is mounted below the source along, unless it says otherwise.
static void add(struct mount_list *flags, struct skiff_mount mount, GPtrArray *options)
{
        if (strcmp(mount.type, "bind") == 0 && !contains(options, "bind", "rbind"))
                g_ptr_array_insert(options, 0, g_strdup("rbind"));
        const char **texts = g_new0(const char *, options->len + 1);
        for (guint i = 0; i < options->len; i++)
                texts[i] = keep(flags, g_strdup(options->pdata[i]));
        keep(flags, (char *)texts);
        mount.options = texts;
        g_array_append_val(flags->mounts, mount);
}

static const char *absolute(struct mount_list *flags, const char *path)
{
        return keep(flags, g_canonicalize_filename(path, NULL));
}

static void split_into(GPtrArray *options, const char *text, const char *separator)
{
        g_auto(GStrv) parts = g_strsplit(text, separator, -1);
        for (size_t i = 0; parts[i] != NULL; i++) {
                if (*parts[i] != '\0')
                        g_ptr_array_add(options, g_strdup(parts[i]));
        }
}

// Runtimes hand what they do not know to the kernel, which passes it over for a bind mount: "Ro" would be writable.
static const char *unknown_option(const GPtrArray *options)
{
        static const char *const known[] = {"ro", "rw", "bind", "rbind", "private", "rprivate", "shared", "rshared",
                "slave", "rslave", "unbindable", "runbindable", "suid", "nosuid", "dev", "nodev", "exec", "noexec",
                "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
                "sync", "async", NULL};
        for (guint i = 0; i < options->len; i++) {
                if (!g_strv_contains(known, options->pdata[i]))
                        return options->pdata[i];
        }
        return NULL;
}

bool mount_list_add_volume(struct mount_list *flags, const char *text, GError **error)
{
        g_auto(GStrv) parts = g_strsplit(text, ":", 3);
        guint n = g_strv_length(parts);
        if (n < 2 || *parts[0] == '\0' || *parts[1] != '/') {
                g_set_error(error, FLAG_ERROR, 0,
                        "volume \"%s\" is not SOURCE:DESTINATION[:OPTIONS] with an absolute destination", text);
                return false;
        }
        // A bare name would be a named volume of docker's; they do not exist here, and a directory is not meant.
        if (*parts[0] != '/' && *parts[0] != '.') {
                g_set_error(error, FLAG_ERROR, 0,
                        "volume \"%s\": there are no named volumes; write a path (./%s for one of this directory)",
                        text, parts[0]);
                return false;
        }
        g_autoptr(GPtrArray) options = g_ptr_array_new_with_free_func(g_free);
        if (n == 3)
                split_into(options, parts[2], ",");
        if (unknown_option(options) != NULL) {
                g_set_error(error, FLAG_ERROR, 0,
                        "volume \"%s\": \"%s\" is no option of a bind mount; most want ro or rw", text,
                        unknown_option(options));
                return false;
        }
        struct skiff_mount mount = {
                .type = "bind",
                .source = absolute(flags, parts[0]),
                .destination = keep(flags, g_strdup(parts[1])),
        };
        add(flags, mount, options);
        return true;
}

// One KEY or KEY=VALUE of a --mount.
static bool apply_key(
        struct mount_list *flags, struct skiff_mount *mount, GPtrArray *options, const char *key, const char *value)
{
        static const char *const sources[] = {"source", "src", NULL};
        static const char *const destinations[] = {"destination", "dst", "target", NULL};
        if (g_strv_contains(sources, key) && value != NULL)
                mount->source = keep(flags, g_strdup(value));
        else if (g_strv_contains(destinations, key) && value != NULL)
                mount->destination = keep(flags, g_strdup(value));
        else if (strcmp(key, "type") == 0 && value != NULL)
                mount->type = keep(flags, g_strdup(value));
        else if (strcmp(key, "options") == 0 && value != NULL)
                split_into(options, value, ":");
        else if (strcmp(key, "readonly") == 0 || strcmp(key, "ro") == 0) {
                if (value == NULL || strcmp(value, "true") == 0 || strcmp(value, "1") == 0)
                        g_ptr_array_add(options, g_strdup("ro"));
        } else if (strcmp(key, "tmpfs-size") == 0 && value != NULL)
                g_ptr_array_add(options, g_strdup_printf("size=%s", value));
        else if (strcmp(key, "tmpfs-mode") == 0 && value != NULL)
                g_ptr_array_add(options, g_strdup_printf("mode=%s", value));
        else if (strcmp(key, "bind-propagation") == 0 && value != NULL)
                g_ptr_array_add(options, g_strdup(value));
        else
                return false;
        return true;
}

bool mount_list_add_mount(struct mount_list *flags, const char *text, GError **error)
{
        struct skiff_mount mount = {.type = "bind"};
        g_autoptr(GPtrArray) options = g_ptr_array_new_with_free_func(g_free);
        g_auto(GStrv) parts = g_strsplit(text, ",", -1);
        for (size_t i = 0; parts[i] != NULL; i++) {
                g_auto(GStrv) pair = g_strsplit(parts[i], "=", 2);
                if (pair[0] == NULL || !apply_key(flags, &mount, options, pair[0], pair[1])) {
                        g_set_error(error, FLAG_ERROR, 0,
                                "mount \"%s\": \"%s\" is none of type=, source=, destination=, readonly, options=A:B",
                                text, parts[i]);
                        return false;
                }
        }
        bool bind = strcmp(mount.type, "bind") == 0;
        if (mount.destination == NULL || *mount.destination != '/' || (bind && mount.source == NULL)) {
                g_set_error(error, FLAG_ERROR, 0, "mount \"%s\" needs %sdestination=/PATH", text,
                        bind && mount.source == NULL ? "source=PATH and " : "");
                return false;
        }
        if (bind)
                mount.source = absolute(flags, mount.source);
        add(flags, mount, options);
        return true;
}

// ---- sizes

bool parse_size(const char *text, int64_t *ret_bytes, GError **error)
{
        static const char letters[] = "kmgt";
        char *end;
        double value = g_ascii_strtod(text, &end);
        bool ok = end != text && g_ascii_isdigit(*text);
        const char *letter = *end == '\0' ? NULL : strchr(letters, g_ascii_tolower(*end));
        if (letter != NULL) {
                for (const char *l = letters; l <= letter; l++)
                        value *= 1024;
                end++;
                if (g_ascii_strcasecmp(end, "ib") == 0)
                        end += 2;
        }
        if (g_ascii_tolower(*end) == 'b')
                end++;
        if (!ok || *end != '\0' || value < 1 || value > 9e18) {
                g_set_error(error, FLAG_ERROR, 0, "\"%s\" is no size: write 64m, 1.5g or a number of bytes", text);
                return false;
        }
        *ret_bytes = (int64_t)value;
        return true;
}

// ---- environment

bool add_env(GPtrArray *variables, const char *text, GError **error)
{
        if (*text == '\0' || *text == '=') {
                g_set_error(error, FLAG_ERROR, 0, "variable \"%s\" has no name: write NAME=VALUE", text);
                return false;
        }
        const char *value = getenv(text);
        if (strchr(text, '=') != NULL)
                g_ptr_array_add(variables, g_strdup(text));
        else if (value != NULL)
                g_ptr_array_add(variables, g_strdup_printf("%s=%s", text, value));
        return true;
}

bool read_env_file(const char *path, GPtrArray *variables, GError **error)
{
        g_autofree char *text = NULL;
        if (!g_file_get_contents(path, &text, NULL, error))
                return false;
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        for (size_t i = 0; lines[i] != NULL; i++) {
                char *line = lines[i];
                g_strchug(line);
                if (g_str_has_suffix(line, "\r"))
                        line[strlen(line) - 1] = '\0';
                if (*line == '\0' || *line == '#')
                        continue;
                if (!add_env(variables, line, error)) {
                        g_prefix_error(error, "%s:%zu: ", path, i + 1);
                        return false;
                }
        }
        return true;
}

// ---- signals

int parse_signal(const char *text)
{
        char *end;
        long number = strtol(text, &end, 10);
        if (end != text && *end == '\0')
                return number > 0 && number <= SIGRTMAX ? (int)number : 0;
        const char *name = g_ascii_strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
        for (int i = 1; i < SIGRTMIN; i++) {
                const char *known = sigabbrev_np(i);
                if (known != NULL && g_ascii_strcasecmp(known, name) == 0)
                        return i;
        }
        return 0;
}
