// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "plugins/transfer/descriptors.h"
#include "plugins/transfer/hosts.h"
#include "plugins/transfer/layers.h"
#include "plugins/transfer/locks.h"
#include "plugins/transfer/oci_json.h"
#include "plugins/transfer/tar_writer.h"

#include <glib/gstdio.h>
#include <string.h>

#define OCI "application/vnd.oci.image."
#define DIGEST_A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST_B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

// ---- descriptors

static void media_types_have_their_kinds(void)
{
        g_assert_cmpint(node_kind(OCI "index.v1+json"), ==, NODE_INDEX);
        g_assert_cmpint(node_kind("application/vnd.docker.distribution.manifest.v2+json"), ==, NODE_MANIFEST);
        g_assert_cmpint(node_kind(OCI "config.v1+json"), ==, NODE_CONFIG);
        g_assert_cmpint(node_kind(OCI "layer.v1.tar+zstd"), ==, NODE_LAYER);
        g_assert_cmpint(node_kind("application/vnd.docker.image.rootfs.diff.tar.gzip"), ==, NODE_LAYER);
        g_assert_cmpint(node_kind("application/vnd.docker.image.rootfs.diff.tarball"), ==, NODE_OTHER);
        g_assert_true(media_type_is_nondistributable(OCI "layer.nondistributable.v1.tar+gzip"));
        g_assert_false(media_type_is_nondistributable(OCI "layer.v1.tar+gzip"));
}

static void ref_keys_are_containerds(void)
{
        AUTO(arena) arena = arena_new();
        struct node node = {.media_type = OCI "layer.v1.tar+gzip", .digest = DIGEST_A};
        g_autofree char *plain = node_ref_key(&node);
        g_assert_cmpstr(plain, ==, "layer-" DIGEST_A);
        labels_set(&node.annotations, arena, "org.opencontainers.image.ref.name", "v1");
        node.media_type = "text/plain";
        g_autofree char *named = node_ref_key(&node);
        g_assert_cmpstr(named, ==, "unknown-v1@" DIGEST_A);
}

static void children_are_labelled_by_kind_and_number(void)
{
        AUTO(arena) arena = arena_new();
        struct node items[] = {
                {.media_type = OCI "config.v1+json", .digest = DIGEST_A},
                {.media_type = OCI "layer.v1.tar", .digest = DIGEST_B},
                {.media_type = OCI "layer.v1.tar", .digest = DIGEST_A},
                {.media_type = "text/plain", .digest = DIGEST_B},
        };
        struct nodes nodes = {items, G_N_ELEMENTS(items)};
        struct labels labels = {0};
        nodes_gc_labels(&nodes, &labels, arena);
        g_assert_cmpint(labels.n, ==, 4);
        g_assert_cmpstr(labels_get(&labels, "containerd.io/gc.ref.content.config"), ==, DIGEST_A);
        g_assert_cmpstr(labels_get(&labels, "containerd.io/gc.ref.content.l.0"), ==, DIGEST_B);
        g_assert_cmpstr(labels_get(&labels, "containerd.io/gc.ref.content.l.1"), ==, DIGEST_A);
        g_assert_cmpstr(labels_get(&labels, "containerd.io/gc.ref.content.0"), ==, DIGEST_B);
}

static struct nodes three_manifests(struct arena *arena)
{
        static const char *const architectures[] = {"s390x", "amd64", "arm64"};
        struct nodes nodes = {arena_array(arena, struct node, 3), 3};
        for (size_t i = 0; i < 3; i++)
                nodes.items[i] = (struct node){.media_type = OCI "manifest.v1+json",
                        .digest = DIGEST_A,
                        .has_platform = true,
                        .platform = {"linux", architectures[i], ""}};
        return nodes;
}

