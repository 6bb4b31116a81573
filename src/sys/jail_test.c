// SPDX-License-Identifier: Apache-2.0
//
// Each case runs in a program of its own, which is this one with the case's name: it jails itself, tries something, and
// says by its exit status how that went.
#include "sys/jail.h"
#include "sys/namespace.h"
#include "sys/spawn.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DONE = 0, REFUSED = 1, FAILED = 2, UID = 64321, ROOT_FD = 5 };

static const char *const allowed[] = {"read", "write", "exit_group", "getuid", NULL};
static const char *const killed[] = {"socket", NULL};

// ---- inside

static int try_to_open(void)
{
        if (!jail_become(UID, NULL) || !jail_limit(16, 0, NULL) || !jail_seccomp(allowed, killed, NULL))
                return FAILED;
        return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY) < 0 && errno == EPERM ? REFUSED : DONE;
}

static int try_a_killed_call(void)
{
        if (!jail_seccomp(allowed, killed, NULL))
                return FAILED;
        syscall(SYS_socket, 1, 1, 0);
        return DONE;
}

static int try_to_become_root_again(void)
{
        if (!jail_become(UID, NULL))
                return FAILED;
        return getuid() == UID && setuid(0) < 0 ? REFUSED : DONE;
}

static int try_to_leave_the_root(void)
{
        if (!namespace_enter_root(ROOT_FD, NULL))
                return FAILED;
        struct stat above, here;
        if (stat("/..", &above) < 0 || stat("/", &here) < 0)
                return FAILED;
        bool out = access("/etc", F_OK) == 0 || access("/proc", F_OK) == 0 || above.st_ino != here.st_ino;
        return out || access("/inside", F_OK) < 0 ? DONE : REFUSED;
}

static int try_to_mount_from_a_user_namespace(void)
{
        if (!namespace_enter_root(ROOT_FD, NULL) || !namespace_new_user())
                return FAILED;
        return mount("none", "/inside", "tmpfs", 0, NULL) < 0 && umount2("/", MNT_DETACH) < 0 ? REFUSED : DONE;
}

static const struct attempt {
        const char *name;
        int (*run)(void);
} attempts[] = {
        {"open", try_to_open},
        {"killed", try_a_killed_call},
        {"root", try_to_become_root_again},
        {"leave", try_to_leave_the_root},
        {"mount", try_to_mount_from_a_user_namespace},
};

// ---- outside

static int status_of(const char *name, int root_fd)
{
        const char *argv[] = {"jail_test", name, NULL};
        const struct spawn_fd fds[] = {{root_fd, ROOT_FD}};
        struct spawn_options options = {.path = "/proc/self/exe", .argv = argv};
        if (root_fd >= 0) {
                options.fds = fds;
                options.n_fds = 1;
                options.clone_flags = CLONE_NEWNS;
        }
        struct child child;
        int status;
        g_assert_true(spawn(&options, &child, NULL));
        g_assert_true(child_wait(&child, &status, NULL));
        fd_close(&child.pidfd);
        return status;
}

static void assert_refused(int status)
{
        g_assert_true(WIFEXITED(status));
        g_assert_cmpint(WEXITSTATUS(status), ==, REFUSED);
}

static void files_cannot_be_opened(void)
{
        assert_refused(status_of("open", -1));
}

static void forbidden_calls_end_the_process(void)
{
        int status = status_of("killed", -1);
        g_assert_true(WIFSIGNALED(status));
        g_assert_cmpint(WTERMSIG(status), ==, SIGSYS);
}

static void rights_do_not_come_back(void)
{
        assert_refused(status_of("root", -1));
}

static void with_a_root(const char *name)
{
        g_autofree char *directory = g_dir_make_tmp("skiff-jail-XXXXXX", NULL);
        g_autofree char *inside = g_build_filename(directory, "inside", NULL);
        g_assert_cmpint(mkdir(inside, 0755), ==, 0);
        GError *error = NULL;
        int root_fd = namespace_clone_mount(directory, 0, &error);
        g_assert_no_error(error);
        assert_refused(status_of(name, root_fd));
        close(root_fd);
        rmdir(inside);
        rmdir(directory);
}

static void nothing_but_the_root_is_there(void)
{
        with_a_root("leave");
}

static void mounts_are_out_of_a_user_namespaces_reach(void)
{
        with_a_root("mount");
}

int main(int argc, char **argv)
{
        for (size_t i = 0; argc == 2 && i < G_N_ELEMENTS(attempts); i++) {
                if (strcmp(argv[1], attempts[i].name) == 0)
                        _exit(attempts[i].run());
        }
        g_test_init(&argc, &argv, NULL);
        if (geteuid() != 0) {
                g_test_message("needs root");
                return 77;
        }
        g_test_add_func("/jail/files_cannot_be_opened", files_cannot_be_opened);
        g_test_add_func("/jail/forbidden_calls_end_the_process", forbidden_calls_end_the_process);
        g_test_add_func("/jail/rights_do_not_come_back", rights_do_not_come_back);
        g_test_add_func("/jail/nothing_but_the_root_is_there", nothing_but_the_root_is_there);
        g_test_add_func("/jail/mounts_are_out_of_reach", mounts_are_out_of_a_user_namespaces_reach);
        return g_test_run();
}
