// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "sys/mounts.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

struct fixture {
        char *directory;
        bool can_mount;
};

static char *path_in(const struct fixture *f, const char *name)
{
        return g_build_filename(f->directory, name, NULL);
}

static void make(const struct fixture *f, const char *name)
{
        g_autofree char *path = path_in(f, name);
        g_assert_cmpint(g_mkdir_with_parents(path, 0755), ==, 0);
}

static void set_up(struct fixture *f, gconstpointer data)
{
        f->directory = g_dir_make_tmp("mount-test-XXXXXX", NULL);
        f->can_mount = unshare(CLONE_NEWNS) == 0 && mount("", "/", "", MS_REC | MS_PRIVATE, NULL) == 0 &&
                       mount("tmpfs", f->directory, "tmpfs", 0, "") == 0;
}

static void tear_down(struct fixture *f, gconstpointer data)
{
        umount2(f->directory, MNT_DETACH);
        g_rmdir(f->directory);
        g_free(f->directory);
}

static bool skipped(const struct fixture *f)
{
        if (!f->can_mount)
                g_test_skip("needs CAP_SYS_ADMIN");
        return !f->can_mount;
}

static void test_read_only_bind(struct fixture *f, gconstpointer data)
{
        if (skipped(f))
                return;
        make(f, "from/in");
        make(f, "to");
        g_autofree char *from = path_in(f, "from"), *to = path_in(f, "to"), *inside = path_in(f, "to/new");
        const char *options[] = {"rbind", "ro"};
        struct mount_request request = {"bind", from, NULL, options, 2};
        g_autoptr(GError) error = NULL;
        mount_all(&request, 1, to, &error);
        g_assert_no_error(error);
        g_assert_cmpint(mkdir(inside, 0755), ==, -1);
        g_assert_cmpint(errno, ==, EROFS);
        g_assert_true(unmount_below(to, &error));
        g_assert_cmpint(mkdir(inside, 0755), ==, 0);
}

static void test_overlay_of_many_layers(struct fixture *f, gconstpointer data)
{
        if (skipped(f))
                return;
        enum { LAYERS = 40 };
        g_autoptr(GString) lower = g_string_new("lowerdir=");
        for (int i = 0; i < LAYERS; i++) {
                g_autofree char *name =
                        g_strdup_printf("a/directory/with/a/name/of/some/length/which/takes/place/%d", i);
                make(f, name);
                g_string_append_printf(lower, "%s%s/%s", i > 0 ? ":" : "", f->directory, name);
        }
        make(f, "a/directory/with/a/name/of/some/length/which/takes/place/39/found");
        make(f, "to");
        g_assert_cmpuint(lower->len, >, 3 * 1024);
        g_autofree char *to = path_in(f, "to"), *found = path_in(f, "to/found");
        const char *options[] = {lower->str};
        struct mount_request request = {"overlay", "overlay", NULL, options, 1};
        g_autoptr(GError) error = NULL;
        mount_all(&request, 1, to, &error);
        g_assert_no_error(error);
        g_assert_true(g_file_test(found, G_FILE_TEST_IS_DIR));
        g_assert_true(unmount_below(to, &error));
}

static void test_target_cannot_leave_the_directory(struct fixture *f, gconstpointer data)
{
        if (skipped(f))
                return;
        make(f, "from/mark");
        make(f, "to/etc");
        g_autofree char *from = path_in(f, "from"), *to = path_in(f, "to"), *link = path_in(f, "to/link"),
                        *mark = path_in(f, "to/etc/mark");
        g_assert_cmpint(symlink("/etc", link), ==, 0);
        const char *options[] = {"bind"};
        struct mount_request request = {"bind", from, "link", options, 1};
        g_autoptr(GError) error = NULL;
        mount_all(&request, 1, to, &error);
        g_assert_no_error(error);
        g_assert_true(g_file_test(mark, G_FILE_TEST_IS_DIR));
        g_assert_true(unmount_below(to, &error));
        g_assert_false(g_file_test(mark, G_FILE_TEST_EXISTS));
}

static void test_refuses_what_it_cannot(struct fixture *f, gconstpointer data)
{
        static const struct {
                const char *type, *option;
                enum error_code code;
        } cases[] = {
                {"ext4", "loop", ERROR_UNIMPLEMENTED},
                {"overlay", "uidmap=0:1:1", ERROR_UNIMPLEMENTED},
                {"overlay", "X-containerd.mkdir", ERROR_INVALID_ARGUMENT},
                {"fuse3.x", "ro", ERROR_UNIMPLEMENTED},
                {"no-such-type", "ro", ERROR_UNKNOWN},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                struct mount_request request = {cases[i].type, "none", NULL, &cases[i].option, 1};
                g_autoptr(GError) error = NULL;
                g_assert_false(mount_all(&request, 1, f->directory, &error));
                g_assert_cmpint(error_class(error), ==, cases[i].code);
        }
}

static void test_nothing_to_unmount_is_fine(struct fixture *f, gconstpointer data)
{
        g_autofree char *none = path_in(f, "none");
        g_autoptr(GError) error = NULL;
        g_assert_true(unmount_below(none, &error));
        g_assert_no_error(error);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add("/mounts/" name, struct fixture, NULL, set_up, fn, tear_down)
        ADD("read_only_bind", test_read_only_bind);
        ADD("overlay_of_many_layers", test_overlay_of_many_layers);
        ADD("target_cannot_leave_the_directory", test_target_cannot_leave_the_directory);
        ADD("refuses_what_it_cannot", test_refuses_what_it_cannot);
        ADD("nothing_to_unmount_is_fine", test_nothing_to_unmount_is_fine);
        return g_test_run();
}