static void platforms_choose_the_children_of_an_index(void)
{
        AUTO(arena) arena = arena_new();
        const struct node index = {.media_type = OCI "index.v1+json"};
        const struct platform asked[] = {{"linux", "arm64", ""}, {"linux", "amd64", ""}};
        struct nodes nodes = three_manifests(arena);
        struct wanted wanted = {.platforms = asked, .n = 2};
        g_assert_true(nodes_filter(&nodes, &index, &wanted, NULL));
        g_assert_cmpint(nodes.n, ==, 2);
        wanted.manifest_limit = 1;
        g_assert_true(nodes_filter(&nodes, &index, &wanted, NULL));
        g_assert_cmpint(nodes.n, ==, 1);
        g_assert_cmpstr(nodes.items[0].platform.architecture, ==, "arm64");

        const struct platform none[] = {{"linux", "riscv64", ""}};
        nodes = three_manifests(arena);
        wanted = (struct wanted){.platforms = none, .n = 1, .manifest_limit = 1};
        g_autoptr(GError) error = NULL;
        g_assert_false(nodes_filter(&nodes, &index, &wanted, &error));
        g_assert_true(error_is(error, ERROR_NOT_FOUND));
        nodes = three_manifests(arena);
        wanted = (struct wanted){.platforms = none, .n = 1, .all_metadata = true};
        g_assert_true(nodes_filter(&nodes, &index, &wanted, NULL));
        g_assert_cmpint(nodes.n, ==, 3);
}

static void chain_ids_are_the_image_specs(void)
{
        const char *const diff_ids[] = {DIGEST_A, DIGEST_B};
        g_autofree char *one = layers_chain_id(diff_ids, 1);
        g_autofree char *two = layers_chain_id(diff_ids, 2);
        g_autofree char *pair = g_compute_checksum_for_string(G_CHECKSUM_SHA256, DIGEST_A " " DIGEST_B, -1);
        g_autofree char *expected = g_strconcat("sha256:", pair, NULL);
        g_assert_cmpstr(one, ==, DIGEST_A);
        g_assert_cmpstr(two, ==, expected);
}

static void documents_are_written_as_go_writes_them(void)
{
        AUTO(arena) arena = arena_new();
        struct node node = {.media_type = OCI "manifest.v1+json",
                .digest = DIGEST_A,
                .size = 7,
                .has_platform = true,
                .platform = {"linux", "arm", "v7"}};
        labels_set(&node.annotations, arena, "b", "<&>");
        labels_set(&node.annotations, arena, "a", "1");
        struct nodes nodes = {&node, 1};
        size_t n;
        g_autofree char *text = oci_json_print(oci_json_index(NULL, &nodes), &n);
        g_assert_cmpstr(text, ==,
                "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"" OCI "manifest.v1+json\",\"digest\":\"" DIGEST_A
                "\",\"size\":7,\"annotations\":{\"a\":\"1\",\"b\":\"\\u003c\\u0026\\u003e\"},\"platform\":"
                "{\"architecture\":\"arm\",\"os\":\"linux\",\"variant\":\"v7\"}}]}");
        g_assert_cmpint(n, ==, strlen(text));
}

static void tar_headers_are_readable_by_others(void)
{
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        tar_append_header(bytes, "blobs/sha256/", 0755, 0, true);
        g_assert_cmpint(bytes->len, ==, TAR_BLOCK);
        g_assert_cmpstr((const char *)bytes->data, ==, "blobs/sha256/");
        g_assert_cmpmem(bytes->data + 257, 8, "ustar\00000", 8);
        g_assert_cmpint(bytes->data[156], ==, '5');
        g_byte_array_set_size(bytes, 0);
        g_autofree char *name = g_strnfill(150, 'n');
        tar_append_header(bytes, name, 0644, 9LL << 30, false);
        g_assert_cmpint(bytes->len, ==, 3 * TAR_BLOCK);
        g_assert_cmpint(bytes->data[156], ==, 'x');
        g_autofree char *records = g_strndup((const char *)bytes->data + TAR_BLOCK, TAR_BLOCK);
        g_autofree char *expected = g_strdup_printf("160 path=%s\n19 size=9663676416\n", name);
        g_assert_cmpstr(records, ==, expected);
        g_assert_cmpint(tar_padding(0), ==, 0);
        g_assert_cmpint(tar_padding(1), ==, 511);
        g_assert_cmpint(tar_padding(512), ==, 0);
}

// ---- locks

static void on_locked(void *data)
{
        ++*(int *)data;
}

