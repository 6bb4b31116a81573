// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "base/reference.h"

#define DIGEST "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void parse_splits_host_repository_object(void)
{
        static const struct {
                const char *text, *host, *repository, *object, *digest;
        } cases[] = {
                {"docker.io/library/alpine:latest", "docker.io", "library/alpine", "latest", NULL},
                {"localhost:5000/a@" DIGEST, "localhost:5000", "a", "@" DIGEST, DIGEST},
                {"h/a/b:1@" DIGEST, "h", "a/b", "1@" DIGEST, DIGEST},
                {"docker.io/library/alpine", "docker.io", "library/alpine", "", NULL},
                {"alpine", "alpine", "", "", NULL},
                {"h//a/./b:x", "h", "a/b", "x", NULL},
                {"[::1]:5000/a:b", "[::1]:5000", "a", "b", NULL},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                struct reference reference;
                g_autoptr(GError) error = NULL;
                g_assert_true(reference_parse(cases[i].text, &reference, &error));
                g_assert_cmpstr(reference.host, ==, cases[i].host);
                g_assert_cmpstr(reference.repository, ==, cases[i].repository);
                g_assert_cmpstr(reference.object, ==, cases[i].object);
                g_assert_cmpstr(reference_digest(&reference), ==, cases[i].digest);
                reference_done(&reference);
        }
}

static void parse_refuses_what_is_no_reference(void)
{
        static const struct {
                const char *text, *message;
        } cases[] = {
                {"https://docker.io/a:b", "invalid reference"},
                {"", "hostname required"},
                {"/a:b", "hostname required"},
                {"alpine:latest", "parse \"dummy://alpine:latest\": invalid port \":latest\" after host"},
                {"h/../../etc:x", "invalid reference"},
                {"h/a b:x", "invalid reference"},
                {"h/a?x=y", "invalid reference"},
                {"h\r\n/a:x", "invalid reference"},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                struct reference reference;
                g_autoptr(GError) error = NULL;
                g_assert_false(reference_parse(cases[i].text, &reference, &error));
                g_assert_cmpstr(error->message, ==, cases[i].message);
                g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        }
}

static void normalize_fills_in_dockers_defaults(void)
{
        static const struct {
                const char *text, *full, *familiar;
        } cases[] = {
                {"alpine", "docker.io/library/alpine:latest", "alpine:latest"},
                {"alpine:3", "docker.io/library/alpine:3", "alpine:3"},
                {"user/app", "docker.io/user/app:latest", "user/app:latest"},
                {"index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"},
                {"localhost/app", "localhost/app:latest", "localhost/app:latest"},
                {"localhost:5000/app:x", "localhost:5000/app:x", "localhost:5000/app:x"},
                {"ghcr.io/a/b__c--d@" DIGEST, "ghcr.io/a/b__c--d@" DIGEST, "ghcr.io/a/b__c--d@" DIGEST},
                {"alpine:3@" DIGEST, "docker.io/library/alpine@" DIGEST, "alpine:3@" DIGEST},
                {"UPPER/app:x", "UPPER/app:x", "UPPER/app:x"},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autoptr(GError) error = NULL;
                g_autofree char *full = reference_normalize(cases[i].text, &error);
                g_assert_no_error(error);
                g_autofree char *familiar = reference_familiar(cases[i].text, &error);
                g_assert_cmpstr(full, ==, cases[i].full);
                g_assert_cmpstr(familiar, ==, cases[i].familiar);
        }
}

static void normalize_refuses_bad_names(void)
{
        static const char *const cases[] = {"", "-a", "a..b", "a/", "a:", "a@sha256:12", "Alpine", "h.io:x/a",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "a:-x", "a___b", "https://a/b"};
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autoptr(GError) error = NULL;
                g_assert_null(reference_normalize(cases[i], &error));
                g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        }
}

static void oci_name_is_the_tag_or_the_whole(void)
{
        g_autofree char *tag = reference_oci_name("docker.io/library/alpine:3.1");
        g_autofree char *digest = reference_oci_name("docker.io/library/alpine@" DIGEST);
        g_autofree char *bare = reference_oci_name("my-image");
        g_assert_cmpstr(tag, ==, "3.1");
        g_assert_cmpstr(digest, ==, "docker.io/library/alpine@" DIGEST);
        g_assert_cmpstr(bare, ==, "my-image");
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/reference/parse_splits_host_repository_object", parse_splits_host_repository_object);
        g_test_add_func("/reference/parse_refuses_what_is_no_reference", parse_refuses_what_is_no_reference);
        g_test_add_func("/reference/normalize_fills_in_dockers_defaults", normalize_fills_in_dockers_defaults);
        g_test_add_func("/reference/normalize_refuses_bad_names", normalize_refuses_bad_names);
        g_test_add_func("/reference/oci_name_is_the_tag_or_the_whole", oci_name_is_the_tag_or_the_whole);
        return g_test_run();
}
