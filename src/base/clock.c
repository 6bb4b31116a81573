// SPDX-License-Identifier: Apache-2.0
//
// Calendar arithmetic is glibc's (timegm, gmtime_r); only the fraction and the offset are ours.
#include "base/clock.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t read_clock(clockid_t clock)
{
        struct timespec now;
        clock_gettime(clock, &now);
        return (int64_t)now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

int64_t clock_now_ns(void)
{
        return read_clock(CLOCK_REALTIME);
}

int64_t clock_monotonic_ns(void)
{
        return read_clock(CLOCK_MONOTONIC);
}

void clock_split(int64_t ns, int64_t *ret_seconds, int32_t *ret_nanos)
{
        int64_t nanos = ns % NS_PER_SECOND;
        *ret_seconds = ns / NS_PER_SECOND - (nanos < 0);
        *ret_nanos = (int32_t)(nanos < 0 ? nanos + NS_PER_SECOND : nanos);
}

char *clock_format_rfc3339(int64_t ns)
{
        int64_t seconds;
        int32_t fraction;
        clock_split(ns, &seconds, &fraction);
        struct tm tm;
        gmtime_r(&(time_t){seconds}, &tm);
        char date[64];
        size_t length = strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
        if (fraction != 0) {
                length += (size_t)snprintf(date + length, sizeof date - length, ".%09d", fraction);
                while (date[length - 1] == '0')
                        length--;
        }
        date[length] = 0;
        return g_strconcat(date, "Z", NULL);
}

static bool parse_offset(const char *text, int64_t *ret_seconds)
{
        if (strcmp(text, "Z") == 0 || strcmp(text, "z") == 0) {
                *ret_seconds = 0;
                return true;
        }
        int hours, minutes, end = 0;
        if ((text[0] != '+' && text[0] != '-') || !g_ascii_isdigit(text[1]) ||
                sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &end) != 2 || end != 5 || text[6] != 0)
                return false;
        if (hours > 23 || minutes > 59 || minutes < 0)
                return false;
        *ret_seconds = (text[0] == '-' ? -1 : 1) * (hours * INT64_C(3600) + minutes * 60);
        return true;
}

bool clock_parse_rfc3339(const char *text, int64_t *ret_ns)
{
        struct tm tm = {0};
        const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
        if (rest == NULL || rest - text != 19)
                return false;
        int64_t fraction = 0;
        if (*rest == '.') {
                int64_t unit = NS_PER_SECOND / 10;
                const char *digits = ++rest;
                for (; g_ascii_isdigit(*rest); rest++, unit /= 10)
                        fraction += unit * (*rest - '0');
                if (rest == digits || rest - digits > 9)
                        return false;
        }
        int64_t offset, ns;
        if (!parse_offset(rest, &offset))
                return false;
        int64_t seconds = (int64_t)timegm(&tm) - offset;
        if (__builtin_mul_overflow(seconds, NS_PER_SECOND, &ns) || __builtin_add_overflow(ns, fraction, &ns))
                return false;
        *ret_ns = ns;
        return true;
}

static bool parse_unit(const char **text, int64_t *ret_ns)
{
        static const struct {
                const char *name;
                int64_t ns;
        } units[] = {{"ns", 1}, {"us", 1000}, {"µs", 1000}, {"ms", NS_PER_MS}, {"s", NS_PER_SECOND},
                {"m", 60 * NS_PER_SECOND}, {"h", 3600 * NS_PER_SECOND}};
        for (size_t i = 0; i < G_N_ELEMENTS(units); i++) {
                size_t length = strlen(units[i].name);
                char next = strncmp(*text, units[i].name, length) == 0 ? (*text)[length] : 'x';
                if (next == 0 || g_ascii_isdigit(next) || next == '.') {
                        *text += length;
                        *ret_ns = units[i].ns;
                        return true;
                }
        }
        return false;
}

bool clock_parse_duration(const char *text, int64_t *ret_ns)
{
        bool negative = *text == '-';
        if (*text == '-' || *text == '+')
                text++;
        if (strcmp(text, "0") == 0) {
                *ret_ns = 0;
                return true;
        }
        double total = 0;
        if (*text == 0)
                return false;
        while (*text != 0) {
                size_t length = strspn(text, "0123456789.");
                g_autofree char *digits = g_strndup(text, length);
                char *end;
                double number = g_ascii_strtod(digits, &end); // alone, it would take "1e5" and "0x1" too
                if (length == 0 || *end != 0 || end == digits)
                        return false;
                int64_t unit;
                text += length;
                if (!parse_unit(&text, &unit))
                        return false;
                total += number * (double)unit;
        }
        if (total > 9e18)
                return false;
        *ret_ns = (int64_t)(negative ? -total : total);
        return true;
}
