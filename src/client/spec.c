// SPDX-License-Identifier: Apache-2.0
//
// The specification as a whole, and its process. The version that is written is the oldest that has all we use, so that
// every OCI runtime of the last years takes it.
#include "client/spec_internal.h"

#include <stdlib.h>
#include <string.h>

static const char oci_version[] = "1.0.2";
static const char *const default_path[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        NULL,
};
static const struct image_config no_image = {
        .env = default_path,
        .entrypoint = (const char *const[]){NULL},
        .cmd = (const char *const[]){NULL},
};

// ---- environment

json_t *spec_texts(const char *const *texts)
{
        json_t *array = json_array();
        for (size_t i = 0; texts != NULL && texts[i] != NULL; i++)
                json_array_append_new(array, json_stringn_nocheck(texts[i], strlen(texts[i])));
        return array;
}

static size_t find_variable(const GPtrArray *variables, const char *name, size_t n)
{
        for (guint i = 0; i < variables->len; i++) {
                const char *variable = variables->pdata[i];
                if (strncmp(variable, name, n) == 0 && variable[n] == '=')
                        return i;
        }
        return variables->len;
}

json_t *spec_environment(const char *const *base, const char *const *changes)
{
        g_autoptr(GPtrArray) variables = g_ptr_array_new();
        for (size_t i = 0; base[i] != NULL; i++)
                g_ptr_array_add(variables, (char *)base[i]);
        for (size_t i = 0; changes != NULL && changes[i] != NULL; i++) {
                const char *equals = strchr(changes[i], '=');
                size_t n = equals != NULL ? (size_t)(equals - changes[i]) : strlen(changes[i]);
                size_t at = find_variable(variables, changes[i], n);
                if (equals == NULL && at < variables->len)
                        g_ptr_array_remove_index(variables, (guint)at);
                else if (equals != NULL && at < variables->len)
                        variables->pdata[at] = (char *)changes[i];
                else if (equals != NULL)
                        g_ptr_array_add(variables, (char *)changes[i]);
        }
        g_ptr_array_add(variables, NULL);
        return spec_texts((const char *const *)variables->pdata);
}

// ---- process

// The entrypoint of the options or the image, then the arguments; the image's command only where neither is given.
static json_t *process_args(const struct skiff_spec_options *options, const struct image_config *image, GError **error)
{
        json_t *args = json_array();
        if (options->entrypoint == NULL) {
                json_t *entrypoint = spec_texts(image->entrypoint);
                json_array_extend(args, entrypoint);
                json_decref(entrypoint);
        } else if (*options->entrypoint != '\0') {
                json_array_append_new(args, json_stringn_nocheck(options->entrypoint, strlen(options->entrypoint)));
        }
        bool given = options->args != NULL && options->args[0] != NULL;
        json_t *more = spec_texts(given ? options->args : options->entrypoint == NULL ? image->cmd : NULL);
        json_array_extend(args, more);
        json_decref(more);
        if (json_array_size(args) == 0) {
                json_decref(args);
                error_fail(error, ERROR_INVALID_ARGUMENT, "no command given, and the image has none");
                return NULL;
        }
        return args;
}

static json_t *process_environment(const struct skiff_spec_options *options, const struct image_config *image)
{
        const char *const *base = image->env[0] != NULL ? image->env : default_path;
        json_t *environment = spec_environment(base, options->env);
        if (options->terminal) {
                const char *const term[] = {"TERM=xterm", NULL};
                size_t i;
                json_t *variable;
                json_array_foreach (environment, i, variable) {
                        if (g_str_has_prefix(json_string_value(variable), "TERM="))
                                return environment;
                }
                json_t *more = spec_texts(term);
                json_array_extend(environment, more);
                json_decref(more);
        }
        return environment;
}

json_t *spec_user(const struct user_ids *user)
{
        json_t *groups = json_array();
        for (guint i = 0; i < user->groups->len; i++)
                json_array_append_new(groups, json_integer(g_array_index(user->groups, uint32_t, i)));
        return json_pack("{s:I, s:I, s:o}", "uid", (json_int_t)user->uid, "gid", (json_int_t)user->gid,
                "additionalGids", groups);
}

