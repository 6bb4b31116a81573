// SPDX-License-Identifier: Apache-2.0
#include "base/fieldmask.h"

#include <glib.h>

static void key_is_all_after_the_first_dot(void)
{
        g_assert_cmpstr(fieldmask_key("labels.a.b", "labels"), ==, "a.b");
        g_assert_cmpstr(fieldmask_key("labels.io.x/y.z", "labels"), ==, "io.x/y.z");
        g_assert_cmpstr(fieldmask_key("labels.", "labels"), ==, "");
        g_assert_null(fieldmask_key("labels", "labels"));
        g_assert_null(fieldmask_key("labelsx.c", "labels"));
        g_assert_null(fieldmask_key("label", "labels"));
        g_assert_null(fieldmask_key("", "labels"));
        g_assert_true(fieldmask_is_of("labels", "labels") && fieldmask_is_of("labels.a", "labels"));
        g_assert_false(fieldmask_is_of("labelsx", "labels") || fieldmask_is_of("label", "labels"));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/fieldmask/key_is_all_after_the_first_dot", key_is_all_after_the_first_dot);
        return g_test_run();
}
