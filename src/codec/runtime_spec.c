// SPDX-License-Identifier: Apache-2.0
//
// Specs are written by clients of the root socket, so they are trusted to be sane; what is checked here is only that
// there is an object to change. The OCI runtime parses the whole.
#include "codec/runtime_spec.h"

#include "base/error.h"
#include "codec/json_scan.h"

#include <stdio.h>
#include <string.h>

static bool scan_object(const char *text, size_t n, struct json_span *ret_object)
{
        return json_scan_document(text, n, ret_object) && *ret_object->text == '{';
}

bool runtime_spec_check(const char *text, size_t n, GError **error)
{
        struct json_span object;
        return scan_object(text, n, &object) || error_fail(error, ERROR_INVALID_ARGUMENT, "spec is not a JSON object");
}

char *runtime_spec_annotation(const char *text, size_t n, const char *key)
{
        struct json_span object;
        if (!scan_object(text, n, &object))
                return NULL;
        return json_span_string(json_member(json_member(object, "annotations"), key));
}

bool runtime_spec_has_own_pid_namespace(const char *text, size_t n)
{
        struct json_span object, key, namespace_;
        if (!scan_object(text, n, &object))
                return false;
        struct json_walk walk = json_walk(json_member(json_member(object, "linux"), "namespaces"));
        while (json_walk_next(&walk, &key, &namespace_)) {
                struct json_span path = json_member(namespace_, "path");
                if (json_span_is(json_member(namespace_, "type"), "\"pid\"") &&
                        (path.text == NULL || json_span_is(path, "\"\"")))
                        return true;
        }
        return false;
}

bool runtime_spec_version(const char *text, size_t n, unsigned *ret_major, unsigned *ret_minor)
{
        struct json_span object;
        if (!scan_object(text, n, &object))
                return false;
        g_autofree char *version = json_span_string(json_member(object, "ociVersion"));
        return version != NULL && sscanf(version, "%u.%u", ret_major, ret_minor) == 2;
}

static char *replace(const char *text, size_t n, struct json_span old, const char *value)
{
        GString *out = g_string_sized_new(n + strlen(value) + 1);
        g_string_append_len(out, text, old.text - text);
        g_string_append(out, value);
        const char *rest = old.text + old.n;
        g_string_append_len(out, rest, text + n - rest);
        return g_string_free(out, FALSE);
}

char *runtime_spec_with_version(const char *text, size_t n, const char *version)
{
        struct json_span object;
        if (!scan_object(text, n, &object))
                return NULL;
        struct json_span old = json_member(object, "ociVersion");
        if (old.text == NULL)
                return NULL;
        g_autofree char *quoted = g_strdup_printf("\"%s\"", version);
        return replace(text, n, old, quoted);
}

char *process_spec_with_terminal(const char *text, size_t n, bool terminal, GError **error)
{
        struct json_span object, key, value;
        if (!scan_object(text, n, &object)) {
                error_fail(error, ERROR_INVALID_ARGUMENT, "process spec is not a JSON object");
                return NULL;
        }
        const char *wanted = terminal ? "true" : "false";
        struct json_span old = json_member(object, "terminal");
        if (old.text != NULL)
                return replace(text, n, old, wanted);
        struct json_walk walk = json_walk(object);
        bool empty = !json_walk_next(&walk, &key, &value);
        g_autofree char *member = g_strdup_printf("{\"terminal\":%s%s", wanted, empty ? "" : ",");
        return replace(text, n, (struct json_span){object.text, 1}, member);
}
