// SPDX-License-Identifier: Apache-2.0
//
// What is written here is read by strict peers: Go refuses a timeout of nine digits, grpc-core a header block of more
// than 8 KiB, so a long error is cut rather than lost with the whole status.
#include "rpc/grpc_text.h"

#include "base/clock.h"
#include "base/error.h"

#include <string.h>

enum { MAX_TIMEOUT_LENGTH = 9, MAX_ENCODED_MESSAGE = 6 * 1024 };

static const struct unit {
        char letter;
        int64_t ns;
} units[] = {
        {'n', 1},
        {'u', 1000},
        {'m', NS_PER_MS},
        {'S', NS_PER_SECOND},
        {'M', 60 * NS_PER_SECOND},
        {'H', 3600 * NS_PER_SECOND},
};

static int64_t unit_ns(char letter)
{
        for (size_t i = 0; i < G_N_ELEMENTS(units); i++)
                if (units[i].letter == letter)
                        return units[i].ns;
        return 0;
}

char *grpc_quote(const char *text)
{
        g_autofree char *valid = g_utf8_make_valid(text, -1);
        g_autofree char *escaped = g_strescape(valid, NULL);
        return g_strdup_printf("\"%s\"", escaped);
}

bool grpc_parse_timeout(const char *text, int64_t *ret_timeout_ns, GError **error)
{
        g_autofree char *quoted = grpc_quote(text);
        size_t length = strlen(text);
        if (length < 2)
                return error_fail(error, ERROR_INTERNAL, "transport: timeout string is too short: %s", quoted);
        if (length > MAX_TIMEOUT_LENGTH)
                return error_fail(error, ERROR_INTERNAL, "transport: timeout string is too long: %s", quoted);
        int64_t ns = unit_ns(text[length - 1]);
        if (ns == 0)
                return error_fail(error, ERROR_INTERNAL, "transport: timeout unit is not recognized: %s", quoted);
        int64_t value = 0;
        for (size_t i = 0; i < length - 1; i++) {
                if (!g_ascii_isdigit(text[i]))
                        return error_fail(error, ERROR_INTERNAL, "strconv.ParseUint: parsing \"%.*s\": invalid syntax",
                                (int)(length - 1), text);
                value = value * 10 + (text[i] - '0');
        }
        *ret_timeout_ns = value > INT64_MAX / ns ? INT64_MAX : value * ns;
        return true;
}

char *grpc_format_timeout(int64_t timeout_ns)
{
        const int64_t most = 99999999;
        size_t i = 0;
        while (i + 1 < G_N_ELEMENTS(units) && timeout_ns / units[i].ns >= most)
                i++;
        int64_t value = timeout_ns / units[i].ns + (timeout_ns % units[i].ns != 0);
        return g_strdup_printf("%" G_GINT64_FORMAT "%c", MIN(value, most), units[i].letter);
}

char *grpc_encode_message(const char *message)
{
        g_autofree char *valid = g_utf8_make_valid(message, -1);
        GString *encoded = g_string_new(NULL);
        for (const char *at = valid; *at != '\0' && encoded->len < MAX_ENCODED_MESSAGE; at = g_utf8_next_char(at)) {
                if (*at >= ' ' && *at <= '~' && *at != '%') {
                        g_string_append_c(encoded, *at);
                        continue;
                }
                for (const char *byte = at; byte < g_utf8_next_char(at); byte++)
                        g_string_append_printf(encoded, "%%%02X", (unsigned char)*byte);
        }
        return g_string_free(encoded, FALSE);
}

char *grpc_decode_message(const char *text)
{
        GString *decoded = g_string_new(NULL);
        for (const char *at = text; *at != '\0'; at++) {
                if (*at == '%' && g_ascii_isxdigit(at[1]) && g_ascii_isxdigit(at[2])) {
                        g_string_append_c(
                                decoded, (char)(g_ascii_xdigit_value(at[1]) * 16 + g_ascii_xdigit_value(at[2])));
                        at += 2;
                } else {
                        g_string_append_c(decoded, *at);
                }
        }
        char *valid = g_utf8_make_valid(decoded->str, -1); // up to a NUL, if one was hidden
        g_string_free(decoded, TRUE);
        return valid;
}

bool grpc_content_type_is_valid(const char *text)
{
        const char base[] = "application/grpc";
        if (strncmp(text, base, strlen(base)) != 0)
                return false;
        char after = text[strlen(base)];
        return after == '\0' || after == '+' || after == ';';
}

bool grpc_is_base64(const char *text)
{
        const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        size_t digits = strspn(text, alphabet);
        size_t padding = strspn(text + digits, "=");
        if (text[digits + padding] != '\0')
                return false;
        return padding == 0 ? digits % 4 != 1 : padding <= 2 && (digits + padding) % 4 == 0;
}
