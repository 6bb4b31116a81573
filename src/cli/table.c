// SPDX-License-Identifier: Apache-2.0
//
// Tables, ages, sizes, and where logs are.
#include "cli/cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct table {
        GPtrArray *rows; // GStrv
};

struct table *table_new(void)
{
        struct table *table = g_new0(struct table, 1);
        table->rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
        return table;
}

void table_row(struct table *table, ...)
{
        g_autoptr(GPtrArray) cells = g_ptr_array_new();
        va_list list;
        va_start(list, table);
        for (const char *cell = va_arg(list, const char *); cell != NULL; cell = va_arg(list, const char *))
                g_ptr_array_add(cells, g_strdup(cell));
        va_end(list);
        g_ptr_array_add(cells, NULL);
        g_ptr_array_add(table->rows, g_ptr_array_steal(cells, NULL));
}

static int width_of(const char *cell)
{
        return (int)g_utf8_strlen(cell, -1);
}

static int column_width(const struct table *table, guint column)
{
        int width = 0;
        for (guint i = 0; i < table->rows->len; i++) {
                GStrv row = table->rows->pdata[i];
                if (g_strv_length(row) > column)
                        width = MAX(width, width_of(row[column]));
        }
        return width;
}

void table_print(struct table *table)
{
        for (guint i = 0; i < table->rows->len; i++) {
                GStrv row = table->rows->pdata[i];
                for (guint column = 0; row[column] != NULL; column++) {
                        bool last = row[column + 1] == NULL;
                        int blanks = last ? 0 : column_width(table, column) - width_of(row[column]) + 2;
                        printf("%s%*s", row[column], blanks, "");
                }
                putchar('\n');
        }
        g_ptr_array_free(table->rows, TRUE);
        g_free(table);
}

char *format_age(int64_t at_ns)
{
        static const struct {
                int64_t seconds;
                const char *name;
        } units[] = {
                {365 * 86400, "year"},
                {30 * 86400, "month"},
                {7 * 86400, "week"},
                {86400, "day"},
                {3600, "hour"},
                {60, "minute"},
                {1, "second"},
        };
        int64_t age_s = (int64_t)time(NULL) - at_ns / 1000000000;
        for (size_t i = 0; i < G_N_ELEMENTS(units); i++) {
                int64_t n = age_s / units[i].seconds;
                if (n > 0)
                        return g_strdup_printf("%" G_GINT64_FORMAT " %s%s ago", n, units[i].name, n == 1 ? "" : "s");
        }
        return g_strdup("just now");
}

char *format_duration(int64_t duration_ns)
{
        int64_t seconds = duration_ns / 1000000000;
        if (seconds < 60)
                return g_strdup_printf("%.1fs", (double)(duration_ns / 100000000) / 10);
        if (seconds < 3600)
                return g_strdup_printf("%dm%02ds", (int)(seconds / 60), (int)(seconds % 60));
        return g_strdup_printf("%" G_GINT64_FORMAT "h%02dm", seconds / 3600, (int)(seconds / 60 % 60));
}

char *format_size(int64_t bytes)
{
        static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
        double size = (double)bytes;
        size_t unit = 0;
        while (size >= 999.5 && unit + 1 < G_N_ELEMENTS(units)) {
                size /= 1000;
                unit++;
        }
        int digits = unit == 0 || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
        return g_strdup_printf("%.*f%s", digits, size, units[unit]);
}

char *log_path(const struct cli *cli, const char *id)
{
        const char *given = getenv("SKIFF_LOG_DIR");
        const char *directory = given != NULL && *given == '/' ? given : "/var/log/skiff";
        g_autofree char *name = g_strconcat(id, ".log", NULL);
        return g_build_filename(directory, cli->name_space, name, NULL);
}

char *log_path_of_uri(const char *uri)
{
        bool is_file = uri != NULL && g_str_has_prefix(uri, "file:///");
        return is_file ? g_uri_unescape_string(uri + strlen("file://"), NULL) : NULL;
}
