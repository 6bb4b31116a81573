// SPDX-License-Identifier: Apache-2.0
//
// A record is built in memory and written with one write(2), so that records of several threads and processes that
// share the descriptor never mix within a line. The level is atomic because SIGUSR1-like switches may change it later.
#include "base/log.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static atomic_int current_level = LOG_LEVEL_INFO;
static atomic_int current_format = LOG_FORMAT_TEXT;

static const char *const level_names[] = {"error", "warning", "info", "debug", "trace"};

void log_configure(enum log_level level, enum log_format format)
{
        atomic_store(&current_level, level);
        atomic_store(&current_format, format);
}

bool log_level_parse(const char *text, enum log_level *ret_level)
{
        static const struct {
                const char *name;
                enum log_level level;
        } names[] = {
                {"panic", LOG_LEVEL_ERROR},
                {"fatal", LOG_LEVEL_ERROR},
                {"error", LOG_LEVEL_ERROR},
                {"warn", LOG_LEVEL_WARN},
                {"warning", LOG_LEVEL_WARN},
                {"info", LOG_LEVEL_INFO},
                {"debug", LOG_LEVEL_DEBUG},
                {"trace", LOG_LEVEL_TRACE},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                if (g_ascii_strcasecmp(text, names[i].name) == 0) {
                        *ret_level = names[i].level;
                        return true;
                }
        }
        return false;
}

bool log_enabled(enum log_level level)
{
        return (int)level <= atomic_load_explicit(&current_level, memory_order_relaxed);
}

static void append_quoted(GString *line, const char *text)
{
        g_string_append_c(line, '"');
        for (const unsigned char *p = (const unsigned char *)text; *p != 0; p++) {
                if (*p == '"' || *p == '\\')
                        g_string_append_printf(line, "\\%c", *p);
                else if (*p == '\n')
                        g_string_append(line, "\\n");
                else if (*p < 0x20 || *p == 0x7f)
                        g_string_append_printf(line, "\\u%04x", *p);
                else
                        g_string_append_c(line, (char)*p);
        }
        g_string_append_c(line, '"');
}

static bool is_plain(const char *text)
{
        for (const char *p = text; *p != 0; p++) {
                if (!g_ascii_isalnum(*p) && strchr("-._/@^+:", *p) == NULL)
                        return false;
        }
        return *text != 0;
}

static void append_field(GString *line, const char *key, const char *value, bool json)
{
        if (json) {
                g_string_append_c(line, ',');
                append_quoted(line, key);
                g_string_append_c(line, ':');
                append_quoted(line, value);
                return;
        }
        g_string_append_printf(line, " %s=", key);
        if (is_plain(value))
                g_string_append(line, value);
        else
                append_quoted(line, value);
}

void log_record(enum log_level level, const char *message, ...)
{
        if (!log_enabled(level))
                return;
        bool json = atomic_load_explicit(&current_format, memory_order_relaxed) == LOG_FORMAT_JSON;
        g_autofree char *now = clock_format_rfc3339(clock_now_ns());
        g_autoptr(GString) line = g_string_sized_new(256);
        if (json)
                g_string_append_printf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"msg\":", now, level_names[level]);
        else
                g_string_append_printf(line, "time=\"%s\" level=%s msg=", now, level_names[level]);
        append_quoted(line, message);

        va_list args;
        va_start(args, message);
        for (const char *key = va_arg(args, const char *); key != NULL; key = va_arg(args, const char *)) {
                const char *value = va_arg(args, const char *);
                if (value != NULL)
                        append_field(line, key, value, json);
        }
        va_end(args);
        g_string_append(line, json ? "}\n" : "\n");

        ssize_t written = write(STDERR_FILENO, line->str, line->len);
        (void)written; // there is nowhere left to complain
}
