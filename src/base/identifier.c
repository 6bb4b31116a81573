// SPDX-License-Identifier: Apache-2.0
//
// The identifier rule makes every accepted name safe as one component of a path and of a socket name.
#include "base/identifier.h"

#include "base/error.h"

#include <stdint.h>
#include <string.h>
#include <sys/random.h>

enum { IDENTIFIER_MAX_BYTES = 76, LABEL_MAX_BYTES = 4096, LABEL_KEY_SHOWN_BYTES = 64 };

static bool is_well_formed(const char *text)
{
        bool separator = true; // none may stand first
        for (const char *p = text; *p != 0; p++) {
                bool is_separator = strchr("._-", *p) != NULL;
                if ((!is_separator && !g_ascii_isalnum(*p)) || (is_separator && separator))
                        return false;
                separator = is_separator;
        }
        return !separator;
}

bool identifier_validate(const char *text, GError **error)
{
        if (*text == 0)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "identifier must not be empty: invalid argument");
        if (strlen(text) > IDENTIFIER_MAX_BYTES)
                return error_fail(error, ERROR_INVALID_ARGUMENT,
                        "identifier \"%s\" greater than maximum length (%d characters): invalid argument", text,
                        IDENTIFIER_MAX_BYTES);
        if (!is_well_formed(text))
                return error_fail(error, ERROR_INVALID_ARGUMENT,
                        "identifier \"%s\" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument",
                        text);
        return true;
}

bool label_validate(const char *key, const char *value, GError **error)
{
        size_t total = strlen(key) + strlen(value);
        if (total <= LABEL_MAX_BYTES)
                return true;
        return error_fail(error, ERROR_INVALID_ARGUMENT,
                "label key and value length (%zu bytes) greater than maximum size (%d bytes), key: %.*s: invalid "
                "argument",
                total, LABEL_MAX_BYTES, LABEL_KEY_SHOWN_BYTES, key);
}

static void fill_random(uint8_t *bytes, size_t n_bytes)
{
        g_assert(n_bytes <= 256); // never interrupted nor short up to there, getrandom(2)
        g_assert(getrandom(bytes, n_bytes, 0) == (ssize_t)n_bytes);
}

char *identifier_random_hex(size_t n_bytes)
{
        uint8_t bytes[256];
        fill_random(bytes, n_bytes);
        GString *text = g_string_sized_new(2 * n_bytes);
        for (size_t i = 0; i < n_bytes; i++)
                g_string_append_printf(text, "%02x", bytes[i]);
        return g_string_free(text, FALSE);
}

char *identifier_random_uuid(void)
{
        uint8_t b[16];
        fill_random(b, sizeof b);
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
                b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}
