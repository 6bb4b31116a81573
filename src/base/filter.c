// SPDX-License-Identifier: Apache-2.0
//
// A scanner that knows whether a value may come next (only an operator leads to one, and only a separator or the value
// itself ends that), and a parser of one token look-ahead above it. Clients match on the error texts, so positions and
// the first error found by the scanner are kept exactly as containerd reports them. The trap: looking ahead does not
// skip white space, scanning does; `a ==b` is good and `a==b ,c` is not.
#include "base/filter.h"

#include "base/error.h"

#include <string.h>

enum operator{
        OPERATOR_PRESENT,
        OPERATOR_EQUAL,
        OPERATOR_NOT_EQUAL,
        OPERATOR_MATCHES,
};

struct selector {
        GPtrArray *path; // of char *
        bool path_has_nul;
        enum operator operator;
        char *value;
        bool value_has_nul; // no text of ours can be equal to it
        GRegex *regex;      // NULL: does not compile, matches nothing
};

struct filter {
        GPtrArray *alternatives; // of GPtrArray of struct selector; one without selectors matches all
};

enum token {
        TOKEN_END,
        TOKEN_QUOTED,
        TOKEN_VALUE,
        TOKEN_FIELD,
        TOKEN_SEPARATOR,
        TOKEN_OPERATOR,
        TOKEN_ILLEGAL,
        TOKEN_OTHER,
};

enum { RUNE_END = -1, RUNE_ILLEGAL = -2, RUNE_REPLACEMENT = 0xfffd, RUNE_MAX = 0x10ffff };

struct parser {
        const char *input;
        size_t length;
        size_t pos;            // of the character read last
        size_t next;           // where reading goes on
        bool value;            // an operator was read, its value was not
        const char *complaint; // the first one of the scanner
        // The token scanned last.
        size_t token_pos;
        size_t token_end;
};

static void complain(struct parser *parser, const char *text)
{
        if (parser->complaint == NULL)
                parser->complaint = text;
}

static int read_rune(struct parser *parser)
{
        if (parser->pos >= parser->length)
                return RUNE_END;
        parser->pos = parser->next;
        if (parser->next == parser->length)
                return RUNE_END;

        const char *p = parser->input + parser->next;
        gunichar rune = g_utf8_get_char_validated(p, (gssize)(parser->length - parser->next));
        if (rune > RUNE_MAX || rune == RUNE_REPLACEMENT) {
                parser->next += rune == RUNE_REPLACEMENT ? 3 : 1;
                complain(parser, "rune error");
                return RUNE_ILLEGAL;
        }
        parser->next += (size_t)g_unichar_to_utf8(rune, NULL);
        return (int)rune;
}

static int peek_rune(struct parser *parser)
{
        size_t pos = parser->pos, next = parser->next;
        int rune = read_rune(parser);
        parser->pos = pos;
        parser->next = next;
        return rune;
}

static bool is_field_rune(int rune)
{
        return rune > 0 && rune < 0x80 && (rune == '_' || g_ascii_isalnum((char)rune));
}

static bool is_operator_rune(int rune)
{
        return rune == '=' || rune == '!' || rune == '~';
}

// Unicode's White_Space, which differs from g_unichar_isspace in U+000B and U+0085.
static bool is_space(int rune)
{
        switch (rune) {
        case '\t':
        case '\n':
        case '\v':
        case '\f':
        case '\r':
        case 0x85:
                return true;
        default:
                break;
        }
        if (rune < 0)
                return false;
        GUnicodeType type = g_unichar_type((gunichar)rune);
        return type == G_UNICODE_SPACE_SEPARATOR || type == G_UNICODE_LINE_SEPARATOR ||
               type == G_UNICODE_PARAGRAPH_SEPARATOR;
}

static bool is_value_rune(int rune)
{
        if (rune < 0 || rune == ',' || is_space(rune))
                return false;
        switch (g_unichar_type((gunichar)rune)) {
        case G_UNICODE_CONTROL:
        case G_UNICODE_FORMAT:
        case G_UNICODE_UNASSIGNED:
        case G_UNICODE_PRIVATE_USE:
        case G_UNICODE_SURROGATE:
                return false;
        default:
                return true;
        }
}

