// SPDX-License-Identifier: Apache-2.0
#include "plugins/mounts/format.h"

#include <string.h>

static const Types__ActiveMount *find(const struct transform_context *context, int64_t index, GError **error)
{
        if (index >= 0 && (uint64_t)index < context->n_active)
                return context->active[index];
        error_fail(error, ERROR_INVALID_ARGUMENT,
                "index out of bounds: %" G_GINT64_FORMAT ", has %zu active mounts: invalid argument", index,
                context->n_active);
        return NULL;
}

static bool append_range(
        GString *out, const struct transform_context *context, int64_t start, int64_t end, GError **error)
{
        int64_t n = (int64_t)context->n_active;
        if (start < 0 || end < 0 || start >= n || end >= n)
                return error_fail(error, ERROR_INVALID_ARGUMENT,
                        "invalid range: %" G_GINT64_FORMAT "-%" G_GINT64_FORMAT
                        ", has %zu active mounts: invalid argument",
                        start, end, context->n_active);
        int64_t step = start > end ? -1 : 1;
        for (int64_t i = start;; i += step) {
                g_string_append_printf(out, "%s%s", i != start ? ":" : "", context->active[i]->mount_point);
                if (i == end)
                        return true;
        }
}

static bool parse_index(const char *text, int64_t *ret_index)
{
        return g_ascii_string_to_signed(text, 10, -1000000, 1000000, ret_index, NULL);
}

// One action, without its braces.
static bool append_action(GString *out, const char *action, const struct transform_context *context, GError **error)
{
        g_auto(GStrv) words = g_strsplit_set(action, " \t", -1);
        const char *parts[3] = {NULL};
        size_t n = 0;
        for (char **word = words; *word != NULL; word++)
                if (**word != '\0' && n++ < G_N_ELEMENTS(parts))
                        parts[n - 1] = *word;
        int64_t first, second;
        if (n == 3 && strcmp(parts[0], "overlay") == 0 && parse_index(parts[1], &first) &&
                parse_index(parts[2], &second))
                return append_range(out, context, first, second, error);
        bool known =
                n == 2 && parse_index(parts[1], &first) &&
                (strcmp(parts[0], "mount") == 0 || strcmp(parts[0], "source") == 0 || strcmp(parts[0], "target") == 0);
        if (!known)
                return error_fail(
                        error, ERROR_INVALID_ARGUMENT, "unknown mount template \"{{%s}}\": invalid argument", action);
        const Types__ActiveMount *active = find(context, first, error);
        if (active == NULL)
                return false;
        g_string_append(out, parts[0][0] == 'm'   ? active->mount_point
                             : parts[0][0] == 's' ? active->mount->source
                                                  : active->mount->target);
        return true;
}

char *format_expand(const char *text, const struct transform_context *context, GError **error)
{
        g_autoptr(GString) out = g_string_new(NULL);
        for (const char *open; (open = strstr(text, "{{")) != NULL;) {
                const char *close = strstr(open, "}}");
                if (close == NULL) {
                        error_fail(error, ERROR_INVALID_ARGUMENT, "unclosed mount template \"%s\": invalid argument",
                                open);
                        return NULL;
                }
                g_string_append_len(out, text, open - text);
                g_autofree char *action = g_strndup(open + 2, (gsize)(close - open - 2));
                if (!append_action(out, action, context, error))
                        return NULL;
                text = close + 2;
        }
        g_string_append(out, text);
        return g_string_free(g_steal_pointer(&out), false);
}
