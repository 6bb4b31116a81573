// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "base/filter.h"

#include <string.h>

struct object {
        const char *name;
        const char *size;
        const char *labels[5][2];
};

static const struct object objects[] = {
        {"alpine", "", {{"env", "prod"}, {"team.io/owner", "a, b"}}},
        {"busybox", "42", {{"env", "test"}}},
        {"busybox-musl", "7", {{"we \"quote\" \\ this", "x"}}},
        {"caf\xc3\xa9", "\xff", {{"", "nameless"}}},
        {"", "line\nbreak", {{NULL}}},
};

static const char *object_field(void *data, const char *const *path, size_t n, bool *ret_present)
{
        const struct object *object = data;
        const char *value = NULL;
        g_assert_false(*ret_present);
        g_assert_cmpuint(n, >, 0);
        if (filter_path_is(path, n, "name"))
                value = object->name;
        else if (filter_path_is(path, n, "spec.size"))
                value = object->size;
        else if (filter_path_is(path, 1, "labels")) {
                for (size_t i = 0; object->labels[i][0] != NULL; i++)
                        if (filter_path_is(path + 1, n - 1, object->labels[i][0]))
                                value = object->labels[i][1];
                *ret_present = value != NULL;
                return value;
        }
        *ret_present = value != NULL && *value != 0;
        return value;
}

// The numbers of the objects that match, as a text: "013".
static char *matches(const char *const *texts, size_t n)
{
        g_autoptr(GError) error = NULL;
        AUTO(filter) filter = filter_parse((char *const *)texts, n, &error);
        g_assert_no_error(error);
        GString *numbers = g_string_new(NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(objects); i++)
                if (filter_match(filter, object_field, (void *)&objects[i]))
                        g_string_append_printf(numbers, "%zu", i);
        return g_string_free(numbers, FALSE);
}

static void assert_matches(const char *text, const char *expected)
{
        const char *texts[] = {text};
        g_autofree char *found = matches(texts, 1);
        if (!g_str_equal(found, expected))
                g_error("filter %s matches %s, not %s", text, found, expected);
}

static void assert_error(const char *text, const char *expected)
{
        char *texts[] = {(char *)text};
        g_autoptr(GError) error = NULL;
        g_assert_null(filter_parse(texts, 1, &error));
        g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        g_autofree char *whole = g_strdup_printf("filters: parse error: %s: invalid argument", expected);
        g_assert_cmpstr(error->message, ==, whole);
}

static void none_and_empty_match_all(void)
{
        g_autofree char *none = matches(NULL, 0);
        g_assert_cmpstr(none, ==, "01234");
        assert_matches("", "01234");
        const char *texts[] = {"name==alpine", ""};
        g_autofree char *either = matches(texts, 2);
        g_assert_cmpstr(either, ==, "01234");
}

static void one_of_several_is_enough(void)
{
        const char *texts[] = {"name==alpine", "labels.env==test,name", "name==nobody"};
        g_autofree char *found = matches(texts, 3);
        g_assert_cmpstr(found, ==, "01");
}

static void comma_means_all(void)
{
        assert_matches("name,labels.env", "01");
        assert_matches("name~=busybox,labels.env", "1");
        assert_matches("name==alpine,labels.env==test", "");
        assert_matches("name, spec.size", "123");
}

static void presence_is_what_the_field_says(void)
{
        assert_matches("name", "0123");
        assert_matches("spec.size", "1234");
        assert_matches("spec", "");
        assert_matches("labels", "3");
        assert_matches("labels.\"\"", "3");
        assert_matches("labels.team.io", "");
}

static void equality_needs_presence_inequality_does_not(void)
{
        assert_matches("name==alpine", "0");
        assert_matches("name==\"\"", "");
        assert_matches("name!=alpine", "1234");
        assert_matches("nosuchfield!=x", "01234");
        assert_matches("nosuchfield!=\"\"", "");
        assert_matches("labels.env!=prod", "1234");
}

