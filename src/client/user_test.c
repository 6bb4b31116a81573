// SPDX-License-Identifier: Apache-2.0
//
// The trees stand for what an image's author may have put there.
#include "client/user.h"

#include "base/error.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char passwd[] =
        "# note\nroot:x:0:0:root:/root:/bin/sh\nbad line\nuser:x:1000:1001::/home:/bin/sh\nneg:x:-5:0:::\n";
static const char group[] = "root:x:0:\nuser:x:1001:user\nextra:x:2000:other,user\nwheel:x:10:root\n";

struct tree {
        char *path;
};

static void tree_init(struct tree *tree)
{
        tree->path = g_dir_make_tmp("user-test-XXXXXX", NULL);
        g_assert_nonnull(tree->path);
}

static void tree_done(struct tree *tree)
{
        g_autofree char *quoted = g_strdup(tree->path);
        // Depth first, without following links.
        g_autoptr(GPtrArray) stack = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(stack, g_strdup(quoted));
        for (guint i = 0; i < stack->len; i++) {
                g_autoptr(GDir) directory = g_file_test(stack->pdata[i], G_FILE_TEST_IS_SYMLINK)
                                                    ? NULL
                                                    : g_dir_open(stack->pdata[i], 0, NULL);
                const char *name;
                while (directory != NULL && (name = g_dir_read_name(directory)) != NULL)
                        g_ptr_array_add(stack, g_build_filename(stack->pdata[i], name, NULL));
        }
        for (guint i = stack->len; i > 0; i--)
                g_remove(stack->pdata[i - 1]);
        g_free(tree->path);
}

static char *below(const struct tree *tree, const char *path)
{
        g_autofree char *full = g_build_filename(tree->path, path, NULL);
        g_autofree char *parent = g_path_get_dirname(full);
        g_assert_cmpint(g_mkdir_with_parents(parent, 0755), ==, 0);
        return g_steal_pointer(&full);
}

static void put(const struct tree *tree, const char *path, const char *text)
{
        g_autofree char *full = below(tree, path);
        g_assert_true(g_file_set_contents(full, text, -1, NULL));
}

static void put_link(const struct tree *tree, const char *path, const char *target)
{
        g_autofree char *full = below(tree, path);
        g_assert_cmpint(symlink(target, full), ==, 0);
}

static char *resolve(const struct rootfs *rootfs, const char *text)
{
        struct user_ids ids;
        GError *error = NULL;
        if (!user_resolve(rootfs, text, &ids, &error)) {
                char *code = g_strdup(error_class_text(error_class(error)));
                g_error_free(error);
                return code;
        }
        GString *out = g_string_new(NULL);
        g_string_printf(out, "%u:%u", ids.uid, ids.gid);
        for (guint i = 0; i < ids.groups->len; i++)
                g_string_append_printf(out, " %u", g_array_index(ids.groups, uint32_t, i));
        user_ids_done(&ids);
        return g_string_free(out, FALSE);
}

static void check(const struct rootfs *rootfs, const char *text, const char *wanted)
{
        g_autofree char *found = resolve(rootfs, text);
        g_assert_cmpstr(found, ==, wanted);
}

static void test_names(void)
{
        struct tree tree;
        tree_init(&tree);
        put(&tree, "etc/passwd", passwd);
        put(&tree, "etc/group", group);
        AUTO(rootfs) rootfs = rootfs_open_directory(tree.path, NULL);
        check(rootfs, NULL, "0:0 0 10");
        check(rootfs, "", "0:0 0 10");
        check(rootfs, "user", "1000:1001 1001 2000");
        check(rootfs, "1000", "1000:1001 1001 2000");
        check(rootfs, "user:extra", "1000:2000 2000");
        check(rootfs, "user:77", "1000:77 77 2000");
        check(rootfs, "1234", "1234:0 0");
        check(rootfs, "1234:5", "1234:5 5");
        check(rootfs, "nobody", "invalid argument");
        check(rootfs, "user:nogroup", "invalid argument");
        check(rootfs, "neg", "invalid argument");
        check(rootfs, "2147483648", "invalid argument");
        check(rootfs, "-1", "invalid argument");
        check(rootfs, "1:2147483648", "invalid argument");
        check(rootfs, "a:b:c", "invalid argument");
        check(rootfs, ":1", "invalid argument");
        check(rootfs, "1:", "invalid argument");
        check(NULL, "1234:5", "1234:5 5");
        check(NULL, "user", "invalid argument");
        tree_done(&tree);
}

