// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "codec/json_scan.h"
#include "codec/runtime_spec.h"

#include <string.h>

#define TEXT(text) (text), strlen(text)

static void test_changes_version_and_nothing_else(void)
{
        const char *spec = " {\"process\":{\"ociVersion\":\"no\",\"rlimits\":[{\"hard\":18446744073709551615}]},\n"
                           "  \"ociVersion\" : \"1.3.0\", \"x\":\"\\\"ociVersion\\\":1\"}\n";
        g_autofree char *changed = runtime_spec_with_version(TEXT(spec), "1.0.2");
        g_assert_cmpstr(changed, ==,
                " {\"process\":{\"ociVersion\":\"no\",\"rlimits\":[{\"hard\":18446744073709551615}]},\n"
                "  \"ociVersion\" : \"1.0.2\", \"x\":\"\\\"ociVersion\\\":1\"}\n");
        unsigned major, minor;
        g_assert_true(runtime_spec_version(TEXT(spec), &major, &minor));
        g_assert_cmpuint(major * 100 + minor, ==, 103);
        g_assert_null(runtime_spec_with_version(TEXT("{}"), "1.0.2"));
        g_assert_false(runtime_spec_version(TEXT("{\"ociVersion\":3}"), &major, &minor));
}

static void test_finds_annotations(void)
{
        const char *spec = "{\"annotations\":{\"a\":\"1\",\"group\":\"p\\u00e9\\ud83d\\ude00\\n\"},\"group\":\"no\"}";
        g_autofree char *group = runtime_spec_annotation(TEXT(spec), "group");
        g_assert_cmpstr(group, ==, "p\xc3\xa9\xf0\x9f\x98\x80\n");
        g_assert_null(runtime_spec_annotation(TEXT(spec), "b"));
        g_assert_null(runtime_spec_annotation(TEXT("{}"), "b"));
        g_assert_null(runtime_spec_annotation(TEXT("{\"annotations\":{\"b\":1}}"), "b"));
}

static void test_sees_own_pid_namespace(void)
{
        const char *own = "{\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"pid\"}]}}";
        const char *joined = "{\"linux\":{\"namespaces\":[{\"type\":\"pid\",\"path\":\"/proc/1/ns/pid\"}]}}";
        g_assert_true(runtime_spec_has_own_pid_namespace(TEXT(own)));
        g_assert_false(runtime_spec_has_own_pid_namespace(TEXT(joined)));
        g_assert_false(runtime_spec_has_own_pid_namespace(TEXT("{\"linux\":{}}")));
}

static void check_terminal(const char *spec, const char *expected)
{
        g_autofree char *changed = process_spec_with_terminal(TEXT(spec), true, NULL);
        g_assert_cmpstr(changed, ==, expected);
}

static void test_sets_terminal_of_a_process(void)
{
        check_terminal("{\"terminal\": false, \"cwd\":\"/\"}", "{\"terminal\": true, \"cwd\":\"/\"}");
        check_terminal("{\"cwd\":\"/\"}", "{\"terminal\":true,\"cwd\":\"/\"}");
        check_terminal("{ }", "{\"terminal\":true }");
        g_autoptr(GError) error = NULL;
        g_assert_null(process_spec_with_terminal(TEXT("[]"), true, &error));
        g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
}

static void test_survives_what_is_not_json(void)
{
        static const char *const wrong[] = {"", " ", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "\"\\", "}", "{} x", "[[[["};
        for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
                g_autoptr(GError) error = NULL;
                g_assert_false(runtime_spec_check(TEXT(wrong[i]), &error));
                g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        }
        struct json_span object = {TEXT("{1:2,,}")}, key, value;
        struct json_walk walk = json_walk(object);
        g_assert_false(json_walk_next(&walk, &key, &value));
        g_assert_true(walk.broken);
        static const char *const bad_strings[] = {
                "1", "\"\\u00\"", "\"\\ud800\"", "\"\\udc00x\"", "\"\\u0000\"", "\"\\q\""};
        for (size_t i = 0; i < G_N_ELEMENTS(bad_strings); i++)
                g_assert_null(json_span_string((struct json_span){TEXT(bad_strings[i])}));
}

static void test_writes_strings(void)
{
        g_autoptr(GString) out = g_string_new(NULL);
        json_append_string(out, "a\"b\\c\n\x01");
        g_assert_cmpstr(out->str, ==, "\"a\\\"b\\\\c\\u000a\\u0001\"");
        g_autofree char *back = json_span_string((struct json_span){out->str, out->len});
        g_assert_cmpstr(back, ==, "a\"b\\c\n\x01");
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/runtime_spec/changes_version_and_nothing_else", test_changes_version_and_nothing_else);
        g_test_add_func("/runtime_spec/finds_annotations", test_finds_annotations);
        g_test_add_func("/runtime_spec/sees_own_pid_namespace", test_sees_own_pid_namespace);
        g_test_add_func("/runtime_spec/sets_terminal_of_a_process", test_sets_terminal_of_a_process);
        g_test_add_func("/runtime_spec/survives_what_is_not_json", test_survives_what_is_not_json);
        g_test_add_func("/json_scan/writes_strings", test_writes_strings);
        return g_test_run();
}
