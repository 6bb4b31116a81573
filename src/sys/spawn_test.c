// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "base/fd.h"
#include "sys/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct spawn_output run_shell(const char *script, const struct spawn_fd *fds, size_t n_fds)
{
        struct spawn_output output = {0};
        g_autoptr(GError) error = NULL;
        struct spawn_options options = {
                .path = "sh", .argv = (const char *const[]){"sh", "-c", script, NULL}, .fds = fds, .n_fds = n_fds};
        g_assert_true(spawn_collect(&options, 64 * 1024, 20000, &output, &error));
        g_assert_no_error(error);
        return output;
}

static void spawn_passes_exit_code_and_output(void)
{
        struct spawn_output output = run_shell("echo out; echo err >&2; exit 7", NULL, 0);
        g_assert_cmpint(child_exit_code(output.status), ==, 7);
        g_assert_cmpstr(output.out->str, ==, "out\n");
        g_assert_cmpstr(output.err->str, ==, "err\n");
        spawn_output_done(&output);
}

static void spawn_reports_death_by_signal(void)
{
        struct spawn_output output = run_shell("kill -TERM $$", NULL, 0);
        g_assert_cmpint(child_exit_code(output.status), ==, 128 + SIGTERM);
        spawn_output_done(&output);
}

static void spawn_passes_only_named_descriptors(void)
{
        int fds[2];
        g_assert_cmpint(pipe(fds), ==, 0);
        // Sources and targets overlap: 3 and 4 swap places whatever numbers the pipe got.
        struct spawn_fd passed[] = {{fds[0], fds[1]}, {fds[1], fds[0]}};
        g_autofree char *script =
                g_strdup_printf("echo hi >&%d; read x <&%d; echo $x; ls /proc/self/fd | tr '\\n' ' '", fds[0], fds[1]);
        struct spawn_output output = run_shell(script, passed, 2);
        int low = MIN(fds[0], fds[1]), high = MAX(fds[0], fds[1]);
        // ls has one more: the directory it reads.
        g_autofree char *head = g_strdup_printf("hi\n0 1 2 %s%d %d ", low > 3 ? "3 " : "", low, high);
        g_assert_true(g_str_has_prefix(output.out->str, head));
        g_assert_cmpint((int)strlen(output.out->str), <=, (int)strlen(head) + 3);
        spawn_output_done(&output);
        fd_close(&fds[0]);
        fd_close(&fds[1]);
}

static void spawn_says_what_is_missing(void)
{
        g_autoptr(GError) error = NULL;
        struct child child;
        struct spawn_options options = {.path = "no-such-program", .argv = (const char *const[]){"x", NULL}};
        g_assert_false(spawn(&options, &child, &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
        g_clear_error(&error);
        options.path = "/etc/passwd";
        g_assert_false(spawn(&options, &child, &error));
        g_assert_true(error_is(error, ERROR_PERMISSION_DENIED));
        g_clear_error(&error);
        options.path = "/bin/true";
        options.cwd = "/no/such/directory";
        g_assert_false(spawn(&options, &child, &error));
        g_assert_nonnull(strstr(error->message, "chdir"));
}

static void spawn_collect_ends_what_takes_too_long(void)
{
        g_autoptr(GError) error = NULL;
        struct spawn_output output = {0};
        struct spawn_options options = {.path = "sleep", .argv = (const char *const[]){"sleep", "600", NULL}};
        g_assert_false(spawn_collect(&options, 100, 20, &output, &error));
        g_assert_true(error_is(error, ERROR_DEADLINE_EXCEEDED));
}

static void orphans_are_reaped_and_own_children_are_not(void)
{
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        // The shell leaves a child behind that ends when the pipe does, and prints its number.
        int fds[2];
        g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
        struct spawn_fd passed = {fds[0], 5};
        struct spawn_output output = run_shell("(read x <&5; exit 3) >/dev/null 2>&1 & echo $!", &passed, 1);
        pid_t orphan = atoi(output.out->str);
        spawn_output_done(&output);
        struct child own;
        struct spawn_options options = {.path = "true", .argv = (const char *const[]){"true", NULL}};
        fd_close(&fds[0]);
        fd_close(&fds[1]);
        siginfo_t info = {0};
        g_assert_cmpint(waitid(P_PID, (id_t)orphan, &info, WEXITED | WNOWAIT), ==, 0);
        g_assert_false(child_reap_orphans());
        g_assert_cmpint(waitid(P_PID, (id_t)orphan, &info, WEXITED | WNOWAIT), ==, -1);

        g_assert_true(spawn(&options, &own, NULL));
        g_assert_cmpint(waitid(P_PID, (id_t)own.pid, &info, WEXITED | WNOWAIT), ==, 0);
        g_assert_true(child_reap_orphans());
        int status;
        g_assert_true(child_wait(&own, &status, NULL));
        g_assert_cmpint(child_exit_code(status), ==, 0);
        fd_close(&own.pidfd);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/spawn/passes_exit_code_and_output", spawn_passes_exit_code_and_output);
        g_test_add_func("/spawn/reports_death_by_signal", spawn_reports_death_by_signal);
        g_test_add_func("/spawn/passes_only_named_descriptors", spawn_passes_only_named_descriptors);
        g_test_add_func("/spawn/says_what_is_missing", spawn_says_what_is_missing);
        g_test_add_func("/spawn/collect_ends_what_takes_too_long", spawn_collect_ends_what_takes_too_long);
        g_test_add_func(
                "/child/orphans_are_reaped_and_own_children_are_not", orphans_are_reaped_and_own_children_are_not);
        return g_test_run();
}
