// SPDX-License-Identifier: Apache-2.0
#include "base/fd.h"
#include "sys/sealed_program.h"
#include "sys/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

enum { LIMIT_BYTES = 64 * 1024 * 1024 };

static void runs_as_a_copy_that_nobody_can_change(void)
{
        fd_auto int fd = sealed_program_open("sh", LIMIT_BYTES);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(pwrite(fd, "x", 1, 0), ==, -1);
        g_assert_cmpint(errno, ==, EPERM);
        g_assert_cmpint(ftruncate(fd, 0), ==, -1);
        struct spawn_output output = {0};
        // A descriptor at the copy's own number, and at the first one that is free.
        for (int to = 3; to <= fd; to += MAX(fd - 3, 1)) {
                struct spawn_fd passed[] = {{STDIN_FILENO, to}};
                struct spawn_options options = {
                        .path = "/no/such/program",
                        .program_fd = fd,
                        .argv = (const char *const[]){"sh", "-c",
                                "readlink /proc/$$/exe; ls /proc/$$/fd | tr '\\n' ' '", NULL},
                        .fds = passed,
                        .n_fds = 1,
                };
                g_assert_true(spawn_collect(&options, LIMIT_BYTES, 20000, &output, NULL));
                g_autofree char *expected = g_strdup_printf("/memfd:sh (deleted)\n0 1 2 %d ", to);
                g_assert_cmpstr(output.out->str, ==, expected);
                spawn_output_done(&output);
        }
}

static void falls_back_to_the_path(void)
{
        struct spawn_output output = {0};
        fd_auto int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        struct spawn_options options = {
                .path = "sh", .program_fd = fd, .argv = (const char *const[]){"sh", "-c", "exit 3", NULL}};
        g_assert_true(spawn_collect(&options, LIMIT_BYTES, 20000, &output, NULL));
        g_assert_cmpint(child_exit_code(output.status), ==, 3);
        spawn_output_done(&output);
}

static void takes_no_scripts_and_nothing_large(void)
{
        g_autofree char *directory = g_dir_make_tmp("sealed-XXXXXX", NULL);
        g_autofree char *script = g_build_filename(directory, "script", NULL);
        g_assert_true(g_file_set_contents_full(script, "#!/bin/sh\n", -1, 0, 0755, NULL));
        g_assert_cmpint(sealed_program_open(script, LIMIT_BYTES), ==, -1);
        g_assert_cmpint(sealed_program_open("sh", 1000), ==, -1);
        g_assert_cmpint(sealed_program_open("no-such-program", LIMIT_BYTES), ==, -1);

        g_autofree char *before = sealed_program_identity(script);
        g_assert_true(g_file_set_contents_full(script, "#!/bin/sh\n:", -1, 0, 0755, NULL));
        g_autofree char *after = sealed_program_identity(script);
        g_assert_cmpstr(before, !=, after);
        g_assert_null(sealed_program_identity("no-such-program"));
        g_unlink(script);
        g_rmdir(directory);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/sealed_program/runs_as_a_copy_that_nobody_can_change", runs_as_a_copy_that_nobody_can_change);
        g_test_add_func("/sealed_program/falls_back_to_the_path", falls_back_to_the_path);
        g_test_add_func("/sealed_program/takes_no_scripts_and_nothing_large", takes_no_scripts_and_nothing_large);
        return g_test_run();
}
