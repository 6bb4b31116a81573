// SPDX-License-Identifier: Apache-2.0
//
// Layers applied without a jail, so that the rules of names and links alone must hold. Each archive goes into
// CAGE/root; afterwards CAGE must hold nothing but that and an untouched CAGE/witness.
#include "unpack/layer.h"
#include "unpack/tar_fixture.h"

#include "base/fd.h"
#include "sys/tree.h"

#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

struct cage {
        char *path, *root;
        int root_fd;
        struct report *report;
        struct layer_result result;
        uint64_t max_entries;
};

static struct cage cage_new(void)
{
        struct cage cage = {.path = g_dir_make_tmp("skiff-layer-XXXXXX", NULL)};
        cage.root = g_build_filename(cage.path, "root", NULL);
        g_autofree char *witness = g_build_filename(cage.path, "witness", NULL);
        g_assert_true(g_file_set_contents(witness, "untouched", -1, NULL));
        g_assert_cmpint(g_mkdir(cage.root, 0755), ==, 0);
        cage.root_fd = open(cage.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        cage.report = report_new();
        return cage;
}

static void assert_nothing_outside(const struct cage *cage)
{
        g_autofree char *witness = g_build_filename(cage->path, "witness", NULL);
        g_autofree char *content = NULL;
        g_assert_true(g_file_get_contents(witness, &content, NULL, NULL));
        g_assert_cmpstr(content, ==, "untouched");
        struct stat status;
        g_assert_cmpint(lstat(witness, &status), ==, 0);
        g_assert_cmpint(status.st_nlink, ==, 1);
        GDir *directory = g_dir_open(cage->path, 0, NULL);
        unsigned n = 0;
        while (g_dir_read_name(directory) != NULL)
                n++;
        g_dir_close(directory);
        g_assert_cmpuint(n, ==, 2);
}

static void cage_done(struct cage *cage)
{
        assert_nothing_outside(cage);
        report_free(cage->report);
        close(cage->root_fd);
        g_assert_cmpint(chdir("/"), ==, 0); // attributes of links are set from within their directory
        g_assert_true(tree_remove(cage->path, NULL));
        g_free(cage->root);
        g_free(cage->path);
}

struct input {
        GByteArray *archive;
        size_t offset;
};

static ssize_t read_input(void *data, void *bytes, size_t n_bytes)
{
        struct input *input = data;
        size_t n = MIN(n_bytes, input->archive->len - input->offset);
        if (n > 0)
                memcpy(bytes, input->archive->data + input->offset, n);
        input->offset += n;
        return (ssize_t)n;
}

static bool apply_bytes(struct cage *cage, bool overlay, GByteArray *archive, GError **error)
{
        struct input input = {archive, 0};
        struct layer_options options = {
                .root_fd = cage->root_fd,
                .read = read_input,
                .data = &input,
                .overlay = overlay,
                .max_entries = cage->max_entries,
        };
        bool good = layer_apply(&options, cage->report, &cage->result, error);
        if (good)
                g_assert_cmpuint(input.offset, ==, archive->len);
        g_byte_array_unref(archive);
        assert_nothing_outside(cage);
        return good;
}

#define APPLY(cage, overlay, error, ...)                                                                               \
        apply_bytes(cage, overlay,                                                                                     \
                tar_fixture((struct tar_entry[]){__VA_ARGS__}, G_N_ELEMENTS(((struct tar_entry[]){__VA_ARGS__}))),     \
                error)

static void assert_file(const struct cage *cage, const char *path, const char *expected)
{
        g_autofree char *full = g_build_filename(cage->root, path, NULL);
        g_autofree char *content = NULL;
        g_assert_true(g_file_get_contents(full, &content, NULL, NULL));
        g_assert_cmpstr(content, ==, expected);
}

static struct stat stat_of(const struct cage *cage, const char *path)
{
        struct stat status = {0};
        int result = fstatat(cage->root_fd, path, &status, AT_SYMLINK_NOFOLLOW);
        if (result < 0)
                status.st_mode = 0;
        return status;
}

static void assert_missing(const struct cage *cage, const char *path)
{
        g_assert_cmpuint(stat_of(cage, path).st_mode, ==, 0);
}

// ---- reports, collected as one text a kind

struct collected {
        GString *invented, *opaque, *devices;
};

static bool collect(void *data, const Worker__Reported *part, GError **error)
{
        struct collected *collected = data;
        for (size_t i = 0; i < part->n_directories; i++)
                g_string_append_printf(collected->invented, "%.*s%s\n", (int)part->directories[i]->path.len,
                        (char *)part->directories[i]->path.data, part->directories[i]->named_later ? " named" : "");
        for (size_t i = 0; i < part->n_opaque_paths; i++)
                g_string_append_printf(collected->opaque, "%.*s\n", (int)part->opaque_paths[i].len,
                        (char *)part->opaque_paths[i].data);
        for (size_t i = 0; i < part->n_devices; i++)
                g_string_append_printf(collected->devices, "%.*s %o %u:%u %.*s\n", (int)part->devices[i]->path.len,
                        (char *)part->devices[i]->path.data, part->devices[i]->mode, part->devices[i]->major,
                        part->devices[i]->minor, (int)part->devices[i]->link_target.len,
                        (char *)part->devices[i]->link_target.data);
        return true;
}

static void assert_report(const struct cage *cage, const char *invented, const char *opaque, const char *devices)
{
        struct collected collected = {g_string_new(NULL), g_string_new(NULL), g_string_new(NULL)};
        g_assert_true(report_send(cage->report, collect, &collected, NULL));
        g_assert_cmpstr(collected.invented->str, ==, invented);
        g_assert_cmpstr(collected.opaque->str, ==, opaque);
        g_assert_cmpstr(collected.devices->str, ==, devices);
        g_string_free(collected.invented, TRUE);
        g_string_free(collected.opaque, TRUE);
        g_string_free(collected.devices, TRUE);
}

// ---- what a layer may hold

static void keeps_types_modes_owners_and_times(void)
{
        struct cage cage = cage_new();
        g_assert_true(APPLY(&cage, true, NULL, {.name = "d/", .type = '5', .mode = 0710, .mtime = 1000},
                {.name = "d/f", .type = '0', .body = "text", .mode = 04755, .uid = 5, .gid = 6, .mtime = 2000},
                {.name = "d/hard", .type = '1', .link = "d/f", .mode = 04755, .uid = 5, .gid = 6, .mtime = 2000},
                {.name = "d/soft", .type = '2', .link = "/etc/passwd", .uid = 7, .gid = 8, .mtime = 3000},
                {.name = "d/fifo", .type = '6', .mode = 0600, .mtime = 4000},
                {.name = "./", .type = '5', .mode = 0777, .mtime = 9000}));
        g_assert_cmpuint(cage.result.entries, ==, 6);
        struct stat file = stat_of(&cage, "d/f"), hard = stat_of(&cage, "d/hard"), soft = stat_of(&cage, "d/soft");
        g_assert_cmpuint(file.st_mode, ==, S_IFREG | 04755);
        g_assert_cmpuint(file.st_uid, ==, 5);
        g_assert_cmpuint(file.st_gid, ==, 6);
        g_assert_cmpint(file.st_mtim.tv_sec, ==, 2000);
        g_assert_cmpuint(file.st_ino, ==, hard.st_ino);
        g_assert_true(S_ISLNK(soft.st_mode));
        g_assert_cmpuint(soft.st_uid, ==, 7);
        g_assert_cmpint(soft.st_mtim.tv_sec, ==, 3000);
        g_assert_cmpuint(stat_of(&cage, "d/fifo").st_mode, ==, S_IFIFO | 0600);
        g_assert_cmpuint(stat_of(&cage, "d").st_mode, ==, S_IFDIR | 0710);
        g_assert_cmpint(stat_of(&cage, "d").st_mtim.tv_sec, ==, 1000);
        g_assert_cmpuint(stat_of(&cage, ".").st_mode, ==, S_IFDIR | 0755); // the root keeps what it has
        assert_report(&cage, "", "", "");
        cage_done(&cage);
}

static void takes_names_as_bytes(void)
{
        struct cage cage = cage_new();
        char name[300];
        memset(name, 'n', sizeof(name));
        memcpy(name, "path=d/", 7);
        name[7 + 200] = '\0';
        g_autofree char *pax = g_strdup_printf("%s\n", name);
        g_assert_true(APPLY(&cage, true, NULL, {.name = "caf\xe9", .type = '0', .body = "latin"},
                {.name = "caf\xc3\xa9", .type = '0', .body = "utf-8"},
                {.name = "x", .type = '0', .body = "pax", .pax = "path=gr\xc3\xbc\xc3\x9f\n"},
                {.name = "x", .type = '0', .body = "raw", .pax = "path=bad\xff\xfe\n"},
                {.name = "x", .type = '0', .body = "long", .pax = pax}));
        assert_file(&cage, "caf\xe9", "latin");
        assert_file(&cage, "caf\xc3\xa9", "utf-8");
        assert_file(&cage, "gr\xc3\xbc\xc3\x9f", "pax");
        assert_file(&cage, "bad\xff\xfe", "raw");
        assert_file(&cage, name + 5, "long");
        cage_done(&cage);
}

static void sets_attributes_except_the_hosts(void)
{
        struct cage cage = cage_new();
        g_autoptr(GError) error = NULL;
        g_assert_true(APPLY(&cage, true, &error,
                {.name = "f", .type = '0', .pax = "SCHILY.xattr.user.one=1\nSCHILY.xattr.trusted.overlay.opaque=y\n"},
                {.name = "d", .type = '5', .pax = "SCHILY.xattr.user.two=22\n", .mode = 0755},
                {.name = "l", .type = '2', .link = "f", .pax = "SCHILY.xattr.user.three=3\n"}));
        g_assert_no_error(error);
        g_autofree char *file = g_build_filename(cage.root, "f", NULL);
        g_autofree char *directory = g_build_filename(cage.root, "d", NULL);
        char value[16];
        if (lgetxattr(file, "user.one", value, sizeof(value)) < 0 && errno == ENOTSUP) {
                g_test_skip("the file system has no attributes");
        } else {
                g_assert_cmpint(lgetxattr(file, "user.one", value, sizeof(value)), ==, 1);
                g_assert_cmpint(lgetxattr(directory, "user.two", value, sizeof(value)), ==, 2);
                g_assert_cmpint(lgetxattr(file, "trusted.overlay.opaque", value, sizeof(value)), ==, -1);
        }
        cage_done(&cage);
}

static void replaces_what_is_there_and_merges_directories(void)
{
        struct cage cage = cage_new();
        g_assert_true(APPLY(&cage, false, NULL, {.name = "a/b/c", .type = '0', .body = "1"},
                {.name = "keep/x", .type = '0', .body = "x"}, {.name = "file", .type = '0', .body = "old"},
                {.name = "link", .type = '2', .link = "keep"}));
        g_assert_true(APPLY(&cage, false, NULL, {.name = "a", .type = '0', .body = "was a directory"},
                {.name = "keep", .type = '5', .mode = 0700}, {.name = "file", .type = '5', .mode = 0755},
                {.name = "link", .type = '0', .body = "was a link"}));
        assert_file(&cage, "a", "was a directory");
        assert_file(&cage, "keep/x", "x");
        g_assert_cmpuint(stat_of(&cage, "keep").st_mode, ==, S_IFDIR | 0700);
        g_assert_true(S_ISDIR(stat_of(&cage, "file").st_mode));
        g_assert_true(S_ISREG(stat_of(&cage, "link").st_mode));
        cage_done(&cage);
}

static void reports_directories_that_it_invents(void)
{
        struct cage cage = cage_new();
        g_assert_true(APPLY(&cage, true, NULL, {.name = "only/file", .type = '0', .body = ""}));
        assert_report(&cage, "only\n", "", "");
        g_assert_cmpuint(stat_of(&cage, "only").st_mode, ==, S_IFDIR | 0755);
        g_assert_true(APPLY(&cage, true, NULL, {.name = "only/", .type = '5', .mode = 0711}));
        assert_report(&cage, "only named\n", "", "");
        g_assert_true(APPLY(&cage, true, NULL, {.name = "only", .type = '0', .body = ""}));
        assert_report(&cage, "", "", "");
        cage_done(&cage);
}

static void leaves_devices_to_the_daemon(void)
{
        struct cage cage = cage_new();
        g_assert_true(APPLY(&cage, true, NULL, {.name = "null", .type = '3', .major = 1, .minor = 3, .mode = 0666},
                {.name = "gone", .type = '4', .major = 8, .minor = 1, .mode = 0600},
                {.name = "same", .type = '1', .link = "null"}, {.name = "gone", .type = '0', .body = "file"}));
        assert_report(&cage, "", "", "null 20666 1:3 \nsame 644 0:0 null\n");
        assert_missing(&cage, "null");
        assert_file(&cage, "gone", "file");
        cage_done(&cage);
}

// ---- whiteouts

static void makes_overlay_whiteouts(void)
{
        struct cage cage = cage_new();
        g_assert_true(APPLY(&cage, true, NULL, {.name = "d/", .type = '5', .mode = 0755},
                {.name = "d/.wh.gone", .type = '0', .uid = 3, .gid = 4}, {.name = "d/.wh..wh..opq", .type = '0'},
                {.name = "e/.wh..wh..opq", .type = '0'}));
        struct stat gone = stat_of(&cage, "d/gone");
        g_assert_true(S_ISCHR(gone.st_mode));
        g_assert_cmpuint(gone.st_rdev, ==, makedev(0, 0));
        g_assert_cmpuint(gone.st_uid, ==, 3);
        assert_missing(&cage, "d/.wh.gone");
        assert_missing(&cage, "d/.wh..wh..opq");
        struct collected collected = {g_string_new(NULL), g_string_new(NULL), g_string_new(NULL)};
        g_assert_true(report_send(cage.report, collect, &collected, NULL));
        g_assert_nonnull(strstr(collected.opaque->str, "d\n"));
        g_assert_nonnull(strstr(collected.opaque->str, "e\n"));
        g_assert_cmpstr(collected.invented->str, ==, "e\n");
        g_string_free(collected.invented, TRUE);
        g_string_free(collected.opaque, TRUE);
        g_string_free(collected.devices, TRUE);
        cage_done(&cage);
}

static void removes_what_whiteouts_name(void)
{
        struct cage cage = cage_new();
        g_assert_true(APPLY(&cage, false, NULL, {.name = "a/b/c", .type = '0', .body = ""},
                {.name = "d/old", .type = '0', .body = ""}, {.name = "d/sub/old", .type = '0', .body = ""},
                {.name = "f", .type = '0', .body = ""}));
        g_assert_true(APPLY(&cage, false, NULL, {.name = ".wh.a", .type = '0'}, {.name = ".wh.f", .type = '0'},
                {.name = ".wh.never", .type = '0'}, {.name = "d/new", .type = '0', .body = "new"},
                {.name = "d/.wh..wh..opq", .type = '0'}, {.name = "d/after", .type = '0', .body = "after"}));
        assert_missing(&cage, "a");
        assert_missing(&cage, "f");
        assert_missing(&cage, "d/old");
        assert_missing(&cage, "d/sub");
        assert_file(&cage, "d/new", "new");
        assert_file(&cage, "d/after", "after");
        cage_done(&cage);
}

static void refuses_malformed_whiteouts(void)
{
        static const char *const names[] = {".wh.", ".wh..", ".wh...", "d/.wh..."};
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                for (int overlay = 0; overlay < 2; overlay++) {
                        struct cage cage = cage_new();
                        g_autoptr(GError) error = NULL;
                        g_assert_false(APPLY(&cage, overlay, &error, {.name = names[i], .type = '0'}));
                        g_assert_error(error, SKIFF_ERROR, ERROR_INVALID_ARGUMENT);
                        g_assert_nonnull(strstr(error->message, "invalid whiteout name"));
                        cage_done(&cage);
                }
        }
}

