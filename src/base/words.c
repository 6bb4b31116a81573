// SPDX-License-Identifier: Apache-2.0
#include "base/words.h"

#include <glib.h>
#include <string.h>

static gint by_text(gconstpointer a, gconstpointer b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

char *words_merge(const char *separator, const char *words, const char *more)
{
        g_autofree char *all = g_strjoin(separator, words, more, NULL);
        g_auto(GStrv) parts = g_strsplit(all, separator, -1);
        g_autoptr(GPtrArray) sorted = g_ptr_array_new();
        for (size_t i = 0; parts[i] != NULL; i++)
                if (parts[i][0] != '\0')
                        g_ptr_array_add(sorted, parts[i]);
        g_ptr_array_sort(sorted, by_text);
        g_autoptr(GString) merged = g_string_new(NULL);
        for (size_t i = 0; i < sorted->len; i++) {
                if (i > 0 && strcmp(sorted->pdata[i - 1], sorted->pdata[i]) == 0)
                        continue;
                g_string_append_printf(
                        merged, "%s%s", merged->len > 0 ? separator : "", (const char *)sorted->pdata[i]);
        }
        return g_string_free(g_steal_pointer(&merged), FALSE);
}
