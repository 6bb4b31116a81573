// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "base/fd.h"
#include "sys/tree.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

struct fixture {
        char *directory, *from, *to;
};

static void set_up(struct fixture *f, gconstpointer data)
{
        f->directory = g_dir_make_tmp("tree-test-XXXXXX", NULL);
        f->from = g_build_filename(f->directory, "from", NULL);
        f->to = g_build_filename(f->directory, "to", NULL);
        g_assert_cmpint(mkdir(f->from, 0755), ==, 0);
        g_assert_cmpint(mkdir(f->to, 0755), ==, 0);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
        g_autoptr(GError) error = NULL;
        tree_remove(f->directory, &error);
        g_assert_no_error(error);
        g_assert_false(g_file_test(f->directory, G_FILE_TEST_EXISTS));
        g_free(f->directory);
        g_free(f->from);
        g_free(f->to);
}

static char *in(const char *root, const char *name)
{
        return g_build_filename(root, name, NULL);
}

static void write_file(const char *root, const char *name, const char *text)
{
        g_autofree char *path = in(root, name);
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static struct stat status_of(const char *root, const char *name)
{
        g_autofree char *path = in(root, name);
        struct stat status;
        g_assert_cmpint(lstat(path, &status), ==, 0);
        return status;
}

static void usage_counts_linked_files_once(struct fixture *f, gconstpointer data)
{
        write_file(f->from, "a", "some bytes");
        g_autofree char *a = in(f->from, "a"), *b = in(f->from, "b"), *dir = in(f->from, "dir"),
                        *c = in(f->from, "dir/c"), *symbolic = in(f->from, "symbolic");
        g_assert_cmpint(mkdir(dir, 0755), ==, 0);
        g_assert_cmpint(link(a, b), ==, 0);
        g_assert_cmpint(link(a, c), ==, 0);
        g_assert_cmpint(symlink("/", symbolic), ==, 0);
        struct tree_usage usage;
        g_autoptr(GError) error = NULL;
        tree_usage(f->from, &usage, &error);
        g_assert_no_error(error);
        g_assert_cmpint(usage.n_inodes, ==, 4);
        int64_t blocks = status_of(f->from, ".").st_blocks + status_of(f->from, "a").st_blocks +
                         status_of(f->from, "dir").st_blocks + status_of(f->from, "symbolic").st_blocks;
        g_assert_cmpint(usage.n_bytes, ==, blocks * 512);
}

static void usage_of_nothing_is_not_found(struct fixture *f, gconstpointer data)
{
        g_autofree char *path = in(f->from, "none");
        struct tree_usage usage;
        g_autoptr(GError) error = NULL;
        g_assert_false(tree_usage(path, &usage, &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
}

static void removal_follows_no_link(struct fixture *f, gconstpointer data)
{
        write_file(f->to, "kept", "x");
        g_autofree char *link = in(f->from, "link"), *deep = in(f->from, "a/b/c/d");
        g_assert_cmpint(symlink(f->to, link), ==, 0);
        g_assert_cmpint(g_mkdir_with_parents(deep, 0755), ==, 0);
        write_file(f->from, "a/b/file", "x");
        g_autoptr(GError) error = NULL;
        tree_remove(f->from, &error);
        g_assert_no_error(error);
        g_assert_false(g_file_test(f->from, G_FILE_TEST_EXISTS));
        status_of(f->to, "kept");
        g_assert_true(tree_remove(f->from, &error));
}

static void make_sparse(const char *path)
{
        fd_auto int fd = open(path, O_WRONLY | O_CREAT, 0640);
        g_assert_cmpint(pwrite(fd, "start", 5, 0), ==, 5);
        g_assert_cmpint(pwrite(fd, "end", 3, 8 << 20), ==, 3);
}

static void copy_keeps_everything(struct fixture *f, gconstpointer data)
{
        g_autofree char *dir = in(f->from, "dir"), *file = in(f->from, "dir/file"), *linked = in(f->from, "linked"),
                        *symbolic = in(f->from, "symbolic"), *fifo = in(f->from, "fifo"),
                        *sparse = in(f->from, "sparse"), *copy = in(f->to, "dir/file");
        g_assert_cmpint(mkdir(dir, 0755), ==, 0);
        write_file(f->from, "dir/file", "content");
        g_assert_cmpint(link(file, linked), ==, 0);
        g_assert_cmpint(symlink("dir/file", symbolic), ==, 0);
        g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
        make_sparse(sparse);
        bool root = geteuid() == 0;
        if (root)
                g_assert_cmpint(chown(file, 12, 34), ==, 0);
        g_assert_cmpint(chmod(file, 04711), ==, 0);
        bool attributes = setxattr(file, "user.key", "value", 5, 0) == 0;
        struct timespec times[] = {{1000000000, 1}, {1000000001, 2}};
        g_assert_cmpint(utimensat(AT_FDCWD, file, times, 0), ==, 0);
        g_assert_cmpint(utimensat(AT_FDCWD, symbolic, times, AT_SYMLINK_NOFOLLOW), ==, 0);
        g_assert_cmpint(utimensat(AT_FDCWD, dir, times, 0), ==, 0);
        g_assert_cmpint(chmod(f->from, 01777), ==, 0);

        g_autoptr(GError) error = NULL;
        tree_copy(f->from, f->to, &error);
        g_assert_no_error(error);

        g_assert_cmpint(status_of(f->to, ".").st_mode & 07777, ==, 01777);
        struct stat status = status_of(f->to, "dir/file");
        g_assert_cmpint(status.st_mode & 07777, ==, 04711);
        g_assert_cmpint(status.st_mtim.tv_sec, ==, 1000000001);
        g_assert_cmpint(status.st_mtim.tv_nsec, ==, 2);
        g_assert_cmpint(status.st_nlink, ==, 2);
        g_assert_cmpuint(status.st_ino, ==, status_of(f->to, "linked").st_ino);
        if (root)
                g_assert_true(status.st_uid == 12 && status.st_gid == 34);
        g_assert_cmpint(status_of(f->to, "dir").st_mtim.tv_sec, ==, 1000000001);
        g_assert_cmpint(status_of(f->to, "symbolic").st_mtim.tv_sec, ==, 1000000001);
        g_assert_true(S_ISFIFO(status_of(f->to, "fifo").st_mode));
        g_autofree char *text = NULL;
        g_assert_true(g_file_get_contents(copy, &text, NULL, NULL));
        g_assert_cmpstr(text, ==, "content");
        char value[8] = {0};
        if (attributes)
                g_assert_cmpint(getxattr(copy, "user.key", value, sizeof value), ==, 5);
        struct stat whole = status_of(f->to, "sparse");
        g_assert_cmpint(whole.st_size, ==, (8 << 20) + 3);
        g_assert_cmpint(whole.st_blocks, <=, status_of(f->from, "sparse").st_blocks + 16);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(function) g_test_add("/tree/" #function, struct fixture, NULL, set_up, function, tear_down)
        ADD(usage_counts_linked_files_once);
        ADD(usage_of_nothing_is_not_found);
        ADD(removal_follows_no_link);
        ADD(copy_keeps_everything);
        return g_test_run();
}
