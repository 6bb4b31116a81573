// SPDX-License-Identifier: Apache-2.0
#include "cli/cli.h"

#define CREATE "failed to create shim task: OCI runtime create failed: "
#define RUNC CREATE "runc create failed: unable to start container process: "

static void test_exit_codes(void)
{
        static const struct {
                int code;
                const char *text;
        } cases[] = {
                {EXIT_NOT_FOUND, CREATE "executable file `no` not found in $PATH: No such file or directory"},
                {EXIT_NOT_FOUND, RUNC "exec: \"no\": executable file not found in $PATH"},
                {EXIT_NOT_FOUND, RUNC "exec: \"/no\": stat /no: no such file or directory"},
                {EXIT_NOT_FOUND, "OCI runtime exec failed: executable file `/no` not found: No such file or directory"},
                {EXIT_NOT_EXECUTABLE, CREATE "open executable: Permission denied"},
                {EXIT_NOT_EXECUTABLE, CREATE "open executable: Operation not permitted"},
                {EXIT_NOT_EXECUTABLE, CREATE "the path `/etc` is not a regular file: Operation not permitted"},
                {EXIT_NOT_EXECUTABLE, RUNC "exec: \"/etc/passwd\": permission denied"},
                {EXIT_OWN_FAILURE, CREATE "start bogus: executable file not found in $PATH"},
                {EXIT_OWN_FAILURE,
                        CREATE "unable to retrieve OCI runtime error (open log.json: no such file or directory): "
                               "exec: \"none\": executable file not found in $PATH"},
                {EXIT_OWN_FAILURE, CREATE "error stat'ing file `/none`: No such file or directory"},
                {EXIT_OWN_FAILURE, RUNC "error during container init: error mounting \"/none\" to rootfs at \"/x\": "
                                        "stat /none: no such file or directory"},
                {EXIT_OWN_FAILURE, "OCI runtime exec failed: chdir `/none`: No such file or directory"},
                {EXIT_OWN_FAILURE, "image \"runtime\": not found"},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_test_message("%s", cases[i].text);
                g_assert_cmpint(cli_exit_code(cases[i].text), ==, cases[i].code);
        }
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/cli/exit_codes_tell_a_bad_command_from_a_failure", test_exit_codes);
        return g_test_run();
}