// ---- hostile ones

static void absolute_and_dotted_names_stay_inside(void)
{
        struct cage cage = cage_new();
        g_assert_true(APPLY(&cage, true, NULL, {.name = "/abs", .type = '0', .body = "1"},
                {.name = "../up", .type = '0', .body = "2"}, {.name = "../../../../../far", .type = '0', .body = "3"},
                {.name = "a/../../witness", .type = '0', .body = "4"}, {.name = "..", .type = '5', .mode = 0777},
                {.name = "../other/x", .type = '0', .body = "5"}));
        assert_file(&cage, "abs", "1");
        assert_file(&cage, "up", "2");
        assert_file(&cage, "far", "3");
        cage_done(&cage);
}

static void links_are_followed_inside(void)
{
        struct cage cage = cage_new();
        g_autofree char *outside = g_strdup_printf("%s/witness", cage.path);
        g_assert_true(APPLY(&cage, true, NULL, {.name = "up", .type = '2', .link = "../../.."},
                {.name = "up/through", .type = '0', .body = "1"}, {.name = "abs", .type = '2', .link = "/tmp/x/y"},
                {.name = "abs/file", .type = '0', .body = "2"}, {.name = "w", .type = '2', .link = outside},
                {.name = "w", .type = '0', .body = "3"}, {.name = "self", .type = '2', .link = "."},
                {.name = "self/self/f", .type = '0', .body = "4"}));
        assert_file(&cage, "through", "1");
        assert_file(&cage, "tmp/x/y/file", "2");
        assert_file(&cage, "w", "3");
        assert_file(&cage, "f", "4");
        cage_done(&cage);
}

