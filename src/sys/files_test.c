// SPDX-License-Identifier: Apache-2.0
#include "sys/files.h"

#include "base/fd.h"
#include "sys/tree.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/openat2.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
        char *path;
        int directory;
};

static void set_up(struct fixture *fixture, const void *data)
{
        fixture->path = g_dir_make_tmp("file-test-XXXXXX", NULL);
        fixture->directory = open(fixture->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(fixture->directory, >=, 0);
}

static void tear_down(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        close(fixture->directory);
        g_assert_true(tree_remove(fixture->path, &error));
        g_assert_no_error(error);
        g_assert_false(g_file_test(fixture->path, G_FILE_TEST_EXISTS));
        g_free(fixture->path);
}

static void write_file(const struct fixture *fixture, const char *name, const char *text)
{
        g_autofree char *path = g_build_filename(fixture->path, name, NULL);
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void reads_small_files_whole(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        write_file(fixture, "f", "new");
        g_autofree char *text = file_read_text(fixture->directory, "f", 3, &error);
        g_assert_cmpstr(text, ==, "new");
        g_assert_null(file_read_text(fixture->directory, "f", 2, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_RESOURCE_EXHAUSTED);
        g_clear_error(&error);
        g_assert_null(file_read_text(fixture->directory, "g", 2, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_NOT_FOUND);
}

static void stays_beneath(struct fixture *fixture, const void *data)
{
        static const char *const outside[] = {"..", "/etc/passwd", "d/../../x", "link", "d/up"};
        g_assert_cmpint(mkdirat(fixture->directory, "d", 0700), ==, 0);
        g_assert_cmpint(symlinkat("/etc/passwd", fixture->directory, "link"), ==, 0);
        g_assert_cmpint(symlinkat("..", fixture->directory, "d/up"), ==, 0);
        for (size_t i = 0; i < G_N_ELEMENTS(outside); i++) {
                g_autoptr(GError) error = NULL;
                g_assert_cmpint(file_open_beneath(fixture->directory, outside[i], O_RDONLY, 0, &error), ==, -1);
                g_assert_error(error, SKIFF_ERROR, ERROR_PERMISSION_DENIED);
        }
        g_autoptr(GError) error = NULL;
        fd_auto int fd = file_open_beneath(fixture->directory, "d/x", O_WRONLY | O_CREAT, 0600, &error);
        g_assert_no_error(error);
        g_assert_cmpint(fd, >=, 0);
}

static void makes_directories(struct fixture *fixture, const void *data)
{
        g_autoptr(GError) error = NULL;
        g_autofree char *deep = g_build_filename(fixture->path, "a/b/c", NULL);
        g_assert_true(file_make_directories(deep, 0700, &error));
        g_assert_true(file_make_directories(deep, 0700, &error));
        write_file(fixture, "f", "x");
        g_autofree char *below = g_build_filename(fixture->path, "f/x", NULL);
        g_assert_false(file_make_directories(below, 0700, &error));
}

// The kernel gives up on ".." below a root whenever any directory of the machine is renamed meanwhile.
static void resolves_while_directories_are_renamed(struct fixture *fixture, const void *data)
{
        g_assert_cmpint(mkdirat(fixture->directory, "a", 0700), ==, 0);
        g_assert_cmpint(mkdirat(fixture->directory, "d", 0700), ==, 0);
        pid_t child = fork();
        while (child == 0) {
                renameat(fixture->directory, "a", fixture->directory, "b");
                renameat(fixture->directory, "b", fixture->directory, "a");
        }
        int opened = 0;
        for (int i = 0; i < 10000; i++) {
                fd_auto int fd =
                        file_open_resolved(fixture->directory, "d/../d/../d/../d/../d/../d", O_PATH, RESOLVE_IN_ROOT);
                opened += fd >= 0;
        }
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        g_assert_cmpint(opened, ==, 10000);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/files/" #name, struct fixture, NULL, set_up, name, tear_down)
        ADD(reads_small_files_whole);
        ADD(stays_beneath);
        ADD(makes_directories);
        ADD(resolves_while_directories_are_renamed);
        return g_test_run();
}
