// SPDX-License-Identifier: Apache-2.0
//
// Layers through jailed workers, as the daemon unpacks them.
#include "base/digest.h"
#include "base/fd.h"
#include "io/cancel.h"
#include "io/loop.h"
#include "support.h"
#include "unpack/tar_fixture.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static GByteArray *plain_layer(void)
{
        static const struct tar_entry entries[] = {
                {.name = "d/", .type = '5', .mode = 0750, .mtime = 1000},
                {.name = "d/f", .type = '0', .body = "hello", .mode = 04755, .uid = 1234, .gid = 5678, .mtime = 2000},
                {.name = "d/.wh.gone", .type = '0'},
                {.name = "dev/null", .type = '3', .major = 1, .minor = 3, .mode = 0666, .mtime = 3000},
                {.name = "dev/zero", .type = '1', .link = "dev/null", .mode = 0666, .mtime = 3000},
                {.name = "o/.wh..wh..opq", .type = '0'},
        };
        return tar_fixture(entries, G_N_ELEMENTS(entries));
}

static void assert_plain_layer(struct support *support, GByteArray *plain)
{
        g_assert_no_error(support->error);
        g_autofree char *expected = digest_of_bytes(DIGEST_SHA256, plain->data, plain->len);
        g_assert_cmpstr(support->diff_id, ==, expected);
        g_assert_cmpint(support->size, ==, plain->len);
        struct stat file = support_stat(support, "d/f"), null = support_stat(support, "dev/null");
        g_assert_cmpuint(file.st_mode, ==, S_IFREG | 04755);
        g_assert_cmpuint(file.st_uid, ==, 1234);
        g_assert_cmpuint(file.st_gid, ==, 5678);
        g_assert_cmpint(support_stat(support, "d").st_mtim.tv_sec, ==, 1000);
        g_assert_true(S_ISCHR(support_stat(support, "d/gone").st_mode));
        g_assert_cmpuint(null.st_mode, ==, S_IFCHR | 0666);
        g_assert_cmpuint(null.st_rdev, ==, makedev(1, 3));
        g_assert_cmpint(null.st_mtim.tv_sec, ==, 3000);
        g_assert_cmpuint(support_stat(support, "dev/zero").st_ino, ==, null.st_ino);
        g_autofree char *opaque = g_build_filename(support->directory, "o", NULL);
        char value[4];
        g_assert_cmpint(getxattr(opaque, "trusted.overlay.opaque", value, sizeof(value)), ==, 1);
        g_assert_cmpint(value[0], ==, 'y');
}

static void unpacks(bool without_user_namespaces, GByteArray *(*compress)(const void *bytes, size_t n_bytes))
{
        struct support support;
        support_set_up(&support, without_user_namespaces);
        g_autoptr(GByteArray) plain = plain_layer();
        g_autoptr(GByteArray) layer = compress != NULL ? compress(plain->data, plain->len) : g_byte_array_ref(plain);
        support.overlay = true;
        support_unpack(&support, &(struct unpack_request){.compressed = true}, layer->data, layer->len);
        assert_plain_layer(&support, plain);
        support_tear_down(&support);
}

static void unpacks_gzip(void)
{
        unpacks(false, support_gzip);
}

static void unpacks_zstd(void)
{
        unpacks(false, support_zstd);
}

static void unpacks_plain(void)
{
        unpacks(false, NULL);
}

static void unpacks_without_user_namespaces(void)
{
        unpacks(true, support_gzip);
}

// Two members, one after the other, and padding with zeros.
static void unpacks_gzip_members(void)
{
        struct support support;
        support_set_up(&support, false);
        g_autoptr(GByteArray) plain = plain_layer();
        g_autoptr(GByteArray) first = support_gzip(plain->data, 1000);
        g_autoptr(GByteArray) second = support_gzip(plain->data + 1000, plain->len - 1000);
        g_byte_array_append(first, second->data, second->len);
        g_byte_array_append(first, (const guint8[100]){0}, 100);
        support.overlay = true;
        support_unpack(&support, &(struct unpack_request){.compressed = true}, first->data, first->len);
        assert_plain_layer(&support, plain);
        support_tear_down(&support);
}

// ---- a file that grows

struct growing {
        struct support *support;
        struct unpack *unpack;
        GByteArray *layer;
        int fd;
        size_t n_written;
};

static void grow(void *data)
{
        struct growing *growing = data;
        size_t n = MIN(100, growing->layer->len - growing->n_written);
        g_assert_cmpint(write(growing->fd, growing->layer->data + growing->n_written, n), ==, (ssize_t)n);
        growing->n_written += n;
        bool complete = growing->n_written == growing->layer->len;
        unpack_advance(growing->unpack, (int64_t)growing->n_written, complete);
        if (!complete)
                loop_timer_start(growing->support->loop, 1, grow, growing);
}