static void a_lock_goes_to_those_who_wait_in_order(void)
{
        struct locks *locks = locks_new();
        int one = 0, two = 0, three = 0, other = 0;
        locks_acquire(locks, "k", on_locked, &one);
        locks_acquire(locks, "k", on_locked, &two);
        locks_acquire(locks, "k", on_locked, &three);
        locks_acquire(locks, "l", on_locked, &other);
        g_assert_true(one == 1 && two == 0 && three == 0 && other == 1);
        locks_release(locks, "k");
        g_assert_true(two == 1 && three == 0);
        locks_release(locks, "k");
        g_assert_cmpint(three, ==, 1);
        locks_release(locks, "k");
        locks_acquire(locks, "k", on_locked, &one);
        g_assert_cmpint(one, ==, 2);
        locks_release(locks, "k");
        locks_release(locks, "l");
        locks_free(locks);
}

// ---- hosts

static Fetch__Setup configure(const char *host, const char *directory, const char *scheme, struct arena *arena)
{
        Fetch__Setup setup = FETCH__SETUP__INIT;
        g_autoptr(GError) error = NULL;
        const struct hosts_request request = {host, directory, scheme};
        g_assert_true(hosts_configure(&request, &setup, arena, &error));
        return setup;
}

static void hosts_have_containerds_defaults(void)
{
        static const struct {
                const char *host, *scheme, *expected_scheme, *expected_host;
                bool fallback, skip_verify;
        } cases[] = {
                {"docker.io", "", "https", "registry-1.docker.io", false, false},
                {"ghcr.io", "", "https", "ghcr.io", false, false},
                {"ghcr.io", "http", "http", "ghcr.io", false, false},
                {"localhost:5000", "", "https", "localhost:5000", true, true},
                {"127.0.0.1:80", "", "http", "127.0.0.1:80", false, false},
                {"[::1]:5000", "", "https", "[::1]:5000", true, true},
                {"localhost", "", "https", "localhost", false, true},
                {"localhost:5000", "http", "http", "localhost:5000", false, false},
                {"127.0.0.1.example.org:5000", "", "https", "127.0.0.1.example.org:5000", false, false},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                AUTO(arena) arena = arena_new();
                Fetch__Setup setup = configure(cases[i].host, "", cases[i].scheme, arena);
                g_assert_cmpint(setup.n_hosts, ==, 1);
                const Fetch__Host *host = setup.hosts[0];
                g_assert_cmpstr(host->scheme, ==, cases[i].expected_scheme);
                g_assert_cmpstr(host->host, ==, cases[i].expected_host);
                g_assert_cmpstr(host->path, ==, "/v2");
                g_assert_true(host->pull && host->resolve && host->push);
                g_assert_cmpint(host->http_fallback, ==, cases[i].fallback);
                g_assert_cmpint(host->skip_verify, ==, cases[i].skip_verify);
        }
}

static char *write_hosts(const char *text)
{
        char *root = g_dir_make_tmp("hosts-XXXXXX", NULL);
        g_autofree char *directory = g_build_filename(root, "example.org_5000_", NULL);
        g_autofree char *file = g_build_filename(directory, "hosts.toml", NULL);
        g_autofree char *ca = g_build_filename(directory, "ca.pem", NULL);
        g_assert_cmpint(g_mkdir(directory, 0755), ==, 0);
        g_assert_true(g_file_set_contents(file, text, -1, NULL));
        g_assert_true(g_file_set_contents(ca, "CERTIFICATE", -1, NULL));
        return root;
}

static void remove_hosts(const char *root)
{
        g_autofree char *directory = g_build_filename(root, "example.org_5000_", NULL);
        g_autofree char *file = g_build_filename(directory, "hosts.toml", NULL);
        g_autofree char *ca = g_build_filename(directory, "ca.pem", NULL);
        g_unlink(file);
        g_unlink(ca);
        g_rmdir(directory);
        g_rmdir(root);
}

static void dial_timeouts_are_gos_durations(void)
{
        static const struct {
                const char *text;
                uint32_t expected_ms;
        } cases[] = {{"2s", 2000}, {"1m30s", 90000}, {"1.5h", 5400000}, {"1us", 1}, {"0", 0}, {"10000h", 86400000}};
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *text = g_strdup_printf("server = \"https://s.example\"\ndial_timeout = \"%s\"\n"
                                                        "[host.\"https://a.example\"]\n",
                        cases[i].text);
                g_autofree char *root = write_hosts(text);
                AUTO(arena) arena = arena_new();
                Fetch__Setup setup = configure("example.org:5000", root, "", arena);
                g_assert_cmpint(setup.n_hosts, ==, 2);
                g_assert_cmpint(setup.hosts[1]->connect_timeout_ms, ==, cases[i].expected_ms);
                remove_hosts(root);
        }
}