static void spaces_around_operators_are_skipped(void)
{
        assert_matches("name == alpine", "0");
        assert_matches("\n\tname\v\f\r ==\xc2\x85\xe2\x80\x83"
                       "alpine",
                "0");
        assert_matches(" name", "0123");
        assert_error("name==alpine ", "[name==alpine >| |< ]: unexpected input:  ");
}

static void quoted_keys_and_values(void)
{
        assert_matches("labels.\"team.io/owner\"==\"a, b\"", "0");
        assert_matches("labels.team.\"io/owner\"", "0");
        assert_matches("labels.\"we \\\"quote\\\" \\\\ this\"", "2");
        assert_matches("\"name\"==alpine", "0");
        assert_matches("name==\"caf\xc3\xa9\"", "3");
        assert_matches("name==caf\xc3\xa9", "3");
        assert_matches("name==\"caf\\u00e9\"", "3");
        assert_matches("name==\"caf\\U000000e9\"", "3");
        assert_matches("name==\"caf\\xc3\\251\"", "3");
        assert_matches("spec.size==\"line\\nbreak\"", "4");
        assert_matches("name==\"\\141lpine\"", "0");
}

static void value_goes_up_to_a_comma_or_space(void)
{
        assert_matches("name==busybox-musl", "2");
        assert_matches("labels.env==x=\"/|.y", "");
        assert_matches("name~=^(alp|bus).+x$", "1");
        assert_error("name==a b", "[name==a >| |< b]: unexpected input:  ");
}

static void regular_expressions_search(void)
{
        assert_matches("name~=usy", "12");
        assert_matches("name~=^busybox$", "1");
        assert_matches("name~=/^b.{6,}$/", "12");
        assert_matches("name~=|a[lf]|", "03");
        assert_matches("labels.\"team.io/owner\"~=/a, b\\/?/", "0");
        assert_matches("labels.\"team.io/owner\"~=\"a, b\"", "0");
        assert_matches("name~=caf.$", "3");
        assert_matches("nosuchfield~=^$", "01234");
        assert_matches("spec.size~=^.$", "23"); // what is not UTF-8 counts as one character
        assert_matches("spec.size~=line$", "");
        assert_matches("spec.size~=(?m)line$", "4");
}

static void bad_regular_expressions_match_nothing(void)
{
        assert_matches("name~=[", "");
        assert_matches("name~=(?P<x", "");
        assert_matches("name~=\"\\xff\"", "");
        assert_matches("name~=\"a\\x00\"", "");
}

static bool matches_long_value(const char *text, const char *value)
{
        char *texts[] = {(char *)text};
        AUTO(filter) filter = filter_parse(texts, 1, NULL);
        struct object object = {.name = value};
        return filter_match(filter, object_field, &object);
}

static void exponential_expressions_end_soon(void)
{
        g_autofree char *value = g_strnfill(100, 'a');
        gint64 start = g_get_monotonic_time();
        g_assert_false(matches_long_value("name~=^(a*a*)*b$", value));
        g_assert_cmpint(g_get_monotonic_time() - start, <, 5 * G_USEC_PER_SEC);
}

static void nul_in_a_filter_equals_nothing(void)
{
        assert_matches("name==\"alpine\\x00\"", "");
        assert_matches("name!=\"alpine\\000\"", "01234");
        assert_matches("\"name\\u0000\"", "");
        assert_matches("\"name\\u0000\"!=x", "01234");
}

static void errors_show_the_place(void)
{
        assert_error("name<x", "[name >|<|< x]: expected an operator (\"==\"|\"!=\"|\"~=\")");
        assert_error("name=x", "[name >|=|< x]: unsupported operator \"=\"");
        assert_error("name===x", "[name >|=|< ==x]: unsupported operator \"===\"");
        assert_error("name==", "[name==]: expected value or quoted");
        assert_error("name==,id", "[name== >|,|< id]: expected value or quoted");
        assert_error("name==.x", "[name== >|.|< x]: expected value or quoted");
        assert_error("name,", "[name,]: expected field or quoted");
        assert_error(",name", "[ >|,|< name]: expected field or quoted");
        assert_error("labels.", "[labels.]: expected field or quoted");
        assert_error(" ", "[ ]: expected field or quoted");
        assert_error("labels.*", "[labels. >|*|< ]: expected field or quoted");
        assert_error("\xc3\xa9==x", "[ >|\xc3\xa9|< ==x]: expected field or quoted");
        assert_error("name ,id", "[name  >|,|< id]: expected an operator (\"==\"|\"!=\"|\"~=\")");
        assert_error("name==\"a\"b", "[name==\"a\" >|b|< ]: unexpected input: b");
}

