// SPDX-License-Identifier: Apache-2.0
#include "remote/challenge.h"

static void reads_scheme_and_parameters(void)
{
        struct challenge challenge;
        g_assert_true(challenge_parse("Bearer realm=\"https://auth.example/token\", SERVICE=registry , "
                                      "scope=\"repository:a/b:pull,push\"",
                &challenge));
        g_assert_cmpint(challenge.scheme, ==, CHALLENGE_BEARER);
        g_assert_cmpstr(challenge_parameter(&challenge, "realm"), ==, "https://auth.example/token");
        g_assert_cmpstr(challenge_parameter(&challenge, "service"), ==, "registry");
        g_assert_cmpstr(challenge_parameter(&challenge, "scope"), ==, "repository:a/b:pull,push");
        g_assert_null(challenge_parameter(&challenge, "error"));
        challenge_done(&challenge);
}

static void reads_quoted_pairs(void)
{
        struct challenge challenge;
        g_assert_true(challenge_parse("basic realm=\"a \\\"b\\\\c\"", &challenge));
        g_assert_cmpint(challenge.scheme, ==, CHALLENGE_BASIC);
        g_assert_cmpstr(challenge_parameter(&challenge, "realm"), ==, "a \"b\\c");
        challenge_done(&challenge);
}

static void stops_at_what_it_cannot_read(void)
{
        static const char *const cases[] = {"Bearer realm=\"x\", ;", "Bearer realm=\"x\" scope=y",
                "Bearer realm=x,,a=b", "Bearer realm=x, service"};
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                struct challenge challenge;
                g_assert_true(challenge_parse(cases[i], &challenge));
                g_assert_cmpstr(challenge_parameter(&challenge, "realm"), ==, "x");
                g_assert_cmpint(g_hash_table_size(challenge.parameters), ==, 1);
                challenge_done(&challenge);
        }
        struct challenge challenge;
        g_assert_true(challenge_parse("Bearer realm=\"never ended\\", &challenge));
        g_assert_cmpstr(challenge_parameter(&challenge, "realm"), ==, "");
        challenge_done(&challenge);
}

static void refuses_other_schemes(void)
{
        struct challenge challenge;
        g_assert_false(challenge_parse("", &challenge));
        g_assert_false(challenge_parse("Negotiate", &challenge));
        g_assert_false(challenge_parse("=\"", &challenge));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/challenge/reads_scheme_and_parameters", reads_scheme_and_parameters);
        g_test_add_func("/challenge/reads_quoted_pairs", reads_quoted_pairs);
        g_test_add_func("/challenge/stops_at_what_it_cannot_read", stops_at_what_it_cannot_read);
        g_test_add_func("/challenge/refuses_other_schemes", refuses_other_schemes);
        return g_test_run();
}
