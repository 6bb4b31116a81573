// SPDX-License-Identifier: Apache-2.0
#include "plugins/mounts/format.h"
#include "plugins/mounts/manager.h"
#include "store/store.h"
#include "sys/mounts.h"
#include "sys/tree.h"

#include <glib/gstdio.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
        char *directory, *root, *targets;
        struct metadata *metadata;
        struct mount_manager *manager; // NULL: skipped
        struct arena *arena;
};

static const struct scope scope = {.namespace_ = "default"};

static void start(struct fixture *f)
{
        g_autoptr(GError) error = NULL;
        f->manager = mount_manager_new(f->metadata, f->targets, f->root, &error);
        g_assert_no_error(error);
}

static void set_up(struct fixture *f, gconstpointer data)
{
        f->directory = g_dir_make_tmp("mount-manager-XXXXXX", NULL);
        f->root = g_build_filename(f->directory, "root", NULL);
        f->targets = g_build_filename(f->directory, "state/t", NULL);
        if (unshare(CLONE_NEWNS) != 0 || mount("", "/", "", MS_REC | MS_PRIVATE, NULL) != 0) {
                g_test_skip("needs CAP_SYS_ADMIN");
                return;
        }
        g_assert_cmpint(g_mkdir(f->root, 0700), ==, 0);
        g_autofree char *database = g_build_filename(f->directory, "metadata.sqlite", NULL);
        f->metadata = store_open(database, NULL);
        f->arena = arena_new();
        start(f);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
        if (f->manager != NULL) {
                g_assert_true(mount_unmount_recursive(f->directory, 0, NULL));
                mount_manager_free(f->manager);
                store_close(f->metadata);
                arena_free(f->arena);
        }
        g_assert_true(tree_remove(f->directory, NULL));
        g_free(f->directory);
        g_free(f->root);
        g_free(f->targets);
}

static void add(GPtrArray *mounts, const char *type, const char *source, const char *const *options)
{
        g_ptr_array_add(mounts, mount_new(type, source, NULL, options));
}

static const Types__ActivationInfo *activate(
        struct fixture *f, const char *name, const GPtrArray *mounts, bool temporary, GError **error)
{
        struct mount_activation activation = {.name = name, .mounts = mounts, .temporary = temporary};
        labels_set(&activation.labels, f->arena, "key", "value");
        return f->manager->ops->activate(f->manager, &scope, &activation, f->arena, error);
}

static unsigned count_targets(struct fixture *f)
{
        g_autoptr(GDir) dir = g_dir_open(f->targets, 0, NULL);
        unsigned n = 0;
        while (g_dir_read_name(dir) != NULL)
                n++;
        return n;
}

static void plain_mounts_are_left_to_the_caller(struct fixture *f, gconstpointer data)
{
        if (f->manager == NULL)
                return;
        g_autoptr(GPtrArray) mounts = mounts_new();
        add(mounts, "overlay", "overlay", (const char *const[]){"lowerdir=/a:/b", NULL});
        add(mounts, "unknown/bind", "/a", NULL);
        g_autoptr(GError) error = NULL;
        g_assert_null(activate(f, "x", mounts, false, &error));
        g_assert_true(error_is(error, ERROR_UNIMPLEMENTED));
        g_assert_null(f->manager->ops->info(f->manager, "default", "x", f->arena, NULL));
        g_assert_cmpuint(count_targets(f), ==, 0);
}

