// SPDX-License-Identifier: Apache-2.0
//
// The only thing that must be understood to find where a JSON value ends is strings; brackets are counted, kinds mixed.
// So wrong JSON can give a wrong extent, but never one outside the text.
#include "codec/json_scan.h"

#include <string.h>

static const char *skip_space(const char *at, const char *end)
{
        while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
                at++;
        return at;
}

// at is behind the opening quote; returns the closing one, or NULL.
static const char *find_quote(const char *at, const char *end)
{
        for (; at < end; at++) {
                if (*at == '"')
                        return at;
                if (*at == '\\' && ++at >= end)
                        return NULL;
        }
        return NULL;
}

static const char *skip_nested(const char *at, const char *end)
{
        size_t depth = 0;
        for (; at < end; at++) {
                if (*at == '"') {
                        at = find_quote(at + 1, end);
                        if (at == NULL)
                                return NULL;
                } else if (*at == '{' || *at == '[') {
                        depth++;
                } else if ((*at == '}' || *at == ']') && --depth == 0) {
                        return at + 1;
                }
        }
        return NULL;
}

// The end of the value that begins at `at`; NULL: none.
static const char *skip_value(const char *at, const char *end)
{
        if (at >= end)
                return NULL;
        if (*at == '{' || *at == '[')
                return skip_nested(at, end);
        if (*at == '"') {
                const char *quote = find_quote(at + 1, end);
                return quote != NULL ? quote + 1 : NULL;
        }
        const char *start = at;
        while (at < end && strchr(" \t\r\n,:]}\"[{", *at) == NULL)
                at++;
        return at > start ? at : NULL;
}

bool json_scan_document(const char *text, size_t n, struct json_span *ret_value)
{
        const char *end = text + n, *start = skip_space(text, end);
        const char *stop = skip_value(start, end);
        if (stop == NULL || skip_space(stop, end) != end)
                return false;
        *ret_value = (struct json_span){start, (size_t)(stop - start)};
        return true;
}

struct json_walk json_walk(struct json_span value)
{
        if (value.text == NULL || value.n < 2 || (*value.text != '{' && *value.text != '['))
                return (struct json_walk){0};
        return (struct json_walk){.at = value.text + 1, .end = value.text + value.n - 1, .object = *value.text == '{'};
}

static bool broken(struct json_walk *walk)
{
        walk->broken = true;
        walk->at = walk->end;
        return false;
}

static bool next_key(struct json_walk *walk, struct json_span *ret_key)
{
        const char *quote = *walk->at == '"' ? find_quote(walk->at + 1, walk->end) : NULL;
        if (quote == NULL)
                return false;
        *ret_key = (struct json_span){walk->at + 1, (size_t)(quote - walk->at - 1)};
        walk->at = skip_space(quote + 1, walk->end);
        if (walk->at >= walk->end || *walk->at != ':')
                return false;
        walk->at = skip_space(walk->at + 1, walk->end);
        return true;
}

bool json_walk_next(struct json_walk *walk, struct json_span *ret_key, struct json_span *ret_value)
{
        if (walk->at == NULL || (walk->at = skip_space(walk->at, walk->end)) >= walk->end)
                return false;
        struct json_span key = {0};
        if (walk->object && !next_key(walk, &key))
                return broken(walk);
        const char *stop = skip_value(walk->at, walk->end);
        if (stop == NULL)
                return broken(walk);
        struct json_span value = {walk->at, (size_t)(stop - walk->at)};
        walk->at = skip_space(stop, walk->end);
        if (walk->at < walk->end && *walk->at++ != ',')
                return broken(walk);
        *ret_key = key;
        *ret_value = value;
        return true;
}

bool json_span_is(struct json_span span, const char *text)
{
        return span.text != NULL && span.n == strlen(text) && memcmp(span.text, text, span.n) == 0;
}

struct json_span json_member(struct json_span object, const char *name)
{
        struct json_span key, value;
        if (object.text == NULL || object.n == 0 || *object.text != '{')
                return (struct json_span){0};
        for (struct json_walk walk = json_walk(object); json_walk_next(&walk, &key, &value);) {
                if (json_span_is(key, name))
                        return value;
        }
        return (struct json_span){0};
}

static bool read_hex4(const char *at, const char *end, gunichar *ret_unit)
{
        if (end - at < 4)
                return false;
        gunichar unit = 0;
        for (int i = 0; i < 4; i++) {
                int digit = g_ascii_xdigit_value(at[i]);
                if (digit < 0)
                        return false;
                unit = unit << 4 | (gunichar)digit;
        }
        *ret_unit = unit;
        return true;
}

// at is behind "\u". Returns the end of what was read, or NULL.
static const char *append_unicode(GString *out, const char *at, const char *end)
{
        gunichar unit, low;
        if (!read_hex4(at, end, &unit) || unit == 0)
                return NULL;
        at += 4;
        if (unit >= 0xd800 && unit < 0xdc00) {
                if (end - at < 6 || at[0] != '\\' || at[1] != 'u' || !read_hex4(at + 2, end, &low) || low < 0xdc00 ||
                        low > 0xdfff)
                        return NULL;
                unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                at += 6;
        } else if (unit >= 0xdc00 && unit <= 0xdfff) {
                return NULL;
        }
        g_string_append_unichar(out, unit);
        return at;
}

char *json_span_string(struct json_span value)
{
        if (value.text == NULL || value.n < 2 || *value.text != '"')
                return NULL;
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        const char *end = value.text + value.n - 1;
        g_autoptr(GString) out = g_string_sized_new(value.n);
        for (const char *at = value.text + 1; at != NULL && at < end;) {
                if (*at == '\0')
                        return NULL;
                if (*at != '\\') {
                        g_string_append_c(out, *at++);
                        continue;
                }
                const char *found = at + 1 < end && at[1] != '\0' ? strchr(from, at[1]) : NULL;
                if (found != NULL) {
                        g_string_append_c(out, to[found - from]);
                        at += 2;
                } else if (at + 1 >= end || at[1] != 'u' || (at = append_unicode(out, at + 2, end)) == NULL) {
                        return NULL;
                }
        }
        return g_string_free(g_steal_pointer(&out), FALSE);
}

void json_append_string(GString *out, const char *text)
{
        g_string_append_c(out, '"');
        for (; *text != '\0'; text++) {
                if (*text == '"' || *text == '\\')
                        g_string_append_printf(out, "\\%c", *text);
                else if ((unsigned char)*text < 0x20)
                        g_string_append_printf(out, "\\u%04x", (unsigned)*text);
                else
                        g_string_append_c(out, *text);
        }
        g_string_append_c(out, '"');
}