// Both return the first character that does not belong to the escape any more.
static int scan_digits(struct parser *parser, int rune, int base, int n, bool *ret_legal)
{
        for (; n > 0; n--) {
                int digit = rune > 0 && rune < 0x80 ? g_ascii_xdigit_value((char)rune) : -1;
                if (digit < 0 || digit >= base)
                        break;
                rune = read_rune(parser);
        }
        if (n > 0) {
                complain(parser, "illegal numeric escape sequence");
                *ret_legal = false;
        }
        return rune;
}

static int scan_escape(struct parser *parser, int quote, bool *ret_legal)
{
        int rune = read_rune(parser);
        if (rune == quote || (rune > 0 && rune < 0x80 && strchr("abfnrtv\\", rune) != NULL))
                return read_rune(parser);
        if (rune >= '0' && rune <= '7')
                return scan_digits(parser, rune, 8, 3, ret_legal);
        if (rune == 'x')
                return scan_digits(parser, read_rune(parser), 16, 2, ret_legal);
        if (rune == 'u')
                return scan_digits(parser, read_rune(parser), 16, 4, ret_legal);
        if (rune == 'U')
                return scan_digits(parser, read_rune(parser), 16, 8, ret_legal);
        complain(parser, "illegal escape sequence");
        *ret_legal = false;
        return rune;
}

static bool scan_quoted(struct parser *parser, int quote)
{
        bool legal = true;
        int rune = read_rune(parser);
        while (rune != quote) {
                if (rune == '\n' || rune < 0) {
                        complain(parser, "quoted literal not terminated");
                        return false;
                }
                rune = rune == '\\' ? scan_escape(parser, quote, &legal) : read_rune(parser);
        }
        return legal;
}

static void scan_while(struct parser *parser, bool (*belongs)(int rune))
{
        while (belongs(peek_rune(parser)))
                read_rune(parser);
}

static enum token classify(struct parser *parser, int rune)
{
        switch (rune) {
        case RUNE_END:
                return TOKEN_END;
        case RUNE_ILLEGAL:
                return TOKEN_ILLEGAL;
        case '"':
        case '/':
        case '|':
                return scan_quoted(parser, rune) ? TOKEN_QUOTED : TOKEN_ILLEGAL;
        case ',':
        case '.':
                parser->value = false;
                return TOKEN_SEPARATOR;
        default:
                break;
        }
        if (is_operator_rune(rune)) {
                scan_while(parser, is_operator_rune);
                parser->value = true;
                return TOKEN_OPERATOR;
        }
        if (parser->value) {
                scan_while(parser, is_value_rune);
                parser->value = false;
                return TOKEN_VALUE;
        }
        if (is_field_rune(rune)) {
                scan_while(parser, is_field_rune);
                return TOKEN_FIELD;
        }
        return TOKEN_OTHER;
}

static enum token scan(struct parser *parser)
{
        int rune = read_rune(parser);
        while (is_space(rune))
                rune = read_rune(parser);
        parser->token_pos = parser->pos;
        enum token token = classify(parser, rune);
        parser->token_end = parser->next;
        return token;
}

static bool G_GNUC_PRINTF(4, 5)
        parse_fail(const struct parser *parser, size_t pos, GError **error, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        g_autofree char *what = g_strdup_vprintf(format, args);
        va_end(args);

        g_autofree char *where = NULL;
        if (pos < parser->length) {
                const char *at = parser->input + pos, *after = g_utf8_find_next_char(at, NULL);
                where = g_strdup_printf("%.*s >|%.*s|< %s", (int)pos, parser->input, (int)(after - at), at, after);
        }
        return error_fail(error, ERROR_INVALID_ARGUMENT, "filters: parse error: [%s]: %s: invalid argument",
                where != NULL ? where : parser->input, what);
}

static bool append_digits(GString *text, const char **p, int base, int n, gunichar limit, bool as_byte)
{
        guint64 value = 0;
        for (; n > 0; n--, (*p)++)
                value = value * (guint64)base + (guint64)g_ascii_xdigit_value(**p);
        if (value > limit)
                return false;
        if (as_byte)
                g_string_append_c(text, (char)value);
        else
                g_string_append_unichar(text, value >= 0xd800 && value < 0xe000 ? RUNE_REPLACEMENT : (gunichar)value);
        return true;
}