static void temporary_mounts_end_in_one_bind(struct fixture *f, gconstpointer data)
{
        if (f->manager == NULL)
                return;
        g_autoptr(GPtrArray) mounts = mounts_new();
        add(mounts, "tmpfs", "tmpfs", (const char *const[]){"size=1m", NULL});
        g_autoptr(GError) error = NULL;
        const Types__ActivationInfo *info = activate(f, "x", mounts, true, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(info->n_active, ==, 1);
        g_assert_cmpuint(info->n_system, ==, 1);
        g_assert_cmpstr(info->system[0]->type, ==, "bind");
        g_assert_cmpstr(info->system[0]->source, ==, info->active[0]->mount_point);
        g_assert_cmpstr(info->system[0]->options[0], ==, "rbind");
        g_autoptr(GPtrArray) points = mount_points(f->targets, NULL);
        g_assert_cmpuint(points->len, ==, 1);
        g_assert_cmpstr(points->pdata[0], ==, info->active[0]->mount_point);

        g_assert_null(activate(f, "x", mounts, true, &error));
        g_assert_true(error_is(error, ERROR_ALREADY_EXISTS));
        g_clear_error(&error);
        const Types__ActivationInfo *again = f->manager->ops->info(f->manager, "default", "x", f->arena, NULL);
        g_assert_cmpstr(again->active[0]->mount_point, ==, info->active[0]->mount_point);
        g_assert_cmpstr(again->labels[0]->value, ==, "value");
        g_assert_null(f->manager->ops->info(f->manager, "other", "x", f->arena, NULL));

        g_assert_true(f->manager->ops->deactivate(f->manager, "default", "x", &error));
        g_assert_cmpuint(count_targets(f), ==, 0);
        g_assert_false(f->manager->ops->deactivate(f->manager, "default", "x", &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
}

static void templates_see_what_was_mounted(struct fixture *f, gconstpointer data)
{
        if (f->manager == NULL)
                return;
        g_autofree char *upper = g_strdup_printf("X-containerd.mkdir.path=%s/upper:0711", f->root);
        g_autofree char *work = g_strdup_printf("X-containerd.mkdir.path=%s/work:0700:7:8", f->root);
        g_autofree char *upper_option = g_strdup_printf("upperdir=%s/upper", f->root);
        g_autofree char *work_option = g_strdup_printf("workdir=%s/work", f->root);
        g_autoptr(GPtrArray) mounts = mounts_new();
        add(mounts, "tmpfs", "one", NULL);
        add(mounts, "tmpfs", "two", NULL);
        add(mounts, "format/mkdir/overlay", "overlay",
                (const char *const[]){upper, work, "lowerdir={{ overlay 1 0 }}", upper_option, work_option, NULL});
        g_autoptr(GError) error = NULL;
        const Types__ActivationInfo *info = activate(f, "x", mounts, false, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(info->n_active, ==, 2);
        g_assert_cmpuint(info->n_system, ==, 1);
        g_assert_cmpstr(info->system[0]->type, ==, "overlay");
        g_autofree char *lower =
                g_strdup_printf("lowerdir=%s:%s", info->active[1]->mount_point, info->active[0]->mount_point);
        g_assert_cmpuint(info->system[0]->n_options, ==, 3);
        g_assert_cmpstr(info->system[0]->options[0], ==, lower);
        g_autofree char *made = g_build_filename(f->root, "work", NULL);
        struct stat status;
        g_assert_cmpint(stat(made, &status), ==, 0);
        g_assert_true(status.st_uid == 7 && status.st_gid == 8 && (status.st_mode & 07777) == 0700);
        g_assert_true(f->manager->ops->deactivate(f->manager, "default", "x", NULL));
}

static void failed_activation_leaves_nothing(struct fixture *f, gconstpointer data)
{
        if (f->manager == NULL)
                return;
        static const struct {
                const char *type, *source, *option;
                enum error_code code;
        } cases[] = {
                {"no-such-type", "x", "ro", ERROR_UNKNOWN},
                {"format/bind", "{{ mount 7 }}", "bind", ERROR_INVALID_ARGUMENT},
                {"format/bind", "{{ exec 7 }}", "bind", ERROR_INVALID_ARGUMENT},
                {"mkdir/bind", "/x", "X-containerd.mkdir.path=/etc/x", ERROR_UNIMPLEMENTED},
                {"mkdir/bind", "/x", "X-containerd.mkdir.path=ROOT/link/x", ERROR_PERMISSION_DENIED},
                {"mkdir/bind", "/x", "X-containerd.mkdir.path=ROOT/../x", ERROR_UNIMPLEMENTED},
                {"mkdir/bind", "/x", "X-containerd.mkdir.path=ROOT/x:99", ERROR_INVALID_ARGUMENT},
                {"mkdir/bind", "/x", "X-containerd.mkdir.path=ROOT/x:07777", ERROR_INVALID_ARGUMENT},
                {"mkfs/ext4", "ROOT/image", "loop", ERROR_INVALID_ARGUMENT},
                {"mkfs/ext4", "/etc/image", "X-containerd.mkfs.size=8M", ERROR_UNIMPLEMENTED},
        };
        g_autofree char *link = g_build_filename(f->root, "link", NULL);
        g_assert_cmpint(symlink("/etc", link), ==, 0);
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autoptr(GString) source = g_string_new(cases[i].source), option = g_string_new(cases[i].option);
                g_string_replace(source, "ROOT", f->root, 0);
                g_string_replace(option, "ROOT", f->root, 0);
                g_autoptr(GPtrArray) mounts = mounts_new();
                add(mounts, "tmpfs", "one", NULL);
                add(mounts, cases[i].type, source->str, (const char *const[]){option->str, NULL});
                g_autoptr(GError) error = NULL;
                g_assert_null(activate(f, "x", mounts, true, &error));
                g_test_message("%s", error->message);
                g_assert_cmpint(error_class(error), ==, cases[i].code);
                g_assert_cmpuint(count_targets(f), ==, 0);
                g_assert_null(f->manager->ops->info(f->manager, "default", "x", f->arena, NULL));
        }
}

static void file_system_is_made_once(struct fixture *f, gconstpointer data)
{
        g_autofree char *mkfs = g_find_program_in_path("mkfs.ext4");
        if (f->manager == NULL)
                return;
        if (mkfs == NULL || access("/dev/loop-control", R_OK | W_OK) != 0) {
                g_test_skip("needs mkfs.ext4 and loop devices");
                return;
        }
        g_autofree char *image = g_build_filename(f->root, "image", NULL);
        for (int i = 0; i < 2; i++) {
                g_autoptr(GPtrArray) mounts = mounts_new();
                add(mounts, "mkfs/ext4", image,
                        (const char *const[]){
                                "loop", "X-containerd.mkfs.size=8MiB", "X-containerd.mkfs.fs=ext4", NULL});
                g_autoptr(GError) error = NULL;
                const Types__ActivationInfo *info = activate(f, "x", mounts, true, &error);
                g_assert_no_error(error);
                g_autofree char *mark = g_build_filename(info->active[0]->mount_point, "mark", NULL);
                g_assert_cmpint(access(mark, F_OK), ==, i == 0 ? -1 : 0);
                g_assert_true(g_file_set_contents(mark, "x", 1, NULL));
                g_assert_true(f->manager->ops->deactivate(f->manager, "default", "x", &error));
        }
}

static guint count_files(const char *directory)
{
        g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
        guint n = 0;
        while (g_dir_read_name(dir) != NULL)
                n++;
        return n;
}

// An mkfs that looks whether the image has its name already, and then fails.
static void half_made_images_have_no_name(struct fixture *f, gconstpointer data)
{
        if (f->manager == NULL)
                return;
        g_autofree char *image = g_build_filename(f->root, "image", NULL);
        g_autofree char *programs = g_build_filename(f->root, "bin", NULL);
        g_autofree char *mkfs = g_build_filename(programs, "mkfs.ext4", NULL);
        g_autofree char *script = g_strdup_printf("#!/bin/sh\n[ -e %s ] && echo early\nexit 3\n", image);
        g_assert_cmpint(g_mkdir(programs, 0700), ==, 0);
        g_assert_true(g_file_set_contents_full(mkfs, script, -1, G_FILE_SET_CONTENTS_NONE, 0700, NULL));
        g_autofree char *old_path = g_strdup(g_getenv("PATH"));
        g_autofree char *path = g_strdup_printf("%s:%s", programs, old_path);
        g_setenv("PATH", path, true);
        g_autoptr(GPtrArray) mounts = mounts_new();
        add(mounts, "mkfs/ext4", image, (const char *const[]){"loop", "X-containerd.mkfs.size=8MiB", NULL});
        g_autoptr(GError) error = NULL;
        g_assert_null(activate(f, "x", mounts, true, &error));
        g_setenv("PATH", old_path, true);
        g_assert_nonnull(strstr(error->message, "mkfs.ext4 failed: : exit status 3"));
        g_assert_cmpuint(count_files(f->root), ==, 1); // the directory of the program
}

static void restart_keeps_mounts_and_clears_the_rest(struct fixture *f, gconstpointer data)
{
        if (f->manager == NULL)
                return;
        g_autoptr(GPtrArray) mounts = mounts_new();
        add(mounts, "tmpfs", "one", NULL);
        g_assert_nonnull(activate(f, "kept", mounts, true, NULL));
        const Types__ActivationInfo *lost = activate(f, "lost", mounts, true, NULL);
        g_autofree char *lost_dir = g_path_get_dirname(lost->active[0]->mount_point);
        g_assert_true(mount_unmount(lost->active[0]->mount_point, 0, NULL));
        g_assert_true(tree_remove(lost_dir, NULL));
        g_autofree char *stray = g_build_filename(f->targets, "77/1", NULL);
        g_assert_cmpint(g_mkdir_with_parents(stray, 0700), ==, 0);
        AUTO(mount) tmpfs = mount_new("tmpfs", "x", NULL, NULL);
        g_assert_true(mount_apply(tmpfs, stray, NULL));
        mount_manager_free(f->manager);
        start(f);
        g_assert_nonnull(f->manager->ops->info(f->manager, "default", "kept", f->arena, NULL));
        g_assert_null(f->manager->ops->info(f->manager, "default", "lost", f->arena, NULL));
        g_assert_cmpuint(count_targets(f), ==, 1);
        g_autoptr(GPtrArray) points = mount_points(f->targets, NULL);
        g_assert_cmpuint(points->len, ==, 1);
}

static void sizes_are_dockers(void)
{
        static const struct {
                const char *text;
                int64_t bytes; // -1: refused
        } cases[] = {{"0", 0}, {"42", 42}, {"42b", 42}, {"16M", 16 << 20}, {"1.5g", 3 << 29}, {"10kb", 10240},
                {"10 KiB", 10240}, {"", -1}, {"x", -1}, {"-1", -1}, {"1x", -1}, {"1kk", -1}, {"inf", -1}, {"1bb", -1}};
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                int64_t bytes = -1;
                g_test_message("%s", cases[i].text);
                g_assert_cmpint(transform_parse_size(cases[i].text, &bytes), ==, cases[i].bytes >= 0);
                g_assert_cmpint(bytes, ==, cases[i].bytes);
        }
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(function) g_test_add("/mount_manager/" #function, struct fixture, NULL, set_up, function, tear_down)
        ADD(plain_mounts_are_left_to_the_caller);
        ADD(temporary_mounts_end_in_one_bind);
        ADD(templates_see_what_was_mounted);
        ADD(failed_activation_leaves_nothing);
        ADD(file_system_is_made_once);
        ADD(half_made_images_have_no_name);
        ADD(restart_keeps_mounts_and_clears_the_rest);
        g_test_add_func("/mount_manager/sizes_are_dockers", sizes_are_dockers);
        return g_test_run();
}
