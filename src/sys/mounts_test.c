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

static void test_overlay_of_layers_in_many_places(struct fixture *f, gconstpointer data)
{
        if (skipped(f))
                return;
        enum { LAYERS = 100 };
        g_autoptr(GString) lower = g_string_new("lowerdir=");
        for (int i = 0; i < LAYERS; i++) {
                g_autofree char *name = g_strdup_printf(
                        "%d/a/directory/with/a/name/of/some/length/which/takes/more/place/than/a/page/has/%d", i, i);
                make(f, name);
                g_string_append_printf(lower, "%s%s/%s", i > 0 ? ":" : "", f->directory, name);
        }
        make(f, "99/a/directory/with/a/name/of/some/length/which/takes/more/place/than/a/page/has/99/found");
        make(f, "to");
        g_assert_cmpuint(lower->len, >, 2 * 4096);
        g_autofree char *to = path_in(f, "to"), *found = path_in(f, "to/found");
        AUTO(mount) mount = mount_new("overlay", "overlay", NULL, (const char *const[]){lower->str, NULL});
        g_autoptr(GError) error = NULL;
        mount_apply(mount, to, &error);
        g_assert_no_error(error);
        g_assert_true(g_file_test(found, G_FILE_TEST_IS_DIR));
        g_assert_true(mount_unmount(to, 0, &error));
        g_assert_false(g_file_test(found, G_FILE_TEST_EXISTS));
}

static void test_recursive_unmount_takes_stacks_and_children(struct fixture *f, gconstpointer data)
{
        if (skipped(f))
                return;
        make(f, "to/a b");
        g_autofree char *to = path_in(f, "to"), *below = path_in(f, "to/a b");
        AUTO(mount) mount = mount_new("tmpfs", "tmpfs", NULL, NULL);
        for (int i = 0; i < 2; i++) {
                g_assert_true(mount_apply(mount, to, NULL));
                g_assert_cmpint(g_mkdir_with_parents(below, 0700), ==, 0);
                g_assert_true(mount_apply(mount, below, NULL));
        }
        g_autoptr(GPtrArray) points = mount_points(to, NULL);
        g_assert_cmpuint(points->len, ==, 4);
        g_autoptr(GError) error = NULL;
        mount_unmount_recursive(to, 0, &error);
        g_assert_no_error(error);
        g_autoptr(GPtrArray) left = mount_points(to, NULL);
        g_assert_cmpuint(left->len, ==, 0);
}

static void test_failed_list_leaves_no_mount(struct fixture *f, gconstpointer data)
{
        if (skipped(f))
                return;
        make(f, "temp");
        g_autofree char *temp = path_in(f, "temp");
        g_autoptr(GPtrArray) mounts = mounts_new();
        g_ptr_array_add(mounts, mount_new("tmpfs", "tmpfs", NULL, NULL));
        g_ptr_array_add(mounts, mount_new("no-such-type", "x", NULL, NULL));
        g_autoptr(GError) error = NULL;
        g_assert_null(mount_temp(mounts, temp, false, &error));
        g_assert_nonnull(error);
        g_autoptr(GDir) dir = g_dir_open(temp, 0, NULL);
        g_assert_null(g_dir_read_name(dir));
        g_autoptr(GPtrArray) left = mount_points(temp, NULL);
        g_assert_cmpuint(left->len, ==, 0);
}

static void test_temporary_overlay_can_be_read_only(struct fixture *f, gconstpointer data)
{
        if (skipped(f))
                return;
        make(f, "temp");
        make(f, "lower/low");
        make(f, "upper/up");
        make(f, "work");
        g_autofree char *temp = path_in(f, "temp");
        g_autofree char *lower = g_strdup_printf("lowerdir=%s/lower", f->directory);
        g_autofree char *upper = g_strdup_printf("upperdir=%s/upper", f->directory);
        g_autofree char *work = g_strdup_printf("workdir=%s/work", f->directory);
        g_autoptr(GPtrArray) mounts = mounts_new();
        g_ptr_array_add(mounts, mount_new("overlay", "overlay", NULL, (const char *const[]){work, upper, lower, NULL}));
        for (int read_only = 0; read_only < 2; read_only++) {
                g_autoptr(GError) error = NULL;
                char *at = mount_temp(mounts, temp, read_only != 0, &error);
                g_assert_no_error(error);
                g_autofree char *low = g_build_filename(at, "low", NULL), *up = g_build_filename(at, "up", NULL);
                g_autofree char *new = g_build_filename(at, "new", NULL);
                g_assert_true(g_file_test(low, G_FILE_TEST_IS_DIR) && g_file_test(up, G_FILE_TEST_IS_DIR));
                g_assert_cmpint(mkdir(new, 0700), ==, read_only ? -1 : 0);
                g_assert_cmpint(rmdir(new), ==, read_only ? -1 : 0);
                mount_temp_remove(at, &error);
                g_assert_no_error(error);
        }
}