static void circular_links_are_refused(void)
{
        struct cage cage = cage_new();
        g_autoptr(GError) error = NULL;
        g_assert_false(APPLY(&cage, true, &error, {.name = "a", .type = '2', .link = "b"},
                {.name = "b", .type = '2', .link = "a"}, {.name = "a/f", .type = '0', .body = ""}));
        g_assert_error(error, SKIFF_ERROR, ERROR_INVALID_ARGUMENT);
        cage_done(&cage);
}

static void hard_links_cannot_reach_out(void)
{
        static const char *const targets[] = {"../witness", "/../witness", "up/witness", "../../../../etc/passwd"};
        for (size_t i = 0; i < G_N_ELEMENTS(targets); i++) {
                struct cage cage = cage_new();
                g_autoptr(GError) error = NULL;
                g_assert_false(APPLY(&cage, true, &error, {.name = "up", .type = '2', .link = ".."},
                        {.name = "h", .type = '1', .link = targets[i]}));
                g_assert_nonnull(error);
                assert_missing(&cage, "h");
                cage_done(&cage);
        }
}

static void a_directory_that_becomes_a_link_is_not_written_through(void)
{
        struct cage cage = cage_new();
        g_assert_true(APPLY(&cage, false, NULL, {.name = "d/a", .type = '0', .body = "1"},
                {.name = "d", .type = '2', .link = "../.."}, {.name = "d/b", .type = '0', .body = "2"},
                {.name = ".wh.d", .type = '0'}, {.name = "d/c", .type = '0', .body = "3"}));
        assert_file(&cage, "b", "2");
        assert_file(&cage, "d/c", "3");
        assert_missing(&cage, "d/a");
        cage_done(&cage);
}

