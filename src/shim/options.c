// SPDX-License-Identifier: Apache-2.0
//
// The JSON is that of Go's encoder: what has its default is left out.
#include "shim/options.h"

#include "base/error.h"
#include "codec/json_scan.h"

#include <string.h>

#define DEFAULT_RUNTIME_ROOT "/run/containerd/runc"

bool any_is(const Google__Protobuf__Any *any, const ProtobufCMessageDescriptor *descriptor)
{
        if (any == NULL)
                return false;
        const char *slash = strrchr(any->type_url, '/');
        return strcmp(slash != NULL ? slash + 1 : any->type_url, descriptor->name) == 0;
}

Runc__Options *options_from_any(const Google__Protobuf__Any *any, GError **error)
{
        bool ours = any_is(any, &runc__options__descriptor);
        Runc__Options *options =
                runc__options__unpack(NULL, ours ? any->value.len : 0, ours ? any->value.data : (const uint8_t *)"");
        if (options == NULL)
                error_fail(error, ERROR_INVALID_ARGUMENT, "runc options cannot be parsed");
        return options;
}

static void append(GString *json, const char *key)
{
        if (json->len > 1)
                g_string_append_c(json, ',');
        g_string_append_printf(json, "\"%s\":", key);
}

static void append_text(GString *json, const char *key, const char *value)
{
        if (*value == '\0')
                return;
        append(json, key);
        json_append_string(json, value);
}

static void append_flag(GString *json, const char *key, bool value)
{
        if (!value)
                return;
        append(json, key);
        g_string_append(json, "true");
}

static void append_number(GString *json, const char *key, unsigned value)
{
        if (value == 0)
                return;
        append(json, key);
        g_string_append_printf(json, "%u", value);
}

char *options_to_json(const Runc__Options *options)
{
        GString *json = g_string_new("{");
        append_flag(json, "no_pivot_root", options->no_pivot_root);
        append_flag(json, "no_new_keyring", options->no_new_keyring);
        append_text(json, "shim_cgroup", options->shim_cgroup);
        append_number(json, "io_uid", options->io_uid);
        append_number(json, "io_gid", options->io_gid);
        append_text(json, "binary_name", options->binary_name);
        append_text(json, "root", options->root);
        append_flag(json, "systemd_cgroup", options->systemd_cgroup);
        append_text(json, "criu_image_path", options->criu_image_path);
        append_text(json, "criu_work_path", options->criu_work_path);
        append_text(json, "task_api_address", options->task_api_address);
        append_number(json, "task_api_version", options->task_api_version);
        g_string_append_c(json, '}');
        return g_string_free(json, FALSE);
}

void options_from_json(const char *text, struct options_kept *ret_kept)
{
        *ret_kept = (struct options_kept){0};
        struct json_span object;
        if (text == NULL || !json_scan_document(text, strlen(text), &object))
                return;
        ret_kept->root = json_span_string(json_member(object, "root"));
        ret_kept->systemd_cgroup = json_span_is(json_member(object, "systemd_cgroup"), "true");
}

char *options_runtime_root(const char *root, const char *namespace_)
{
        bool given = root != NULL && *root != '\0';
        return g_strdup_printf("%s/%s", given ? root : DEFAULT_RUNTIME_ROOT, namespace_);
}