static void unpacks_a_file_that_still_grows(void)
{
        struct support support;
        support_set_up(&support, false);
        g_autoptr(GByteArray) plain = plain_layer();
        struct growing growing = {.support = &support, .layer = support_gzip(plain->data, plain->len)};
        growing.fd = support_file("", 0);
        support.overlay = true;
        struct unpack_request request = {.fd = growing.fd, .compressed = true, .locate = support_locate};
        growing.unpack = unpack_start(support.unpacker, &request, support_on_done, &support);
        loop_timer_start(support.loop, 1, grow, &growing);
        loop_run(support.loop);
        assert_plain_layer(&support, plain);
        unpack_unref(growing.unpack);
        g_byte_array_unref(growing.layer);
        close(growing.fd);
        support_tear_down(&support);
}

struct ending {
        struct support *support;
        struct cancel *cancel;
        char *waits_for;
};

// Once it says what it waits for.
static void cancel_at_work(void *data)
{
        struct ending *ending = data;
        int64_t since_ns;
        ending->waits_for = cancel_waits_for(ending->cancel, &since_ns);
        if (ending->waits_for != NULL)
                cancel_trigger(ending->cancel, ERROR_CANCELED, "client gone");
        else
                loop_timer_start(ending->support->loop, 1, cancel_at_work, ending);
}

static void ends_when_it_is_canceled(void)
{
        struct support support;
        support_set_up(&support, false);
        AUTO(cancel) cancel = cancel_new();
        fd_auto int fd = support_file("", 0);
        struct unpack_request request = {.fd = fd, .compressed = true, .locate = support_locate, .cancel = cancel};
        unpack_unref(unpack_start(support.unpacker, &request, support_on_done, &support));
        struct ending ending = {.support = &support, .cancel = cancel};
        loop_timer_start(support.loop, 1, cancel_at_work, &ending);
        loop_run(support.loop);
        g_assert_error(support.error, SKIFF_ERROR, ERROR_CANCELED);
        g_assert_true(g_str_has_prefix(ending.waits_for, "a layer unpacked to "));
        g_free(ending.waits_for);
        support_tear_down(&support);
}

static bool refuse_to_locate(void *data, struct unpack_place *ret_place, GError **error)
{
        return error_fail(error, ERROR_PERMISSION_DENIED, "not there");
}

static void fails_where_there_is_no_place(void)
{
        struct support support;
        support_set_up(&support, false);
        fd_auto int fd = support_file("", 0);
        struct unpack_request request = {.fd = fd, .locate = refuse_to_locate};
        unpack_unref(unpack_start(support.unpacker, &request, support_on_done, &support));
        loop_run(support.loop);
        g_assert_error(support.error, SKIFF_ERROR, ERROR_PERMISSION_DENIED);
        support_tear_down(&support);
}

// What is wrong with the layer ends the unpacking at once, not only when the download is over.
static void does_not_wait_for_a_download_that_is_lost(void)
{
        struct support support;
        support_set_up(&support, false);
        fd_auto int fd = support_file("\x1f\x8b\x08 this is not gzip, whatever it says", 36);
        struct unpack_request request = {.fd = fd, .available_bytes = 36, .compressed = true, .locate = support_locate};
        unpack_unref(unpack_start(support.unpacker, &request, support_on_done, &support));
        loop_run(support.loop);
        g_assert_error(support.error, SKIFF_ERROR, ERROR_DATA_LOSS);
        support_tear_down(&support);
}

// ---- damage and limits

static void refuses_truncated_and_damaged_streams(void)
{
        g_autoptr(GByteArray) plain = plain_layer();
        g_autoptr(GByteArray) layer = support_gzip(plain->data, plain->len);
        for (int damage = 0; damage < 3; damage++) {
                struct support support;
                support_set_up(&support, false);
                g_autoptr(GByteArray) bad = g_byte_array_new();
                g_byte_array_append(bad, layer->data, layer->len);
                if (damage == 0)
                        g_byte_array_set_size(bad, bad->len / 2);
                else if (damage == 1)
                        bad->data[bad->len - 6] ^= 1; // the checksum
                else
                        g_byte_array_append(bad, (const guint8 *)"trailing", 8);
                support_unpack(&support, &(struct unpack_request){.compressed = true}, bad->data, bad->len);
                g_assert_error(support.error, SKIFF_ERROR, ERROR_DATA_LOSS);
                support_tear_down(&support);
        }
}