static void test_links(void)
{
        struct tree tree, secret;
        tree_init(&tree);
        tree_init(&secret);
        put(&secret, "passwd", "user:x:666:666:::\n");
        g_autofree char *outside = g_build_filename(secret.path, "passwd", NULL);
        put_link(&tree, "etc/passwd", outside);
        put_link(&tree, "etc/group", "../../../../../../etc/group-of-image");
        put(&tree, "etc/group-of-image", group);
        AUTO(rootfs) rootfs = rootfs_open_directory(tree.path, NULL);
        check(rootfs, "user", "invalid argument"); // the absolute link is one within the image, where there is nothing
        check(rootfs, "1:extra", "1:2000 2000");

        put(&tree, outside + 1, passwd);
        check(rootfs, "user", "1000:1001 1001 2000");
        tree_done(&secret);
        tree_done(&tree);
}

static void test_odd_files(void)
{
        struct tree tree;
        tree_init(&tree);
        put_link(&tree, "etc/passwd", "passwd");
        g_autofree char *fifo = below(&tree, "etc/group");
        g_assert_cmpint(mkfifo(fifo, 0644), ==, 0);
        AUTO(rootfs) rootfs = rootfs_open_directory(tree.path, NULL);
        check(rootfs, "user", "invalid argument");
        check(rootfs, "1:extra", "invalid argument"); // and no waiting for a writer
        tree_done(&tree);
}

static struct rootfs *overlay(const struct tree *upper, const struct tree *lower)
{
        g_autofree char *up = g_strconcat("upperdir=", upper->path, NULL);
        g_autofree char *low = g_strconcat("lowerdir=", lower->path, NULL);
        char *options[] = {up, low, (char *)"workdir=/none"};
        Types__Mount mount = TYPES__MOUNT__INIT;
        mount.type = (char *)"overlay";
        mount.options = options;
        mount.n_options = G_N_ELEMENTS(options);
        Types__Mount *mounts[] = {&mount};
        struct rootfs *rootfs = rootfs_open(mounts, 1, NULL);
        g_assert_nonnull(rootfs);
        return rootfs;
}

static void test_layers(void)
{
        struct tree upper, lower;
        tree_init(&upper);
        tree_init(&lower);
        put(&lower, "etc/passwd", passwd);
        put(&lower, "etc/group", group);
        put(&upper, "etc/other", "");
        {
                AUTO(rootfs) rootfs = overlay(&upper, &lower);
                check(rootfs, "user", "1000:1001 1001 2000");
                put(&upper, "etc/passwd", "user:x:5:6:::\n");
                check(rootfs, "user", "5:6 6 2000");
        }
        tree_done(&upper);
        tree_init(&upper);
        put(&upper, "etc", "a file where the lower layer has a directory");
        {
                AUTO(rootfs) rootfs = overlay(&upper, &lower);
                check(rootfs, "user", "invalid argument");
        }
        tree_done(&upper);
        tree_done(&lower);
}

static void test_other_mounts(void)
{
        Types__Mount mount = TYPES__MOUNT__INIT;
        mount.type = (char *)"erofs";
        mount.source = (char *)"/dev/null";
        Types__Mount *mounts[] = {&mount};
        g_autoptr(GError) error = NULL;
        g_assert_null(rootfs_open(mounts, 1, &error));
        g_assert_true(error_is(error, ERROR_UNIMPLEMENTED));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/user/names_and_numbers", test_names);
        g_test_add_func("/rootfs/links_stay_within", test_links);
        g_test_add_func("/rootfs/loops_and_fifos_are_refused", test_odd_files);
        g_test_add_func("/rootfs/layers_are_merged_as_overlayfs_does", test_layers);
        g_test_add_func("/rootfs/other_mounts_are_not_guessed", test_other_mounts);
        return g_test_run();
}