static void errors_in_quotes(void)
{
        assert_error("labels.a/b==c", "[labels.a >|/|< b==c]: quoted literal not terminated");
        assert_error("name==\"a\nb\"", "[name== >|\"|< a\nb\"]: quoted literal not terminated");
        assert_error("name==\"a\\\"", "[name== >|\"|< a\\\"]: quoted literal not terminated");
        assert_error("name==\"\\q\"", "[name== >|\"|< \\q\"]: illegal escape sequence");
        assert_error("name==\"\\/\"", "[name== >|\"|< \\/\"]: illegal escape sequence");
        assert_error("name==\"\\xg0\"", "[name== >|\"|< \\xg0\"]: illegal numeric escape sequence");
        assert_error("name==\"\\u12\"", "[name== >|\"|< \\u12\"]: illegal numeric escape sequence");
        assert_error("name==\"\\777\"", "[name== >|\"|< \\777\"]: unquoting failed: quote syntax error");
        assert_error("name==\"\\U00110000\"", "[name== >|\"|< \\U00110000\"]: unquoting failed: quote syntax error");
        assert_error("name==/a/", "[name== >|/|< a/]: invalid quote encountered");
        assert_error("labels.|a|", "[labels. >|||< a|]: invalid quote encountered");
}

static void path_is_compares_joined_parts(void)
{
        static const char *const path[] = {"a", "b.c", ""};
        g_assert_true(filter_path_is(path, 1, "a"));
        g_assert_true(filter_path_is(path, 2, "a.b.c"));
        g_assert_true(filter_path_is(path, 3, "a.b.c."));
        g_assert_false(filter_path_is(path, 2, "a.b"));
        g_assert_false(filter_path_is(path, 2, "a.b.c."));
        g_assert_false(filter_path_is(path, 1, "ab"));
        g_assert_true(filter_path_is(path, 0, ""));
        g_assert_false(filter_path_is(path, 0, "a"));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/filter/none_and_empty_match_all", none_and_empty_match_all);
        g_test_add_func("/filter/one_of_several_is_enough", one_of_several_is_enough);
        g_test_add_func("/filter/comma_means_all", comma_means_all);
        g_test_add_func("/filter/presence_is_what_the_field_says", presence_is_what_the_field_says);
        g_test_add_func(
                "/filter/equality_needs_presence_inequality_does_not", equality_needs_presence_inequality_does_not);
        g_test_add_func("/filter/spaces_around_operators_are_skipped", spaces_around_operators_are_skipped);
        g_test_add_func("/filter/quoted_keys_and_values", quoted_keys_and_values);
        g_test_add_func("/filter/value_goes_up_to_a_comma_or_space", value_goes_up_to_a_comma_or_space);
        g_test_add_func("/filter/regular_expressions_search", regular_expressions_search);
        g_test_add_func("/filter/bad_regular_expressions_match_nothing", bad_regular_expressions_match_nothing);
        g_test_add_func("/filter/exponential_expressions_end_soon", exponential_expressions_end_soon);
        g_test_add_func("/filter/nul_in_a_filter_equals_nothing", nul_in_a_filter_equals_nothing);
        g_test_add_func("/filter/errors_show_the_place", errors_show_the_place);
        g_test_add_func("/filter/errors_in_quotes", errors_in_quotes);
        g_test_add_func("/filter/path_is_compares_joined_parts", path_is_compares_joined_parts);
        return g_test_run();
}