static void refuses_bombs(void)
{
        struct support support;
        support_set_up(&support, false);
        // 300 MB of zeros behind one header, at 1000:1, where 100:1 is allowed.
        size_t n_bytes = 300 * 1000 * 1000;
        g_autofree guint8 *zeros = g_malloc0(n_bytes);
        g_autoptr(GByteArray) layer = support_gzip(zeros, n_bytes);
        support_unpack(&support, &(struct unpack_request){.compressed = true}, layer->data, layer->len);
        g_assert_error(support.error, SKIFF_ERROR, ERROR_RESOURCE_EXHAUSTED);
        support_tear_down(&support);
}

static void says_what_is_wrong_with_an_archive(void)
{
        struct support support;
        support_set_up(&support, false);
        g_autoptr(GByteArray) plain = tar_fixture(&(struct tar_entry){.name = ".wh.", .type = '0'}, 1);
        support_unpack(&support, &(struct unpack_request){.compressed = true}, plain->data, plain->len);
        g_assert_error(support.error, SKIFF_ERROR, ERROR_INVALID_ARGUMENT);
        g_assert_nonnull(strstr(support.error->message, "invalid whiteout name"));
        support_tear_down(&support);
}

static void needs_its_directory(void)
{
        struct support support;
        support_set_up(&support, false);
        g_assert_cmpint(rmdir(support.directory), ==, 0);
        support_unpack(&support, &(struct unpack_request){0}, "", 0);
        g_assert_nonnull(support.error);
        support_tear_down(&support);
}

// ---- lower layers

static void dresses_directories_that_are_taken_for_granted(void)
{
        struct support support;
        support_set_up(&support, false);
        g_autofree char *top = g_build_filename(support.path, "top", NULL);
        g_autofree char *bottom = g_build_filename(support.path, "bottom", NULL);
        g_autofree char *in_bottom = g_build_filename(bottom, "d", NULL);
        g_assert_cmpint(g_mkdir(top, 0755), ==, 0);
        g_assert_cmpint(g_mkdir_with_parents(in_bottom, 0755), ==, 0);
        g_assert_cmpint(chown(in_bottom, 11, 22), ==, 0);
        g_assert_cmpint(chmod(in_bottom, 03700), ==, 0);
        bool attributes = setxattr(in_bottom, "user.kept", "yes", 3, 0) == 0;
        const char *parents[] = {top, bottom, NULL};
        g_autoptr(GByteArray) plain = tar_fixture(
                (struct tar_entry[]){{.name = "d/x", .type = '0', .body = ""}, {.name = "e/x", .type = '0'}}, 2);
        support.overlay = true;
        support.parents = parents;
        support_unpack(&support, &(struct unpack_request){0}, plain->data, plain->len);
        g_assert_no_error(support.error);
        struct stat dressed = support_stat(&support, "d"), plain_one = support_stat(&support, "e");
        g_assert_cmpuint(dressed.st_mode, ==, S_IFDIR | 03700);
        g_assert_cmpuint(dressed.st_uid, ==, 11);
        g_assert_cmpuint(dressed.st_gid, ==, 22);
        g_assert_cmpuint(plain_one.st_mode, ==, S_IFDIR | 0755);
        g_autofree char *made = g_build_filename(support.directory, "d", NULL);
        char value[8];
        if (attributes)
                g_assert_cmpint(getxattr(made, "user.kept", value, sizeof(value)), ==, 3);
        support_tear_down(&support);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        if (!support_can_run())
                return 77;
        g_test_add_func("/unpacker/unpacks_gzip", unpacks_gzip);
        g_test_add_func("/unpacker/unpacks_zstd", unpacks_zstd);
        g_test_add_func("/unpacker/unpacks_plain", unpacks_plain);
        g_test_add_func("/unpacker/unpacks_gzip_members", unpacks_gzip_members);
        g_test_add_func("/unpacker/unpacks_without_user_namespaces", unpacks_without_user_namespaces);
        g_test_add_func("/unpacker/unpacks_a_file_that_still_grows", unpacks_a_file_that_still_grows);
        g_test_add_func("/unpacker/ends_when_it_is_canceled", ends_when_it_is_canceled);
        g_test_add_func("/unpacker/fails_where_there_is_no_place", fails_where_there_is_no_place);
        g_test_add_func("/unpacker/does_not_wait_for_a_lost_download", does_not_wait_for_a_download_that_is_lost);
        g_test_add_func("/unpacker/refuses_damaged_streams", refuses_truncated_and_damaged_streams);
        g_test_add_func("/unpacker/refuses_bombs", refuses_bombs);
        g_test_add_func("/unpacker/says_what_is_wrong", says_what_is_wrong_with_an_archive);
        g_test_add_func("/unpacker/needs_its_directory", needs_its_directory);
        g_test_add_func("/unpacker/dresses_directories", dresses_directories_that_are_taken_for_granted);
        return g_test_run();
}