static void test_loop_option_mounts_an_image(struct fixture *f, gconstpointer data)
{
        g_autofree char *image = path_in(f, "image"), *to = path_in(f, "to");
        g_autofree char *mkfs = g_find_program_in_path("mkfs.ext4");
        if (skipped(f))
                return;
        if (mkfs == NULL || access("/dev/loop-control", R_OK | W_OK) != 0) {
                g_test_skip("needs mkfs.ext4 and loop devices");
                return;
        }
        make(f, "to");
        g_autofree char *command = g_strdup_printf("%s -q %s 8M", mkfs, image);
        g_autofree char *said = NULL; // on standard output, which is the test's report
        int status = -1;
        g_assert_true(g_spawn_command_line_sync(command, &said, NULL, &status, NULL) && status == 0);
        AUTO(mount) mount = mount_new("ext4", image, NULL, (const char *const[]){"loop", "ro", NULL});
        g_autoptr(GError) error = NULL;
        mount_apply(mount, to, &error);
        g_assert_no_error(error);
        g_autofree char *found = path_in(f, "to/lost+found"), *new = path_in(f, "to/new");
        g_assert_true(g_file_test(found, G_FILE_TEST_IS_DIR));
        g_assert_cmpint(mkdir(new, 0700), ==, -1);
        g_assert_true(mount_unmount(to, 0, &error));
}

static void test_flags_come_from_words(struct fixture *f, gconstpointer data)
{
        AUTO(mount)
        mount = mount_new("tmpfs", "x", "",
                (const char *const[]){"ro", "nosuid", "rw", "size=1m", "rshared", "mode=0700", "defaults", NULL});
        struct mount_flags flags;
        g_assert_true(mount_flags_init(&flags, mount, NULL));
        g_assert_cmpuint(flags.flags, ==, MS_NOSUID);
        g_assert_cmpuint(flags.spread, ==, MS_SHARED | MS_REC);
        g_assert_cmpstr(flags.data->str, ==, "size=1m,mode=0700");
        g_assert_cmpstr(mount_option(mount, "size"), ==, "1m");
        g_assert_null(mount_option(mount, "siz"));
        mount_flags_done(&flags);
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
                {"ext4", "loop", ERROR_UNKNOWN},
                {"overlay", "uidmap=0:1:1", ERROR_UNIMPLEMENTED},
                {"overlay", "X-containerd.mkdir", ERROR_INVALID_ARGUMENT},
                {"fuse3.x", "ro", ERROR_NOT_FOUND},
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
        ADD("overlay_of_layers_in_many_places", test_overlay_of_layers_in_many_places);
        ADD("recursive_unmount_takes_stacks_and_children", test_recursive_unmount_takes_stacks_and_children);
        ADD("failed_list_leaves_no_mount", test_failed_list_leaves_no_mount);
        ADD("temporary_overlay_can_be_read_only", test_temporary_overlay_can_be_read_only);
        ADD("loop_option_mounts_an_image", test_loop_option_mounts_an_image);
        ADD("flags_come_from_words", test_flags_come_from_words);
        ADD("target_cannot_leave_the_directory", test_target_cannot_leave_the_directory);
        ADD("refuses_what_it_cannot", test_refuses_what_it_cannot);
        ADD("nothing_to_unmount_is_fine", test_nothing_to_unmount_is_fine);
        return g_test_run();
}
