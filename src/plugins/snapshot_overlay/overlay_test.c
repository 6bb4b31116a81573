// SPDX-License-Identifier: Apache-2.0
#include "plugins/snapshot_overlay/overlay.h"
#include "sys/tree.h"

#include <sys/stat.h>
#include <unistd.h>

struct fixture {
        char *root;
        struct snapshot_driver *driver; // NULL: skipped
};

static const char *const extra[] = {"volatile", "index=on", NULL};

static void set_up(struct fixture *f, gconstpointer data)
{
        f->root = g_dir_make_tmp("overlay-test-XXXXXX", NULL);
        const struct overlay_options options = {.root = f->root, .mount_options = extra, .upperdir_label = true};
        g_autoptr(GError) error = NULL;
        f->driver = overlay_new(&options, &error);
        if (f->driver == NULL)
                g_test_skip(error->message);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
        overlay_free(f->driver);
        g_assert_true(tree_remove(f->root, NULL));
        g_free(f->root);
}

static const struct labels no_labels = {0};

static void assert_mount(struct fixture *f, enum snapshot_kind kind, size_t n_parents, const char *type,
        const char *source, const char *options)
{
        static const char *const parents[] = {"/s/2", "/s/1"};
        const struct snapshot_place place = {
                .kind = kind, .directory = "/s/3", .parents = parents, .n_parents = n_parents, .labels = &no_labels};
        g_autoptr(GPtrArray) mounts = f->driver->ops->mounts(f->driver, &place, NULL);
        g_assert_cmpuint(mounts->len, ==, 1);
        const struct mount *mount = mounts->pdata[0];
        g_autofree char *joined = g_strjoinv(",", mount->options);
        g_assert_cmpstr(mount->type, ==, type);
        g_assert_cmpstr(mount->source, ==, source);
        g_assert_cmpstr(mount->target, ==, "");
        g_assert_cmpstr(joined, ==, options);
}

static void options_are_containerds(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        assert_mount(f, SNAPSHOT_ACTIVE, 0, "bind", "/s/3/fs", "rw,rbind");
        assert_mount(f, SNAPSHOT_VIEW, 0, "bind", "/s/3/fs", "ro,rbind");
        assert_mount(f, SNAPSHOT_VIEW, 1, "bind", "/s/2/fs", "ro,rbind");
        assert_mount(f, SNAPSHOT_ACTIVE, 1, "overlay", "overlay",
                "workdir=/s/3/work,upperdir=/s/3/fs,lowerdir=/s/2/fs,volatile,index=on");
        assert_mount(f, SNAPSHOT_ACTIVE, 2, "overlay", "overlay",
                "workdir=/s/3/work,upperdir=/s/3/fs,lowerdir=/s/2/fs:/s/1/fs,volatile,index=on");
        assert_mount(f, SNAPSHOT_VIEW, 2, "overlay", "overlay", "lowerdir=/s/2/fs:/s/1/fs,volatile,index=on");
}

static char *make(struct fixture *f, int64_t number, enum snapshot_kind kind, const char *parent,
        const struct labels *labels, GError **error)
{
        const struct snapshot_place place = {
                .kind = kind, .parents = &parent, .n_parents = parent != NULL, .labels = labels};
        return f->driver->ops->make(f->driver, number, &place, error);
}

static struct stat status_of(const char *directory, const char *name)
{
        g_autofree char *path = g_build_filename(directory, name, NULL);
        struct stat status;
        g_assert_cmpint(stat(path, &status), ==, 0);
        return status;
}

static void layout_and_modes_are_containerds(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        mode_t mask = umask(077);
        g_autofree char *active = make(f, 7, SNAPSHOT_ACTIVE, NULL, &no_labels, NULL);
        g_autofree char *view = make(f, 8, SNAPSHOT_VIEW, NULL, &no_labels, NULL);
        umask(mask);
        g_autofree char *expected = g_build_filename(f->root, "snapshots/7", NULL);
        g_autofree char *no_work = g_build_filename(view, "work", NULL);
        g_assert_cmpstr(active, ==, expected);
        g_assert_cmpint(status_of(active, ".").st_mode & 07777, ==, 0700);
        g_assert_cmpint(status_of(active, "fs").st_mode & 07777, ==, 0755);
        g_assert_cmpint(status_of(active, "work").st_mode & 07777, ==, 0711);
        g_assert_cmpint(access(no_work, F_OK), ==, -1);
}

static void root_belongs_to_the_parents_owner_or_the_mapped_one(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        AUTO(arena) arena = arena_new();
        struct labels labels = {0};
        labels_set(&labels, arena, "containerd.io/snapshot/uidmapping", "5:9:1,0:1000:65536");
        labels_set(&labels, arena, "containerd.io/snapshot/gidmapping", "0:2000:65536");
        g_autofree char *mapped = make(f, 1, SNAPSHOT_ACTIVE, NULL, &labels, NULL);
        g_autofree char *child = make(f, 2, SNAPSHOT_ACTIVE, mapped, &no_labels, NULL);
        g_assert_true(status_of(mapped, "fs").st_uid == 1000 && status_of(mapped, "fs").st_gid == 2000);
        g_assert_true(status_of(child, "fs").st_uid == 1000 && status_of(child, "fs").st_gid == 2000);
        labels_set(&labels, arena, "containerd.io/snapshot/gidmapping", "nonsense");
        g_autoptr(GError) error = NULL;
        g_assert_null(make(f, 3, SNAPSHOT_ACTIVE, NULL, &labels, &error));
        g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        g_autofree char *left = g_build_filename(f->root, "snapshots", NULL);
        struct tree_usage usage;
        g_assert_true(tree_usage(left, &usage, NULL));
        g_assert_cmpint(usage.n_inodes, ==, 7); // snapshots, and twice N, fs, work
}

static void label_shows_the_upper_directory(struct fixture *f, gconstpointer data)
{
        if (f->driver == NULL)
                return;
        AUTO(arena) arena = arena_new();
        struct snapshot snapshot = {.directory = "/s/3"};
        f->driver->ops->describe(f->driver, &snapshot, &snapshot.labels, arena);
        g_assert_cmpstr(labels_get(&snapshot.labels, "containerd.io/snapshot/overlay.upperdir"), ==, "/s/3/fs");
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(function) g_test_add("/overlay/" #function, struct fixture, NULL, set_up, function, tear_down)
        ADD(options_are_containerds);
        ADD(layout_and_modes_are_containerds);
        ADD(root_belongs_to_the_parents_owner_or_the_mapped_one);
        ADD(label_shows_the_upper_directory);
        return g_test_run();
}