static void mirrors_come_in_the_order_of_the_file(void)
{
        g_autofree char *root = write_hosts("server = \"https://example.org:5000\"\n"
                                            "[host.\"https://z.example\"]\n"
                                            "capabilities = [\"pull\"]\n"
                                            "ca = \"ca.pem\"\n"
                                            "[host.\"https://z.example\".header]\n"
                                            "x-one = \"1\"\n"
                                            "[host.\"http://a.example:8080/base\"]\n"
                                            "skip_verify = true\n"
                                            "dial_timeout = \"2s\"\n"
                                            "[host.\"https://m.example/root\"]\n"
                                            "override_path = true\n");
        AUTO(arena) arena = arena_new();
        Fetch__Setup setup = configure("example.org:5000", root, "", arena);
        g_assert_cmpint(setup.n_hosts, ==, 4);
        g_assert_cmpstr(setup.hosts[0]->host, ==, "z.example");
        g_assert_true(setup.hosts[0]->pull && !setup.hosts[0]->resolve && !setup.hosts[0]->push);
        g_assert_cmpmem(setup.hosts[0]->ca.data, setup.hosts[0]->ca.len, "CERTIFICATE\n", 12);
        g_assert_cmpstr(setup.hosts[0]->headers[0]->name, ==, "x-one");
        g_assert_cmpstr(setup.hosts[1]->host, ==, "a.example:8080");
        g_assert_cmpstr(setup.hosts[1]->path, ==, "/base/v2");
        g_assert_cmpstr(setup.hosts[1]->scheme, ==, "https");
        g_assert_true(setup.hosts[1]->http_fallback && setup.hosts[1]->skip_verify);
        g_assert_cmpint(setup.hosts[1]->connect_timeout_ms, ==, 2000);
        g_assert_cmpstr(setup.hosts[2]->path, ==, "/root");
        g_assert_cmpstr(setup.hosts[3]->host, ==, "example.org:5000");
        remove_hosts(root);
}

static void a_file_that_cannot_be_read_is_left_aside(void)
{
        static const char *const texts[] = {
                "server = ", "[host.\"https://x\"]\ncapabilities = [\"fly\"]\n", "ca = \"missing.pem\"\n"};
        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                g_autofree char *root = write_hosts(texts[i]);
                AUTO(arena) arena = arena_new();
                Fetch__Setup setup = configure("example.org:5000", root, "", arena);
                g_assert_cmpint(setup.n_hosts, ==, 1);
                g_assert_cmpstr(setup.hosts[0]->host, ==, "example.org:5000");
                remove_hosts(root);
        }
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/transfer/media_types_have_their_kinds", media_types_have_their_kinds);
        g_test_add_func("/transfer/ref_keys_are_containerds", ref_keys_are_containerds);
        g_test_add_func("/transfer/children_are_labelled_by_kind_and_number", children_are_labelled_by_kind_and_number);
        g_test_add_func(
                "/transfer/platforms_choose_the_children_of_an_index", platforms_choose_the_children_of_an_index);
        g_test_add_func("/transfer/chain_ids_are_the_image_specs", chain_ids_are_the_image_specs);
        g_test_add_func("/transfer/documents_are_written_as_go_writes_them", documents_are_written_as_go_writes_them);
        g_test_add_func("/transfer/tar_headers_are_readable_by_others", tar_headers_are_readable_by_others);
        g_test_add_func("/transfer/a_lock_goes_to_those_who_wait_in_order", a_lock_goes_to_those_who_wait_in_order);
        g_test_add_func("/transfer/hosts_have_containerds_defaults", hosts_have_containerds_defaults);
        g_test_add_func("/transfer/dial_timeouts_are_gos_durations", dial_timeouts_are_gos_durations);
        g_test_add_func("/transfer/mirrors_come_in_the_order_of_the_file", mirrors_come_in_the_order_of_the_file);
        g_test_add_func("/transfer/a_file_that_cannot_be_read_is_left_aside", a_file_that_cannot_be_read_is_left_aside);
        return g_test_run();
}
