// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "codec/toml.h"

#include <string.h>

static void toml_round_trips(void)
{
        const char *text =
                "version = 4\nlist = ['a', 'b']\n[plugins.'io.containerd.gc.v1.scheduler']\nratio = 0.5\non = true\n";
        g_autoptr(GError) error = NULL;
        json_t *first = toml_parse(text, strlen(text), "config.toml", &error);
        g_assert_no_error(error);
        json_t *plugin = json_object_get(json_object_get(first, "plugins"), "io.containerd.gc.v1.scheduler");
        g_assert_true(json_is_true(json_object_get(plugin, "on")));
        g_assert_cmpfloat(json_real_value(json_object_get(plugin, "ratio")), ==, 0.5);
        g_autofree char *printed = toml_format(first);
        json_t *second = toml_parse(printed, strlen(printed), "printed", &error);
        g_assert_no_error(error);
        g_assert_true(json_equal(first, second));
        json_decref(first);
        json_decref(second);
}

static void toml_says_where_it_is_wrong(void)
{
        g_autoptr(GError) error = NULL;
        g_assert_null(toml_parse("a = 1\nb = = 2\n", 14, "config.toml", &error));
        g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        g_assert_true(g_str_has_prefix(error->message, "config.toml:2:"));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/toml/round_trips", toml_round_trips);
        g_test_add_func("/toml/says_where_it_is_wrong", toml_says_where_it_is_wrong);
        return g_test_run();
}