void spec_set_console_size(json_t *process, uint32_t columns, uint32_t rows)
{
        if (columns > 0 && rows > 0)
                json_object_set_new(process, "consoleSize",
                        json_pack("{s:I, s:I}", "height", (json_int_t)rows, "width", (json_int_t)columns));
}

json_t *spec_process(const struct spec_input *input, GError **error)
{
        const struct skiff_spec_options *options = input->options;
        const struct image_config *image = input->image != NULL ? input->image : &no_image;
        const char *cwd = options->cwd != NULL ? options->cwd : image->cwd != NULL ? image->cwd : "/";
        if (*cwd != '/') {
                error_fail(error, ERROR_INVALID_ARGUMENT, "working directory \"%s\" is not absolute", cwd);
                return NULL;
        }
        json_t *args = process_args(options, image, error);
        if (args == NULL)
                return NULL;
        json_t *capabilities = spec_capabilities(options->privileged, options->cap_add, options->cap_drop, error);
        if (capabilities == NULL) {
                json_decref(args);
                return NULL;
        }
        json_t *process = json_pack("{s:b, s:o, s:o, s:o, s:s, s:o, s:[{s:s, s:i, s:i}], s:b}", "terminal",
                options->terminal, "user", spec_user(input->user), "args", args, "env",
                process_environment(options, image), "cwd", cwd, "capabilities", capabilities, "rlimits", "type",
                "RLIMIT_NOFILE", "hard", 1024, "soft", 1024, "noNewPrivileges", !options->privileged);
        if (process != NULL && options->terminal)
                spec_set_console_size(process, options->columns, options->rows);
        return process;
}

// ---- the whole

static json_t *annotations(const struct skiff_spec_options *options)
{
        json_t *object = json_object();
        for (size_t i = 0; i < options->n_annotations; i++)
                json_object_set_new(object, options->annotations[i].key, json_string(options->annotations[i].value));
        return object;
}

char *spec_make(const struct spec_input *input, GError **error)
{
        const struct skiff_spec_options *options = input->options;
        json_t *process = spec_process(input, error);
        json_t *mounts = process == NULL ? NULL : spec_mounts(options, error);
        json_t *linux_part = mounts == NULL ? NULL : spec_linux(input, error);
        if (linux_part == NULL) {
                json_decref(process);
                json_decref(mounts);
                return NULL;
        }
        json_t *spec = json_pack("{s:s, s:o, s:{s:s, s:b}, s:o, s:o}", "ociVersion", oci_version, "process", process,
                "root", "path", "rootfs", "readonly", options->read_only, "mounts", mounts, "linux", linux_part);
        if (spec == NULL) {
                // jansson takes strings in UTF-8 alone.
                error_fail(error, ERROR_INVALID_ARGUMENT, "an argument, path or variable is not UTF-8");
                return NULL;
        }
        if (options->hostname != NULL)
                json_object_set_new(spec, "hostname", json_string(options->hostname));
        if (options->n_annotations > 0)
                json_object_set_new(spec, "annotations", annotations(options));
        char *dumped = json_dumps(spec, JSON_COMPACT);
        json_decref(spec);
        if (dumped == NULL)
                error_fail(error, ERROR_INVALID_ARGUMENT, "an argument, path or variable is not UTF-8");
        char *text = g_strdup(dumped);
        free(dumped);
        return text;
}

char *skiff_spec_generate(
        const char *name_space, const char *id, const struct skiff_spec_options *options, struct skiff_error **error)
{
        static const struct skiff_spec_options defaults;
        struct user_ids user;
        if (options == NULL)
                options = &defaults;
        if (!user_resolve(NULL, options->user, &user, inner(error)))
                return NULL;
        struct spec_input input = {.name_space = name_space, .id = id, .options = options, .user = &user};
        g_autofree char *text = spec_make(&input, inner(error));
        user_ids_done(&user);
        return text == NULL ? NULL : client_strdup_c(text);
}
