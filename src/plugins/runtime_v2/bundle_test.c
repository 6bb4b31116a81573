// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "containerd/bootstrap.pb-c.h"
#include "plugins/runtime_v2/bundle.h"
#include "sys/spawn.h"
#include "sys/tree.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
        char *dir, *root, *state;
        struct bundle *bundle;
};

static void set_up(struct fixture *f, const void *unused)
{
        f->dir = g_dir_make_tmp("skiff-bundle-XXXXXX", NULL);
        f->root = g_build_filename(f->dir, "root", NULL);
        f->state = g_build_filename(f->dir, "state", NULL);
        f->bundle = bundle_new(f->root, f->state, "default", "c1");
}

static void tear_down(struct fixture *f, const void *unused)
{
        bundle_free(f->bundle);
        g_assert_true(tree_remove(f->dir, NULL));
        g_free(f->dir);
        g_free(f->root);
        g_free(f->state);
}

static bool exists(const struct bundle *bundle, const char *name)
{
        g_autofree char *path = g_build_filename(bundle->path, name, NULL);
        return access(path, F_OK) == 0;
}

static void create(const struct bundle *bundle)
{
        g_autoptr(GError) error = NULL;
        g_assert_true(bundle_create(bundle, &(struct any){"spec", "{}", 2}, &error));
        g_assert_no_error(error);
}

static void create_lays_out_what_shims_expect(struct fixture *f, const void *unused)
{
        create(f->bundle);
        g_assert_true(exists(f->bundle, "config.json") && exists(f->bundle, "rootfs") && exists(f->bundle, "log"));
        g_autofree char *link = g_build_filename(f->bundle->path, "work", NULL);
        g_autofree char *target = g_file_read_link(link, NULL);
        g_assert_cmpstr(target, ==, f->bundle->work);
        struct stat status;
        g_assert_cmpint(stat(f->bundle->path, &status), ==, 0);
        g_assert_cmpint(status.st_mode & 07777, ==, 0700);
}

static void create_refuses_what_is_there(struct fixture *f, const void *unused)
{
        create(f->bundle);
        g_autoptr(GError) error = NULL;
        g_assert_false(bundle_create(f->bundle, &(struct any){0}, &error));
        g_assert_true(error_is(error, ERROR_ALREADY_EXISTS));
        g_assert_true(exists(f->bundle, "config.json"));
}

static void delete_leaves_nothing(struct fixture *f, const void *unused)
{
        create(f->bundle);
        g_assert_true(bundle_delete(f->bundle, NULL));
        g_autofree char *hidden = g_build_filename(f->state, "default", ".c1", NULL);
        g_assert_cmpint(access(f->bundle->path, F_OK), !=, 0);
        g_assert_cmpint(access(f->bundle->work, F_OK), !=, 0);
        g_assert_cmpint(access(hidden, F_OK), !=, 0);
        g_assert_true(bundle_delete(f->bundle, NULL)); // again: nothing to do
}

static void shim_is_found_again(struct fixture *f, const void *unused)
{
        create(f->bundle);
        g_autoptr(GError) error = NULL;
        struct bundle_address saved = {3, (char *)"ttrpc", (char *)"unix:///run/x.sock"}, loaded = {0};
        g_autofree char *binary = NULL;
        g_assert_false(bundle_load_shim(f->bundle, &binary, &loaded, &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
        g_clear_error(&error);
        g_assert_true(bundle_save_shim(f->bundle, "/usr/bin/shim", &saved, &error));
        g_assert_true(bundle_load_shim(f->bundle, &binary, &loaded, &error));
        g_assert_cmpstr(binary, ==, "/usr/bin/shim");
        g_assert_cmpint(loaded.version, ==, 3);
        g_assert_cmpstr(loaded.protocol, ==, "ttrpc");
        g_assert_cmpstr(loaded.address, ==, "unix:///run/x.sock");
        bundle_address_done(&loaded);
}

static void expect_address(const void *bytes, size_t n, int version, const char *protocol, const char *address)
{
        struct bundle_address parsed = {0};
        g_autoptr(GError) error = NULL;
        g_assert_true(bundle_parse_address(bytes, n, &parsed, &error));
        g_assert_no_error(error);
        g_assert_cmpint(parsed.version, ==, version);
        g_assert_cmpstr(parsed.protocol, ==, protocol);
        g_assert_cmpstr(parsed.address, ==, address);
        bundle_address_done(&parsed);
}

static void all_three_forms_of_address_are_understood(void)
{
        const char *bare = "unix:///run/containerd/s/0123\n";
        expect_address(bare, strlen(bare), 2, "ttrpc", "unix:///run/containerd/s/0123");
        const char *json = "{\"version\":3,\"address\":\"unix:///a\",\"protocol\":\"GRPC\"}\n";
        expect_address(json, strlen(json), 3, "grpc", "unix:///a");
        Bootstrap__BootstrapResult result = BOOTSTRAP__BOOTSTRAP_RESULT__INIT;
        result.version = 3;
        result.protocol = (char *)"ttrpc";
        result.address = (char *)"unix:///b";
        uint8_t packed[256];
        size_t n = bootstrap__bootstrap_result__pack(&result, packed);
        expect_address(packed, n, 3, "ttrpc", "unix:///b");
}

static void newer_shims_are_refused(void)
{
        static const char *const cases[] = {"{\"version\":4,\"address\":\"unix:///a\",\"protocol\":\"ttrpc\"}",
                "{\"version\":3,\"address\":\"unix:///a\",\"protocol\":\"http\"}"};
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                struct bundle_address parsed;
                g_autoptr(GError) error = NULL;
                g_assert_false(bundle_parse_address(cases[i], strlen(cases[i]), &parsed, &error));
                g_assert_true(error_is(error, ERROR_UNIMPLEMENTED));
        }
        struct bundle_address parsed;
        g_assert_false(bundle_parse_address("", 0, &parsed, NULL));
}

static void strays_end_and_others_do_not(struct fixture *f, const void *unused)
{
        create(f->bundle);
        struct child stray, other;
        const char *const argv[] = {"sleep", "1000", NULL};
        struct spawn_options options = {.path = "sleep", .argv = argv, .cwd = f->bundle->path};
        g_assert_true(spawn(&options, &stray, NULL));
        options.cwd = f->dir;
        g_assert_true(spawn(&options, &other, NULL));
        bundle_end_strays(f->bundle->path);
        int status;
        g_assert_true(child_wait(&stray, &status, NULL));
        g_assert_cmpint(child_exit_code(status), ==, 128 + SIGTERM);
        g_assert_false(child_try_wait(&other, &status));
        child_kill(&other, SIGKILL);
        g_assert_true(child_wait(&other, &status, NULL));
        close(stray.pidfd);
        close(other.pidfd);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/bundle/" #name, struct fixture, NULL, set_up, name, tear_down)
        ADD(create_lays_out_what_shims_expect);
        ADD(create_refuses_what_is_there);
        ADD(delete_leaves_nothing);
        ADD(shim_is_found_again);
        ADD(strays_end_and_others_do_not);
        g_test_add_func("/bundle/all_three_forms_of_address_are_understood", all_three_forms_of_address_are_understood);
        g_test_add_func("/bundle/newer_shims_are_refused", newer_shims_are_refused);
        return g_test_run();
}
