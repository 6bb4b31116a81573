// SPDX-License-Identifier: Apache-2.0
//
// A hand-written reader of token [SP name=value *("," name=value)]. It never fails: what it cannot read ends the
// parameters, as registries are not all careful and the caller judges by what it needs (a realm).
#include "remote/challenge.h"

#include <string.h>

static bool token_char(char c)
{
        return c > 0x20 && c < 0x7f && strchr("\"(),/:;<=>?@[]\\{}", c) == NULL;
}

static char *read_token(const char **text)
{
        size_t n = 0;
        while (token_char((*text)[n]))
                n++;
        char *token = g_ascii_strdown(*text, (gssize)n);
        *text += n;
        return token;
}

static void skip_space(const char **text)
{
        *text += strspn(*text, " \t\r\n");
}

// A quoted string without its backslashes; empty if its end is missing.
static char *read_quoted(const char **text)
{
        g_autoptr(GString) value = g_string_new(NULL);
        const char *c = *text + 1;
        for (; *c != '"'; c++) {
                if (*c == '\\')
                        c++;
                if (*c == '\0') {
                        *text = c;
                        return g_strdup("");
                }
                g_string_append_c(value, *c);
        }
        *text = c + 1;
        return g_string_free(g_steal_pointer(&value), FALSE);
}

static char *read_value(const char **text)
{
        if (**text == '"')
                return read_quoted(text);
        const char *start = *text;
        g_autofree G_GNUC_UNUSED char *lower = read_token(text);
        return g_strndup(start, (gsize)(*text - start));
}

bool challenge_parse(const char *header, struct challenge *ret_challenge)
{
        static const struct {
                const char *name;
                enum challenge_scheme scheme;
        } schemes[] = {{"bearer", CHALLENGE_BEARER}, {"digest", CHALLENGE_DIGEST}, {"basic", CHALLENGE_BASIC}};
        const char *text = header;
        g_autofree char *scheme = read_token(&text);
        size_t i = 0;
        while (i < G_N_ELEMENTS(schemes) && strcmp(scheme, schemes[i].name) != 0)
                i++;
        if (i == G_N_ELEMENTS(schemes))
                return false;

        g_autoptr(GHashTable) parameters = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        for (;;) {
                skip_space(&text);
                g_autofree char *name = read_token(&text);
                if (name[0] == '\0' || *text != '=')
                        break;
                text++;
                g_hash_table_replace(parameters, g_steal_pointer(&name), read_value(&text));
                skip_space(&text);
                if (*text != ',')
                        break;
                text++;
        }
        *ret_challenge = (struct challenge){.scheme = schemes[i].scheme, .parameters = g_steal_pointer(&parameters)};
        return true;
}

void challenge_done(struct challenge *challenge)
{
        g_clear_pointer(&challenge->parameters, g_hash_table_unref);
}

const char *challenge_parameter(const struct challenge *challenge, const char *name)
{
        return g_hash_table_lookup(challenge->parameters, name);
}
