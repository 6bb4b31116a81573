// SPDX-License-Identifier: Apache-2.0
#include "cli/flags.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct skiff_mount *last(const struct mount_list *flags)
{
        return &g_array_index(flags->mounts, struct skiff_mount, flags->mounts->len - 1);
}

static char *options_of(const struct skiff_mount *mount)
{
        return g_strjoinv(",", (char **)mount->options);
}

static void test_volumes(void)
{
        struct mount_list flags;
        mount_list_init(&flags);
        g_assert_true(mount_list_add_volume(&flags, "/a/../b:/c", NULL));
        g_assert_cmpstr(last(&flags)->source, ==, "/b");
        g_assert_cmpstr(last(&flags)->destination, ==, "/c");
        g_autofree char *plain = options_of(last(&flags));
        g_assert_cmpstr(plain, ==, "rbind");

        g_assert_true(mount_list_add_volume(&flags, "./x:/y:ro,bind", NULL));
        g_assert_true(g_path_is_absolute(last(&flags)->source));
        g_assert_true(g_str_has_suffix(last(&flags)->source, "/x"));
        g_autofree char *more = options_of(last(&flags));
        g_assert_cmpstr(more, ==, "ro,bind");
        g_assert_cmpuint(flags.mounts->len, ==, 2);
        mount_list_done(&flags);
}

static void test_bad_volumes(void)
{
        static const char *const bad[] = {"", "/a", "/a:", "/a:b", ":/b", "name:/b", "/a:/b:Ro", "/a:/b:ro,z"};
        struct mount_list flags;
        mount_list_init(&flags);
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_autoptr(GError) error = NULL;
                g_assert_false(mount_list_add_volume(&flags, bad[i], &error));
                g_assert_nonnull(strstr(error->message, bad[i]));
        }
        g_assert_cmpuint(flags.mounts->len, ==, 0);
        mount_list_done(&flags);
}

static void test_mounts(void)
{
        struct mount_list flags;
        mount_list_init(&flags);
        g_assert_true(mount_list_add_mount(&flags, "type=bind,src=/a,dst=/b,readonly", NULL));
        g_assert_cmpstr(last(&flags)->type, ==, "bind");
        g_autofree char *bind = options_of(last(&flags));
        g_assert_cmpstr(bind, ==, "rbind,ro");

        g_assert_true(mount_list_add_mount(&flags, "type=tmpfs,target=/t,tmpfs-size=1m,options=nosuid:mode=700", NULL));
        g_assert_cmpstr(last(&flags)->type, ==, "tmpfs");
        g_assert_null(last(&flags)->source);
        g_autofree char *tmpfs = options_of(last(&flags));
        g_assert_cmpstr(tmpfs, ==, "size=1m,nosuid,mode=700");

        static const char *const bad[] = {"", "src=/a", "dst=/b", "src=/a,dst=b", "src=/a,dst=/b,colour=red", "type"};
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
                g_assert_false(mount_list_add_mount(&flags, bad[i], NULL));
        mount_list_done(&flags);
}

static void test_sizes(void)
{
        static const struct {
                const char *text;
                int64_t bytes;
        } good[] = {{"1", 1}, {"100b", 100}, {"64m", 64 << 20}, {"64M", 64 << 20}, {"64MB", 64 << 20}, {"1.5k", 1536},
                {"2GiB", INT64_C(2) << 30}, {"1t", INT64_C(1) << 40}};
        static const char *const bad[] = {"", "m", "-1", "1x", "1mm", "0", "nan", "inf", "1e30", " 1"};
        for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
                int64_t bytes = 0;
                g_assert_true(parse_size(good[i].text, &bytes, NULL));
                g_assert_cmpint(bytes, ==, good[i].bytes);
        }
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                int64_t bytes = -7;
                g_assert_false(parse_size(bad[i], &bytes, NULL));
                g_assert_cmpint(bytes, ==, -7);
        }
}

static void test_env(void)
{
        g_setenv("FLAGS_TEST", "here", TRUE);
        g_unsetenv("FLAGS_TEST_NONE");
        g_autofree char *path = g_build_filename(g_get_tmp_dir(), "flags-test-XXXXXX", NULL);
        int fd = g_mkstemp(path);
        g_assert_cmpint(fd, >=, 0);
        close(fd);
        g_assert_true(g_file_set_contents(path, "# note\n\n  A=1 2\r\nFLAGS_TEST\nFLAGS_TEST_NONE\nB=x=y\n", -1, NULL));
        g_autoptr(GPtrArray) variables = g_ptr_array_new_with_free_func(g_free);
        g_assert_true(read_env_file(path, variables, NULL));
        g_ptr_array_add(variables, NULL);
        g_autofree char *all = g_strjoinv("|", (char **)variables->pdata);
        g_assert_cmpstr(all, ==, "A=1 2|FLAGS_TEST=here|B=x=y");
        g_assert_false(add_env(variables, "=x", NULL));
        g_assert_false(add_env(variables, "", NULL));

        g_assert_true(g_file_set_contents(path, "A=1\n=2\n", -1, NULL));
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) others = g_ptr_array_new_with_free_func(g_free);
        g_assert_false(read_env_file(path, others, &error));
        g_assert_nonnull(strstr(error->message, ":2:"));
        unlink(path);
}

static void test_signals(void)
{
        g_assert_cmpint(parse_signal("TERM"), ==, SIGTERM);
        g_assert_cmpint(parse_signal("sigint"), ==, SIGINT);
        g_assert_cmpint(parse_signal("9"), ==, SIGKILL);
        g_assert_cmpint(parse_signal("0"), ==, 0);
        g_assert_cmpint(parse_signal("-3"), ==, 0);
        g_assert_cmpint(parse_signal("999"), ==, 0);
        g_assert_cmpint(parse_signal("NOPE"), ==, 0);
        g_assert_cmpint(parse_signal(""), ==, 0);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/flags/volumes_are_bind_mounts_of_absolute_paths", test_volumes);
        g_test_add_func("/flags/volumes_without_paths_are_refused", test_bad_volumes);
        g_test_add_func("/flags/mounts_take_names_of_docker_and_ctr", test_mounts);
        g_test_add_func("/flags/sizes_are_powers_of_1024", test_sizes);
        g_test_add_func("/flags/env_files_are_lines_of_variables", test_env);
        g_test_add_func("/flags/signals_by_name_and_number", test_signals);
        return g_test_run();
}
