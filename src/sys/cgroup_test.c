// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "sys/cgroup.h"

#include <unistd.h>

static void test_finds_numbers_by_whole_key(void)
{
        const char *text = "oom 3\noom_kill 7\nlow 0\n";
        uint64_t value;
        g_assert_true(cgroup_find_number(text, "oom_kill", &value));
        g_assert_cmpuint(value, ==, 7);
        g_assert_true(cgroup_find_number(text, "oom", &value));
        g_assert_cmpuint(value, ==, 3);
        g_assert_false(cgroup_find_number(text, "kill", &value));
        g_assert_false(cgroup_find_number("", "oom", &value));
}

static void test_finds_own_cgroup(void)
{
        g_autoptr(GError) error = NULL;
        AUTO(cgroup) cgroup = cgroup_of_process(getpid(), &error);
        g_assert_no_error(error);
        const char *directory = cgroup_directory(cgroup, "memory");
        if (directory == NULL) {
                g_test_skip("no cgroup file system");
                return;
        }
        g_autofree char *procs = cgroup_read(cgroup, "memory", "cgroup.procs");
        g_assert_nonnull(procs);
        g_assert_null(cgroup_read(cgroup, "memory", "no-such-file"));
}

static void test_tells_that_a_process_is_gone(void)
{
        g_autoptr(GError) error = NULL;
        g_assert_null(cgroup_of_process(0x3fffffff, &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/cgroup/finds_numbers_by_whole_key", test_finds_numbers_by_whole_key);
        g_test_add_func("/cgroup/finds_own_cgroup", test_finds_own_cgroup);
        g_test_add_func("/cgroup/tells_that_a_process_is_gone", test_tells_that_a_process_is_gone);
        return g_test_run();
}
