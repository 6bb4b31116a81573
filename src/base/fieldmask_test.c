// SPDX-License-Identifier: Apache-2.0
#include "base/fieldmask.h"

#include <glib.h>

static const char *const paths[] = {"image", "labels.a.b", "labels.", "labelsx.c", "spec.process"};
static char *const *const mask = (char *const *)paths;

static void has_names_whole_fields_only(void)
{
        g_assert_true(fieldmask_has(mask, G_N_ELEMENTS(paths), "image"));
        g_assert_false(fieldmask_has(mask, G_N_ELEMENTS(paths), "labels"));
        g_assert_false(fieldmask_has(mask, G_N_ELEMENTS(paths), "spec"));
        g_assert_false(fieldmask_has(mask, G_N_ELEMENTS(paths), "imag"));
        g_assert_false(fieldmask_has(NULL, 0, "image"));
}

static void key_is_all_after_the_first_dot(void)
{
        g_assert_cmpstr(fieldmask_key("labels.a.b", "labels"), ==, "a.b");
        g_assert_cmpstr(fieldmask_key("labels.io.x/y.z", "labels"), ==, "io.x/y.z");
        g_assert_cmpstr(fieldmask_key("labels.", "labels"), ==, "");
        g_assert_null(fieldmask_key("labels", "labels"));
        g_assert_null(fieldmask_key("labelsx.c", "labels"));
        g_assert_null(fieldmask_key("label", "labels"));
        g_assert_null(fieldmask_key("", "labels"));
}

static void has_keys_looks_at_every_path(void)
{
        g_assert_true(fieldmask_has_keys(mask, G_N_ELEMENTS(paths), "labels"));
        g_assert_true(fieldmask_has_keys(mask, G_N_ELEMENTS(paths), "spec"));
        g_assert_false(fieldmask_has_keys(mask, G_N_ELEMENTS(paths), "image"));
        g_assert_false(fieldmask_has_keys(mask, 1, "labels"));
}

static void unknown_is_the_first_that_is_not_listed(void)
{
        static const char *const fields[] = {"image", "spec", NULL}, *const maps[] = {"labels", NULL},
                                 *const none[] = {NULL};
        g_assert_cmpstr(fieldmask_unknown(mask, G_N_ELEMENTS(paths), fields, maps), ==, "labelsx.c");
        g_assert_cmpstr(fieldmask_unknown(mask, 3, fields, none), ==, "labels.a.b");
        g_assert_null(fieldmask_unknown(mask, 3, fields, maps));
        g_assert_cmpstr(fieldmask_unknown(mask, 1, none, maps), ==, "image");
        g_assert_null(fieldmask_unknown(NULL, 0, none, none));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/fieldmask/has_names_whole_fields_only", has_names_whole_fields_only);
        g_test_add_func("/fieldmask/key_is_all_after_the_first_dot", key_is_all_after_the_first_dot);
        g_test_add_func("/fieldmask/has_keys_looks_at_every_path", has_keys_looks_at_every_path);
        g_test_add_func("/fieldmask/unknown_is_the_first_that_is_not_listed", unknown_is_the_first_that_is_not_listed);
        return g_test_run();
}