static void files_on_the_way_are_no_directories(void)
{
        struct cage cage = cage_new();
        g_autoptr(GError) error = NULL;
        g_assert_false(APPLY(
                &cage, true, &error, {.name = "f", .type = '0', .body = ""}, {.name = "f/x", .type = '0', .body = ""}));
        g_assert_nonnull(strstr(error->message, "ot a directory"));
        cage_done(&cage);
}

static void opaque_markers_do_not_follow_out(void)
{
        struct cage cage = cage_new();
        g_assert_true(APPLY(&cage, false, NULL, {.name = "up", .type = '2', .link = "../.."},
                {.name = "up/.wh..wh..opq", .type = '0'}, {.name = "up/.wh.witness", .type = '0'}));
        cage_done(&cage);
}

static void limits_are_kept(void)
{
        struct cage cage = cage_new();
        cage.max_entries = 2;
        g_autoptr(GError) error = NULL;
        g_assert_false(APPLY(&cage, true, &error, {.name = "a", .type = '0'}, {.name = "b", .type = '0'},
                {.name = "c", .type = '0'}));
        g_assert_error(error, SKIFF_ERROR, ERROR_RESOURCE_EXHAUSTED);
        cage_done(&cage);
}

static void truncated_archives_are_refused(void)
{
        struct cage cage = cage_new();
        g_autoptr(GError) error = NULL;
        GByteArray *archive = tar_fixture_new();
        tar_fixture_add(archive, &(struct tar_entry){.name = "f", .type = '0', .body = "some bytes"});
        g_byte_array_set_size(archive, 512 + 4);
        g_assert_false(apply_bytes(&cage, true, archive, &error));
        g_clear_error(&error);
        GByteArray *garbage = g_byte_array_new();
        g_byte_array_append(garbage, (const guint8 *)"this is no archive at all, but long enough", 42);
        g_byte_array_set_size(garbage, 2048);
        g_assert_false(apply_bytes(&cage, true, garbage, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_INVALID_ARGUMENT);
        cage_done(&cage);
}

static void an_empty_stream_is_an_empty_layer(void)
{
        struct cage cage = cage_new();
        g_assert_true(apply_bytes(&cage, true, g_byte_array_new(), NULL));
        g_assert_cmpuint(cage.result.entries, ==, 0);
        cage_done(&cage);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        setlocale(LC_CTYPE, "C.UTF-8");
        if (geteuid() != 0) {
                g_test_message("needs root");
                return 77;
        }
        umask(022);
        g_test_add_func("/layer/keeps_types_modes_owners_and_times", keeps_types_modes_owners_and_times);
        g_test_add_func("/layer/takes_names_as_bytes", takes_names_as_bytes);
        g_test_add_func("/layer/sets_attributes_except_the_hosts", sets_attributes_except_the_hosts);
        g_test_add_func("/layer/replaces_what_is_there", replaces_what_is_there_and_merges_directories);
        g_test_add_func("/layer/reports_directories_that_it_invents", reports_directories_that_it_invents);
        g_test_add_func("/layer/leaves_devices_to_the_daemon", leaves_devices_to_the_daemon);
        g_test_add_func("/layer/makes_overlay_whiteouts", makes_overlay_whiteouts);
        g_test_add_func("/layer/removes_what_whiteouts_name", removes_what_whiteouts_name);
        g_test_add_func("/layer/refuses_malformed_whiteouts", refuses_malformed_whiteouts);
        g_test_add_func("/layer/hostile/names_stay_inside", absolute_and_dotted_names_stay_inside);
        g_test_add_func("/layer/hostile/links_are_followed_inside", links_are_followed_inside);
        g_test_add_func("/layer/hostile/circular_links_are_refused", circular_links_are_refused);
        g_test_add_func("/layer/hostile/hard_links_cannot_reach_out", hard_links_cannot_reach_out);
        g_test_add_func("/layer/hostile/a_directory_that_becomes_a_link",
                a_directory_that_becomes_a_link_is_not_written_through);
        g_test_add_func("/layer/hostile/files_are_no_directories", files_on_the_way_are_no_directories);
        g_test_add_func("/layer/hostile/opaque_markers_stay_inside", opaque_markers_do_not_follow_out);
        g_test_add_func("/layer/hostile/limits_are_kept", limits_are_kept);
        g_test_add_func("/layer/hostile/truncated_archives_are_refused", truncated_archives_are_refused);
        g_test_add_func("/layer/an_empty_stream_is_an_empty_layer", an_empty_stream_is_an_empty_layer);
        return g_test_run();
}
