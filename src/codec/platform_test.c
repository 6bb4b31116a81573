// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "codec/platform.h"

static struct platform parse(const char *text)
{
        struct platform platform;
        g_autoptr(GError) error = NULL;
        g_assert_true(platform_parse(text, &platform, &error));
        g_assert_no_error(error);
        return platform;
}

static void platform_has_a_normal_form(void)
{
        static const struct {
                const char *text, *normal;
        } cases[] = {{"linux/x86_64", "linux/amd64"}, {"linux/aarch64", "linux/arm64"},
                {"linux/arm64/v8", "linux/arm64"}, {"linux/arm", "linux/arm/v7"}, {"linux/arm/6", "linux/arm/v6"},
                {"linux/armhf", "linux/arm/v7"}, {"Linux/AMD64/v1", "linux/amd64"},
                {"linux/amd64/v3", "linux/amd64/v3"}, {"windows/amd64", "windows/amd64"}};
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *text = platform_format(parse(cases[i].text));
                g_assert_cmpstr(text, ==, cases[i].normal);
        }
        g_assert_cmpstr(parse("arm64").architecture, ==, "arm64");
        g_assert_cmpstr(parse("arm64").os, ==, "linux");
        g_assert_cmpstr(parse("freebsd").os, ==, "freebsd");
}

static void platform_refuses_malformed(void)
{
        static const char *const cases[] = {
                "", "/", "linux/", "linux/amd64/v1/x", "no-such", "li nux/amd64", "linux/..\n"};
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autoptr(GError) error = NULL;
                struct platform platform;
                g_assert_false(platform_parse(cases[i], &platform, &error));
                g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        }
}

static void platform_prefers_the_nearest(void)
{
        struct platform v7 = parse("linux/arm/v7");
        g_assert_cmpint(platform_match(v7, parse("linux/arm/v7")), >, platform_match(v7, parse("linux/arm/v6")));
        g_assert_cmpint(platform_match(v7, parse("linux/arm/v6")), >, platform_match(v7, parse("linux/arm/v5")));
        g_assert_cmpint(platform_match(v7, parse("linux/arm/v5")), >, 0);
        g_assert_cmpint(platform_match(v7, parse("linux/arm/v8")), ==, 0);
        g_assert_cmpint(platform_match(parse("linux/arm64"), v7), >, 0);
        g_assert_cmpint(platform_match(parse("linux/amd64"), parse("linux/386")), ==, 0);
        g_assert_cmpint(platform_match(parse("linux/amd64"), parse("linux/amd64/v2")), ==, 0);
        g_assert_cmpint(platform_match(parse("linux/amd64/v3"), parse("linux/amd64")), >, 0);
        g_assert_cmpint(platform_match(parse("linux/amd64"), parse("windows/amd64")), ==, 0);
        g_assert_cmpint(platform_match(platform_host(), platform_host()), >, 0);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/platform/has_a_normal_form", platform_has_a_normal_form);
        g_test_add_func("/platform/refuses_malformed", platform_refuses_malformed);
        g_test_add_func("/platform/prefers_the_nearest", platform_prefers_the_nearest);
        return g_test_run();
}