// What stands behind a backslash; the scanner has checked that it is complete.
static bool append_escaped(GString *text, const char **p)
{
        static const char names[] = "abfnrtv", meanings[] = "\a\b\f\n\r\t\v";
        char c = *(*p)++;
        const char *name = strchr(names, c);
        if (name != NULL) {
                g_string_append_c(text, meanings[name - names]);
                return true;
        }
        switch (c) {
        case 'x':
                return append_digits(text, p, 16, 2, 0xff, true);
        case 'u':
                return append_digits(text, p, 16, 4, RUNE_MAX, false);
        case 'U':
                return append_digits(text, p, 16, 8, RUNE_MAX, false);
        default:
                break;
        }
        if (c >= '0' && c <= '7') {
                (*p)--;
                return append_digits(text, p, 8, 3, 0xff, true);
        }
        g_string_append_c(text, c);
        return true;
}

// The text of the quoted token scanned last. Clients quote keys and plain values by ", regular expressions by / and |
// too.
static char *unquote(const struct parser *parser, bool alternative_quotes, bool *ret_has_nul, GError **error)
{
        const char *p = parser->input + parser->token_pos, *end = parser->input + parser->token_end - 1;
        if (*p != '"' && !alternative_quotes) {
                parse_fail(parser, parser->token_pos, error, "invalid quote encountered");
                return NULL;
        }
        g_autoptr(GString) text = g_string_new(NULL);
        for (p++; p < end;) {
                if (*p != '\\') {
                        g_string_append_c(text, *p++);
                        continue;
                }
                p++;
                if (!append_escaped(text, &p)) {
                        parse_fail(parser, parser->token_pos, error, "unquoting failed: quote syntax error");
                        return NULL;
                }
        }
        *ret_has_nul = strlen(text->str) != text->len;
        return g_strndup(text->str, text->len);
}

static char *token_text(const struct parser *parser)
{
        return g_strndup(parser->input + parser->token_pos, parser->token_end - parser->token_pos);
}

static bool parse_part(struct parser *parser, struct selector *selector, GError **error)
{
        char *part;
        bool has_nul = false;
        switch (scan(parser)) {
        case TOKEN_FIELD:
                part = token_text(parser);
                break;
        case TOKEN_QUOTED:
                part = unquote(parser, false, &has_nul, error);
                if (part == NULL)
                        return false;
                break;
        case TOKEN_ILLEGAL:
                return parse_fail(parser, parser->token_pos, error, "%s", parser->complaint);
        default:
                return parse_fail(parser, parser->token_pos, error, "expected field or quoted");
        }
        g_ptr_array_add(selector->path, part);
        selector->path_has_nul |= has_nul;
        return true;
}

static bool parse_path(struct parser *parser, struct selector *selector, GError **error)
{
        if (!parse_part(parser, selector, error))
                return false;
        while (peek_rune(parser) == '.') {
                scan(parser);
                if (!parse_part(parser, selector, error))
                        return false;
        }
        return true;
}

static bool parse_operator(struct parser *parser, struct selector *selector, GError **error)
{
        static const char *const texts[] = {
                [OPERATOR_EQUAL] = "==", [OPERATOR_NOT_EQUAL] = "!=", [OPERATOR_MATCHES] = "~="};
        enum token token = scan(parser);
        if (token == TOKEN_ILLEGAL)
                return parse_fail(parser, parser->token_pos, error, "%s", parser->complaint);
        if (token != TOKEN_OPERATOR)
                return parse_fail(parser, parser->token_pos, error, "expected an operator (\"==\"|\"!=\"|\"~=\")");
        g_autofree char *text = token_text(parser);
        for (enum operator i = OPERATOR_EQUAL; i <= OPERATOR_MATCHES; i++) {
                if (g_str_equal(text, texts[i])) {
                        selector->operator= i;
                        return true;
                }
        }
        return parse_fail(parser, parser->token_pos, error, "unsupported operator \"%s\"", text);
}

static bool parse_value(struct parser *parser, struct selector *selector, GError **error)
{
        switch (scan(parser)) {
        case TOKEN_VALUE:
                selector->value = token_text(parser);
                return true;
        case TOKEN_QUOTED:
                selector->value =
                        unquote(parser, selector->operator== OPERATOR_MATCHES, &selector->value_has_nul, error);
                return selector->value != NULL;
        case TOKEN_ILLEGAL:
                return parse_fail(parser, parser->token_pos, error, "%s", parser->complaint);
        default:
                return parse_fail(parser, parser->token_pos, error, "expected value or quoted");
        }
}

static void compile(struct selector *selector)
{
        if (selector->value_has_nul || !g_utf8_validate(selector->value, -1, NULL))
                return;
        // The limit bounds what a pattern with exponential backtracking costs; RE2 has no such patterns.
        g_autofree char *pattern = g_strconcat("(*LIMIT_MATCH=1000000)", selector->value, NULL);
        selector->regex = g_regex_new(pattern, G_REGEX_DOLLAR_ENDONLY, 0, NULL);
}

