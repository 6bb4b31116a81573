// SPDX-License-Identifier: Apache-2.0
#include "base/arena.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/identifier.h"
#include "base/words.h"

#include <string.h>

static void error_keeps_class_and_context(void)
{
        g_autoptr(GError) error = NULL;
        g_assert_false(error_fail(&error, ERROR_NOT_FOUND, "image \"%s\": not found", "x"));
        g_prefix_error(&error, "resolve: ");
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
        g_assert_cmpstr(error->message, ==, "resolve: image \"x\": not found");
}

static void errno_is_unknown(void)
{
        g_autoptr(GError) error = NULL;
        error_fail_errno(&error, ENOENT, "open %s", "/x");
        g_assert_true(error_is(error, ERROR_UNKNOWN));
        g_assert_cmpstr(error->message, ==, "open /x: no such file or directory");
}

static void clock_round_trips(void)
{
        static const struct {
                const char *text;
                int64_t ns;
        } cases[] = {
                {"1970-01-01T00:00:00Z", 0},
                {"2026-02-03T04:05:06.789Z", 1770091506 * NS_PER_SECOND + 789000000},
                {"1969-12-31T23:59:59.5Z", -500000000},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *text = clock_format_rfc3339(cases[i].ns);
                g_assert_cmpstr(text, ==, cases[i].text);
                int64_t ns;
                g_assert_true(clock_parse_rfc3339(text, &ns));
                g_assert_cmpint(ns, ==, cases[i].ns);
        }
        int64_t ns;
        g_assert_true(clock_parse_rfc3339("2026-02-03T05:05:06+01:00", &ns));
        g_assert_cmpint(ns, ==, 1770091506 * NS_PER_SECOND);
}

static void clock_refuses_malformed(void)
{
        static const char *const cases[] = {"", "2026-02-03", "2026-02-03T04:05:06", "2026-02-03T04:05:06.Z",
                "2026-02-03T04:05:06.1234567890Z", "2026-02-03T04:05:06Zx", "2026-02-03T04:05:06+1:00",
                "9999-02-03T04:05:06Z"};
        int64_t ns;
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
                g_assert_false(clock_parse_rfc3339(cases[i], &ns));
}

static void clock_parses_durations(void)
{
        static const struct {
                const char *text;
                int64_t ns;
        } cases[] = {{"0", 0}, {"0s", 0}, {"1h30m", 5400 * NS_PER_SECOND}, {"1.5s", 1500 * NS_PER_MS},
                {"-300ms", -300 * NS_PER_MS}, {"10us", 10000}};
        int64_t ns;
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_assert_true(clock_parse_duration(cases[i].text, &ns));
                g_assert_cmpint(ns, ==, cases[i].ns);
        }
        static const char *const bad[] = {"", "1", "s", "1x", "1s2", "--1s", "1e5s"};
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
                g_assert_false(clock_parse_duration(bad[i], &ns));
}

static void digest_matches_known_answers(void)
{
        g_autofree char *sha256 = digest_of_bytes(DIGEST_SHA256, "abc", 3);
        g_assert_cmpstr(sha256, ==, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        g_autofree char *sha512 = digest_of_bytes(DIGEST_SHA512, "abc", 3);
        g_assert_true(g_str_has_prefix(sha512, "sha512:ddaf35a193617abacc417349ae204131"));
        g_autofree char *sha384 = digest_of_bytes(DIGEST_SHA384, "abc", 3);
        g_assert_true(g_str_has_prefix(sha384, "sha384:cb00753f45a35e8bb5a03d699ac65007"));
        g_assert_true(digest_parse(sha256, NULL, NULL) && digest_parse(sha384, NULL, NULL) &&
                      digest_parse(sha512, NULL, NULL));
}

static void digest_goes_on_after_a_look(void)
{
        AUTO(digester) digester = digester_new(DIGEST_SHA256);
        digester_update(digester, "ab", 2);
        g_autofree char *early = digester_digest(digester);
        digester_update(digester, "c", 1);
        g_autofree char *late = digester_digest(digester);
        g_autofree char *whole = digest_of_bytes(DIGEST_SHA256, "abc", 3);
        g_assert_cmpstr(early, !=, late);
        g_assert_cmpstr(late, ==, whole);
}

static void digest_refuses_malformed(void)
{
        static const char *const cases[] = {"", "sha256", "sha256:", ":abc", "sha256:abc",
                "md5:900150983cd24fb0d6963f7d28e17f72",
                "sha256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
                "sha256:../816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"};
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autoptr(GError) error = NULL;
                g_assert_false(digest_parse(cases[i], NULL, &error));
                g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        }
}

static void identifier_rule_is_containerds(void)
{
        static const char *const good[] = {"a", "default", "k8s.io", "a-b_c.d", "A1", "0"};
        static const char *const bad[] = {"", "-a", "a-", "a..b", "a/b", ".", "..", "a b", "\xc3\xa4",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
        for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
                g_assert_true(identifier_validate(good[i], NULL));
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_autoptr(GError) error = NULL;
                g_assert_false(identifier_validate(bad[i], &error));
                g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        }
}

static void arena_keeps_what_it_gave(void)
{
        AUTO(arena) arena = arena_new();
        char *first = arena_strdup(arena, "first");
        for (size_t i = 1; i < 3000; i++) {
                unsigned char *piece = arena_alloc(arena, i);
                for (size_t k = 0; k < i; k++)
                        g_assert_cmpint(piece[k], ==, 0);
                memset(piece, 0xff, i);
        }
        g_assert_cmpstr(first, ==, "first");
}

static void words_are_merged_once_each(void)
{
        g_autofree char *merged = words_merge(",", "b,a,,b", "c,a");
        g_autofree char *alone = words_merge(" ", "two one", NULL);
        g_autofree char *none = words_merge(" ", "", "");
        g_assert_cmpstr(merged, ==, "a,b,c");
        g_assert_cmpstr(alone, ==, "one two");
        g_assert_cmpstr(none, ==, "");
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/error/keeps_class_and_context", error_keeps_class_and_context);
        g_test_add_func("/error/errno_is_unknown", errno_is_unknown);
        g_test_add_func("/clock/round_trips", clock_round_trips);
        g_test_add_func("/clock/refuses_malformed", clock_refuses_malformed);
        g_test_add_func("/clock/parses_durations", clock_parses_durations);
        g_test_add_func("/digest/matches_known_answers", digest_matches_known_answers);
        g_test_add_func("/digest/goes_on_after_a_look", digest_goes_on_after_a_look);
        g_test_add_func("/digest/refuses_malformed", digest_refuses_malformed);
        g_test_add_func("/identifier/rule_is_containerds", identifier_rule_is_containerds);
        g_test_add_func("/words/are_merged_once_each", words_are_merged_once_each);
        g_test_add_func("/arena/keeps_what_it_gave", arena_keeps_what_it_gave);
        return g_test_run();
}