static bool parse_selector(struct parser *parser, struct selector *selector, GError **error)
{
        selector->path = g_ptr_array_new_with_free_func(g_free);
        if (!parse_path(parser, selector, error))
                return false;
        int rune = peek_rune(parser);
        if (rune == ',' || rune == RUNE_END)
                return true;
        if (!parse_operator(parser, selector, error) || !parse_value(parser, selector, error))
                return false;
        if (selector->operator== OPERATOR_MATCHES)
                compile(selector);
        return true;
}

static void selector_free(void *data)
{
        struct selector *selector = data;
        if (selector->regex != NULL)
                g_regex_unref(selector->regex);
        g_ptr_array_unref(selector->path);
        g_free(selector->value);
        g_free(selector);
}

static bool parse_selectors(const char *text, GPtrArray *selectors, GError **error)
{
        struct parser parser = {.input = text, .length = strlen(text)};
        for (;;) {
                struct selector *selector = g_new0(struct selector, 1);
                g_ptr_array_add(selectors, selector);
                if (!parse_selector(&parser, selector, error))
                        return false;
                int rune = peek_rune(&parser);
                if (rune == RUNE_END)
                        return true;
                if (rune != ',') {
                        char unexpected[7] = {0};
                        g_unichar_to_utf8(rune < 0 ? RUNE_REPLACEMENT : (gunichar)rune, unexpected);
                        return parse_fail(&parser, parser.next, error, "unexpected input: %s", unexpected);
                }
                scan(&parser);
        }
}

static void selectors_free(void *data)
{
        g_ptr_array_unref(data);
}

struct filter *filter_parse(char *const *texts, size_t n, GError **error)
{
        AUTO(filter) filter = g_new0(struct filter, 1);
        filter->alternatives = g_ptr_array_new_with_free_func(selectors_free);
        for (size_t i = 0; i < n; i++) {
                GPtrArray *selectors = g_ptr_array_new_with_free_func(selector_free);
                g_ptr_array_add(filter->alternatives, selectors);
                if (*texts[i] != 0 && !parse_selectors(texts[i], selectors, error))
                        return NULL;
        }
        return g_steal_pointer(&filter);
}

void filter_free(struct filter *filter)
{
        if (filter == NULL)
                return;
        g_ptr_array_unref(filter->alternatives);
        g_free(filter);
}

static bool regex_finds(const GRegex *regex, const char *value)
{
        if (regex == NULL)
                return false;
        // PCRE is told that its input is UTF-8; what is not, Go sees as U+FFFD.
        g_autofree char *valid = g_utf8_make_valid(value, -1);
        return g_regex_match(regex, valid, 0, NULL);
}

static bool selector_match(const struct selector *selector, filter_field field, void *object)
{
        bool present = false;
        const char *value = NULL;
        if (!selector->path_has_nul)
                value = field(object, (const char *const *)selector->path->pdata, selector->path->len, &present);
        if (value == NULL)
                value = "";

        bool equal = !selector->value_has_nul && g_strcmp0(value, selector->value) == 0;
        switch (selector->operator) {
        case OPERATOR_PRESENT:
                return present;
        case OPERATOR_EQUAL:
                return present && equal;
        case OPERATOR_NOT_EQUAL:
                return !equal;
        case OPERATOR_MATCHES:
                return regex_finds(selector->regex, value);
        }
        g_assert_not_reached();
}

static bool selectors_match(const GPtrArray *selectors, filter_field field, void *object)
{
        for (guint i = 0; i < selectors->len; i++)
                if (!selector_match(selectors->pdata[i], field, object))
                        return false;
        return true;
}

bool filter_match(const struct filter *filter, filter_field field, void *object)
{
        for (guint i = 0; i < filter->alternatives->len; i++)
                if (selectors_match(filter->alternatives->pdata[i], field, object))
                        return true;
        return filter->alternatives->len == 0;
}

bool filter_path_is(const char *const *path, size_t n, const char *key)
{
        for (size_t i = 0; i < n; i++) {
                if (i > 0 && *key++ != '.')
                        return false;
                size_t length = strlen(path[i]);
                if (strncmp(key, path[i], length) != 0)
                        return false;
                key += length;
        }
        return *key == 0;
}
