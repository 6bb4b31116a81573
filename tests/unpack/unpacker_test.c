// SPDX-License-Identifier: Apache-2.0
//
// Layers, documents and archives through skiff-unpack as the daemon uses it: jailed workers, pumps, checks.
#include "base/digest.h"
#include "base/fd.h"
#include "core/unpacker.h"
#include "io/cancel.h"
#include "io/lanes.h"
#include "io/loop.h"
#include "unpack/tar_fixture.h"

#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

struct fixture {
        struct loop *loop;
        struct lanes *lanes;
        struct unpacker *unpacker;
        char *path, *directory;
        // Results:
        char *diff_id;
        int64_t size;
        GError *error;
        GString *text;
};

static void set_up(struct fixture *fixture, bool without_user_namespaces)
{
        *fixture = (struct fixture){.loop = loop_new(NULL), .lanes = lanes_new(NULL), .text = g_string_new(NULL)};
        struct unpacker_options options = {
                .loop = fixture->loop,
                .lanes = fixture->lanes,
                .program = getenv("SKIFF_UNPACK"),
                .max_ratio = 100,
                .without_user_namespaces = without_user_namespaces,
        };
        fixture->unpacker = unpacker_new(&options);
        fixture->path = g_dir_make_tmp("skiff-unpacker-XXXXXX", NULL);
        fixture->directory = g_build_filename(fixture->path, "fs", NULL);
        g_assert_cmpint(g_mkdir(fixture->directory, 0755), ==, 0);
}

static void tear_down(struct fixture *fixture)
{
        lanes_free(fixture->lanes);
        unpacker_unref(fixture->unpacker);
        loop_free(fixture->loop);
        g_autofree char *command = g_strdup_printf("rm -rf '%s'", fixture->path);
        g_assert_cmpint(system(command), ==, 0);
        g_free(fixture->path);
        g_free(fixture->directory);
        g_free(fixture->diff_id);
        g_clear_error(&fixture->error);
        g_string_free(fixture->text, TRUE);
}

// ---- bytes

static GByteArray *gzipped(const void *bytes, size_t n_bytes)
{
        GByteArray *out = g_byte_array_new();
        g_byte_array_set_size(out, (guint)(n_bytes + n_bytes / 100 + 1000));
        z_stream stream = {.next_in = (void *)bytes, .avail_in = (uInt)n_bytes};
        stream.next_out = out->data;
        stream.avail_out = out->len;
        g_assert_cmpint(deflateInit2(&stream, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), ==, Z_OK);
        g_assert_cmpint(deflate(&stream, Z_FINISH), ==, Z_STREAM_END);
        g_byte_array_set_size(out, (guint)stream.total_out);
        deflateEnd(&stream);
        return out;
}

static GByteArray *zstd_compressed(const void *bytes, size_t n_bytes)
{
        GByteArray *out = g_byte_array_new();
        g_byte_array_set_size(out, (guint)ZSTD_compressBound(n_bytes));
        g_byte_array_set_size(out, (guint)ZSTD_compress(out->data, out->len, bytes, n_bytes, 3));
        return out;
}

static int file_with(const void *bytes, size_t n_bytes)
{
        int fd = memfd_create("layer", MFD_CLOEXEC);
        g_assert_cmpint(write(fd, bytes, n_bytes), ==, (ssize_t)n_bytes);
        return fd;
}

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

// ---- running

static void on_done(void *data, const struct unpack_result *result, const GError *error)
{
        struct fixture *fixture = data;
        g_assert_true((result == NULL) == (error != NULL));
        if (result != NULL) {
                fixture->diff_id = g_strdup(result->diff_id);
                fixture->size = result->size;
        } else {
                fixture->error = g_error_copy(error);
        }
        loop_stop(fixture->loop);
}

static void run(struct fixture *fixture, const struct unpack_request *template, const void *bytes, size_t n_bytes)
{
        fd_auto int fd = file_with(bytes, n_bytes);
        struct unpack_request request = *template;
        request.fd = fd;
        request.available_bytes = (int64_t)n_bytes;
        request.complete = true;
        request.directory = fixture->directory;
        unpack_unref(unpack_start(fixture->unpacker, &request, on_done, fixture));
        loop_run(fixture->loop);
}

static struct stat stat_of(const struct fixture *fixture, const char *path)
{
        struct stat status = {0};
        g_autofree char *full = g_build_filename(fixture->directory, path, NULL);
        g_assert_cmpint(lstat(full, &status), ==, 0);
        return status;
}

static void assert_plain_layer(struct fixture *fixture, GByteArray *plain)
{
        g_assert_no_error(fixture->error);
        g_autofree char *expected = digest_of_bytes(DIGEST_SHA256, plain->data, plain->len);
        g_assert_cmpstr(fixture->diff_id, ==, expected);
        g_assert_cmpint(fixture->size, ==, plain->len);
        struct stat file = stat_of(fixture, "d/f"), null = stat_of(fixture, "dev/null");
        g_assert_cmpuint(file.st_mode, ==, S_IFREG | 04755);
        g_assert_cmpuint(file.st_uid, ==, 1234);
        g_assert_cmpuint(file.st_gid, ==, 5678);
        g_assert_cmpint(stat_of(fixture, "d").st_mtim.tv_sec, ==, 1000);
        g_assert_true(S_ISCHR(stat_of(fixture, "d/gone").st_mode));
        g_assert_cmpuint(null.st_mode, ==, S_IFCHR | 0666);
        g_assert_cmpuint(null.st_rdev, ==, makedev(1, 3));
        g_assert_cmpint(null.st_mtim.tv_sec, ==, 3000);
        g_assert_cmpuint(stat_of(fixture, "dev/zero").st_ino, ==, null.st_ino);
        g_autofree char *opaque = g_build_filename(fixture->directory, "o", NULL);
        char value[4];
        g_assert_cmpint(getxattr(opaque, "trusted.overlay.opaque", value, sizeof(value)), ==, 1);
        g_assert_cmpint(value[0], ==, 'y');
}

static void unpacks(bool without_user_namespaces, GByteArray *(*compress)(const void *bytes, size_t n_bytes))
{
        struct fixture fixture;
        set_up(&fixture, without_user_namespaces);
        g_autoptr(GByteArray) plain = plain_layer();
        g_autoptr(GByteArray) layer = compress != NULL ? compress(plain->data, plain->len) : g_byte_array_ref(plain);
        run(&fixture, &(struct unpack_request){.compressed = true, .overlay = true}, layer->data, layer->len);
        assert_plain_layer(&fixture, plain);
        tear_down(&fixture);
}

static void unpacks_gzip(void)
{
        unpacks(false, gzipped);
}

static void unpacks_zstd(void)
{
        unpacks(false, zstd_compressed);
}

static void unpacks_plain(void)
{
        unpacks(false, NULL);
}

static void unpacks_without_user_namespaces(void)
{
        unpacks(true, gzipped);
}

// Two members, one after the other, and padding with zeros.
static void unpacks_gzip_members(void)
{
        struct fixture fixture;
        set_up(&fixture, false);
        g_autoptr(GByteArray) plain = plain_layer();
        g_autoptr(GByteArray) first = gzipped(plain->data, 1000);
        g_autoptr(GByteArray) second = gzipped(plain->data + 1000, plain->len - 1000);
        g_byte_array_append(first, second->data, second->len);
        g_byte_array_append(first, (const guint8[100]){0}, 100);
        run(&fixture, &(struct unpack_request){.compressed = true, .overlay = true}, first->data, first->len);
        assert_plain_layer(&fixture, plain);
        tear_down(&fixture);
}

// ---- a file that grows

struct growing {
        struct fixture *fixture;
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
                loop_timer_start(growing->fixture->loop, 1, grow, growing);
}

static void unpacks_a_file_that_still_grows(void)
{
        struct fixture fixture;
        set_up(&fixture, false);
        g_autoptr(GByteArray) plain = plain_layer();
        struct growing growing = {.fixture = &fixture, .layer = gzipped(plain->data, plain->len)};
        growing.fd = file_with("", 0);
        struct unpack_request request = {
                .fd = growing.fd, .compressed = true, .overlay = true, .directory = fixture.directory};
        growing.unpack = unpack_start(fixture.unpacker, &request, on_done, &fixture);
        loop_timer_start(fixture.loop, 1, grow, &growing);
        loop_run(fixture.loop);
        assert_plain_layer(&fixture, plain);
        unpack_unref(growing.unpack);
        g_byte_array_unref(growing.layer);
        close(growing.fd);
        tear_down(&fixture);
}

static void cancel_soon(void *data)
{
        cancel_trigger(data, ERROR_CANCELED, "client gone");
}

static void ends_when_it_is_canceled(void)
{
        struct fixture fixture;
        set_up(&fixture, false);
        AUTO(cancel) cancel = cancel_new();
        fd_auto int fd = file_with("", 0);
        struct unpack_request request = {
                .fd = fd, .compressed = true, .directory = fixture.directory, .cancel = cancel};
        unpack_unref(unpack_start(fixture.unpacker, &request, on_done, &fixture));
        loop_timer_start(fixture.loop, 20, cancel_soon, cancel);
        loop_run(fixture.loop);
        g_assert_error(fixture.error, SKIFF_ERROR, ERROR_CANCELED);
        tear_down(&fixture);
}

// What is wrong with the layer ends the unpacking at once, not only when the download is over.
static void does_not_wait_for_a_download_that_is_lost(void)
{
        struct fixture fixture;
        set_up(&fixture, false);
        fd_auto int fd = file_with("\x1f\x8b\x08 this is not gzip, whatever it says", 36);
        struct unpack_request request = {
                .fd = fd, .available_bytes = 36, .compressed = true, .directory = fixture.directory};
        unpack_unref(unpack_start(fixture.unpacker, &request, on_done, &fixture));
        loop_run(fixture.loop);
        g_assert_error(fixture.error, SKIFF_ERROR, ERROR_DATA_LOSS);
        tear_down(&fixture);
}

// ---- damage and limits

static void refuses_truncated_and_damaged_streams(void)
{
        g_autoptr(GByteArray) plain = plain_layer();
        g_autoptr(GByteArray) layer = gzipped(plain->data, plain->len);
        for (int damage = 0; damage < 3; damage++) {
                struct fixture fixture;
                set_up(&fixture, false);
                g_autoptr(GByteArray) bad = g_byte_array_new();
                g_byte_array_append(bad, layer->data, layer->len);
                if (damage == 0)
                        g_byte_array_set_size(bad, bad->len / 2);
                else if (damage == 1)
                        bad->data[bad->len - 6] ^= 1; // the checksum
                else
                        g_byte_array_append(bad, (const guint8 *)"trailing", 8);
                run(&fixture, &(struct unpack_request){.compressed = true}, bad->data, bad->len);
                g_assert_error(fixture.error, SKIFF_ERROR, ERROR_DATA_LOSS);
                tear_down(&fixture);
        }
}

static void refuses_bombs(void)
{
        struct fixture fixture;
        set_up(&fixture, false);
        // 300 MB of zeros behind one header, at 1000:1, where 100:1 is allowed.
        size_t n_bytes = 300 * 1000 * 1000;
        g_autofree guint8 *zeros = g_malloc0(n_bytes);
        g_autoptr(GByteArray) layer = gzipped(zeros, n_bytes);
        run(&fixture, &(struct unpack_request){.compressed = true}, layer->data, layer->len);
        g_assert_error(fixture.error, SKIFF_ERROR, ERROR_RESOURCE_EXHAUSTED);
        tear_down(&fixture);
}

static void says_what_is_wrong_with_an_archive(void)
{
        struct fixture fixture;
        set_up(&fixture, false);
        g_autoptr(GByteArray) plain = tar_fixture(&(struct tar_entry){.name = ".wh.", .type = '0'}, 1);
        run(&fixture, &(struct unpack_request){.compressed = true}, plain->data, plain->len);
        g_assert_error(fixture.error, SKIFF_ERROR, ERROR_INVALID_ARGUMENT);
        g_assert_nonnull(strstr(fixture.error->message, "invalid whiteout name"));
        tear_down(&fixture);
}

static void needs_its_directory(void)
{
        struct fixture fixture;
        set_up(&fixture, false);
        g_assert_cmpint(rmdir(fixture.directory), ==, 0);
        run(&fixture, &(struct unpack_request){0}, "", 0);
        g_assert_nonnull(fixture.error);
        tear_down(&fixture);
}

// ---- lower layers

static void dresses_directories_that_are_taken_for_granted(void)
{
        struct fixture fixture;
        set_up(&fixture, false);
        g_autofree char *top = g_build_filename(fixture.path, "top", NULL);
        g_autofree char *bottom = g_build_filename(fixture.path, "bottom", NULL);
        g_autofree char *in_bottom = g_build_filename(bottom, "d", NULL);
        g_assert_cmpint(g_mkdir(top, 0755), ==, 0);
        g_assert_cmpint(g_mkdir_with_parents(in_bottom, 0755), ==, 0);
        g_assert_cmpint(chown(in_bottom, 11, 22), ==, 0);
        g_assert_cmpint(chmod(in_bottom, 03700), ==, 0);
        bool attributes = setxattr(in_bottom, "user.kept", "yes", 3, 0) == 0;
        const char *parents[] = {top, bottom, NULL};
        g_autoptr(GByteArray) plain = tar_fixture(
                (struct tar_entry[]){{.name = "d/x", .type = '0', .body = ""}, {.name = "e/x", .type = '0'}}, 2);
        run(&fixture, &(struct unpack_request){.overlay = true, .parents = parents}, plain->data, plain->len);
        g_assert_no_error(fixture.error);
        struct stat dressed = stat_of(&fixture, "d"), plain_one = stat_of(&fixture, "e");
        g_assert_cmpuint(dressed.st_mode, ==, S_IFDIR | 03700);
        g_assert_cmpuint(dressed.st_uid, ==, 11);
        g_assert_cmpuint(dressed.st_gid, ==, 22);
        g_assert_cmpuint(plain_one.st_mode, ==, S_IFDIR | 0755);
        g_autofree char *made = g_build_filename(fixture.directory, "d", NULL);
        char value[8];
        if (attributes)
                g_assert_cmpint(getxattr(made, "user.kept", value, sizeof(value)), ==, 3);
        tear_down(&fixture);
}

// ---- a layer from two directories

struct packing {
        struct fixture *fixture;
        GByteArray *layer;
};

static bool on_packed_bytes(void *data, const void *bytes, size_t n_bytes, GError **error)
{
        struct packing *packing = data;
        g_byte_array_append(packing->layer, bytes, (guint)n_bytes);
        return true;
}

static void on_pack_end(void *data, const char *diff_id, const GError *error)
{
        struct packing *packing = data;
        g_assert_no_error(error);
        packing->fixture->diff_id = g_strdup(diff_id);
        loop_stop(packing->fixture->loop);
}

static char *make_tree(const struct fixture *fixture, const char *name)
{
        char *root = g_build_filename(fixture->path, name, NULL);
        g_autofree char *directory = g_build_filename(root, "same", NULL);
        g_assert_cmpint(g_mkdir_with_parents(directory, 0755), ==, 0);
        return root;
}

static void put(const char *root, const char *name, const char *text)
{
        g_autofree char *path = g_build_filename(root, name, NULL);
        g_autofree char *directory = g_path_get_dirname(path);
        g_assert_cmpint(g_mkdir_with_parents(directory, 0755), ==, 0);
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
        const struct timespec times[2] = {{1000, 0}, {1000, 0}};
        g_assert_cmpint(utimensat(AT_FDCWD, path, times, 0), ==, 0);
}

// What is packed and applied to a copy of the lower tree gives the upper tree.
static void packs_what_differs(const char *compression)
{
        struct fixture fixture;
        set_up(&fixture, false);
        g_autofree char *lower = make_tree(&fixture, "lower"), *upper = make_tree(&fixture, "upper");
        put(lower, "same/file", "same");
        put(upper, "same/file", "same");
        put(lower, "changed", "1");
        put(upper, "changed", "2");
        put(lower, "gone/deep/file", "x");
        put(lower, "becomes", "file");
        put(upper, "becomes/directory", "x");
        put(upper, "new/a", "new");
        g_autofree char *a = g_build_filename(upper, "new/a", NULL), *b = g_build_filename(upper, "new/b", NULL);
        g_assert_cmpint(link(a, b), ==, 0);
        struct packing packing = {&fixture, g_byte_array_new()};
        static const struct pack_handler handler = {on_packed_bytes, on_pack_end};
        struct pack_request request = {.lower = lower, .upper = upper, .compression = compression};
        pack_unref(pack_start(fixture.unpacker, &request, &handler, &packing));
        loop_run(fixture.loop);
        g_autofree char *packed_id = g_steal_pointer(&fixture.diff_id);

        g_autofree char *copy = g_strdup_printf("cp -a '%s/.' '%s'", lower, fixture.directory);
        g_assert_cmpint(system(copy), ==, 0);
        struct unpack_request back = {.compressed = *compression != '\0'};
        run(&fixture, &back, packing.layer->data, packing.layer->len);
        g_assert_no_error(fixture.error);
        g_assert_cmpstr(fixture.diff_id, ==, packed_id);
        g_autofree char *compare = g_strdup_printf("diff -r '%s' '%s'", upper, fixture.directory);
        g_assert_cmpint(system(compare), ==, 0);
        g_assert_cmpuint(stat_of(&fixture, "new/a").st_ino, ==, stat_of(&fixture, "new/b").st_ino);
        if (*compression == '\0') {
                // What did not change is not in it; "same" is in no entry's name.
                for (guint i = 0; i + 512 <= packing.layer->len; i += 512)
                        g_assert_false(g_str_has_prefix((const char *)packing.layer->data + i, "same"));
        }
        g_byte_array_unref(packing.layer);
        tear_down(&fixture);
}

static void packs_plain(void)
{
        packs_what_differs("");
}

static void packs_gzip(void)
{
        packs_what_differs("gzip");
}

static void packs_zstd(void)
{
        packs_what_differs("zstd");
}

// ---- documents

struct inspection {
        struct fixture *fixture;
        unsigned left;
};

static void on_document(void *data, const Worker__Document *document, const GError *error)
{
        struct inspection *inspection = data;
        struct fixture *fixture = inspection->fixture;
        if (error != NULL)
                g_string_append_printf(fixture->text, "error %d: %s\n", error->code, error->message);
        else
                g_string_append_printf(fixture->text, "%d: %zu manifests, %zu layers, %zu diff ids, %s\n",
                        document->kind, document->n_manifests, document->n_layers, document->n_diff_ids,
                        document->platform != NULL  ? document->platform->architecture
                        : document->n_manifests > 0 ? document->manifests[0]->platform->os
                                                    : document->config->digest);
        if (--inspection->left == 0)
                loop_stop(fixture->loop);
}

#define SHA "sha256:0000000000000000000000000000000000000000000000000000000000000000"

static void inspects_documents_in_order(void)
{
        static const char *const documents[][2] = {
                {"application/vnd.oci.image.index.v1+json",
                        "{\"manifests\":[{\"digest\":\"" SHA "\",\"size\":5,\"platform\":{\"os\":\"linux\"}}]}"},
                {"application/vnd.docker.distribution.manifest.v2+json",
                        "{\"config\":{\"digest\":\"" SHA "\"},\"layers\":[{\"digest\":\"" SHA "\"}]}"},
                {"application/vnd.oci.image.config.v1+json",
                        "{\"architecture\":\"arm64\",\"rootfs\":{\"diff_ids\":[\"" SHA "\"]}}"},
                {"application/vnd.oci.image.manifest.v1+json", "{\"manifests\":[]}"},
                {"application/vnd.oci.image.manifest.v1+json", "{\"config\":{\"digest\":\"sha256:12\"}}"},
                {"application/vnd.oci.image.index.v1+json", "{"},
        };
        struct fixture fixture;
        set_up(&fixture, false);
        struct inspector *inspector = inspector_new(fixture.unpacker, NULL);
        struct inspection inspection = {&fixture, G_N_ELEMENTS(documents)};
        for (size_t i = 0; i < G_N_ELEMENTS(documents); i++)
                inspector_inspect(
                        inspector, documents[i][0], documents[i][1], strlen(documents[i][1]), on_document, &inspection);
        loop_run(fixture.loop);
        inspector_free(inspector);
        g_auto(GStrv) lines = g_strsplit(fixture.text->str, "\n", -1);
        g_assert_cmpstr(lines[0], ==, "1: 1 manifests, 0 layers, 0 diff ids, linux");
        g_assert_cmpstr(lines[1], ==, "2: 0 manifests, 1 layers, 0 diff ids, " SHA);
        g_assert_cmpstr(lines[2], ==, "3: 0 manifests, 0 layers, 1 diff ids, arm64");
        g_assert_true(g_str_has_prefix(
                lines[3], "error 3: inspect: media-type: expected manifest but found index (application/vnd.oci"));
        g_assert_true(g_str_has_prefix(lines[4], "error 3: invalid digest \"sha256:12\""));
        g_assert_true(g_str_has_prefix(lines[5], "error 3: inspect: json"));
        // The worker ends with its socket; its end is part of what the loop still has to see.
        loop_timer_start(fixture.loop, 50, (loop_fn)loop_stop, fixture.loop);
        loop_run(fixture.loop);
        tear_down(&fixture);
}

// ---- archives

static bool on_file(void *data, const char *name, uint64_t size, const char *compression, GError **error)
{
        struct fixture *fixture = data;
        g_string_append_printf(fixture->text, "%s %" G_GUINT64_FORMAT " %s:", name, size, compression);
        return true;
}

static bool on_bytes(void *data, const void *bytes, size_t n_bytes, GError **error)
{
        struct fixture *fixture = data;
        if (n_bytes < 20)
                g_string_append_len(fixture->text, bytes, (gssize)n_bytes);
        return true;
}

static bool on_file_end(void *data, GError **error)
{
        struct fixture *fixture = data;
        g_string_append_c(fixture->text, '\n');
        return true;
}

static void on_split_end(void *data, const Worker__ArchiveEnd *end, const GError *error)
{
        struct fixture *fixture = data;
        if (error != NULL)
                fixture->error = g_error_copy(error);
        else if (*end->oci_layout_version != '\0')
                g_string_append_printf(fixture->text, "layout %s\n", end->oci_layout_version);
        for (size_t i = 0; end != NULL && i < end->n_images; i++) {
                const Worker__DockerImage *image = end->images[i];
                g_string_append_printf(fixture->text, "image %.*s %s", (int)image->config.len,
                        (const char *)image->config.data, image->n_repo_tags > 0 ? image->repo_tags[0] : "-");
                for (size_t j = 0; j < image->n_layers; j++)
                        g_string_append_printf(
                                fixture->text, " %.*s", (int)image->layers[j].len, (const char *)image->layers[j].data);
                g_string_append_c(fixture->text, '\n');
        }
        loop_stop(fixture->loop);
}

static void split(struct fixture *fixture, const struct tar_entry *entries, size_t n_entries, bool compressed)
{
        static const struct split_handler handler = {on_file, on_bytes, on_file_end, on_split_end};
        g_autoptr(GByteArray) plain = tar_fixture(entries, n_entries);
        g_autoptr(GByteArray) archive = compressed ? gzipped(plain->data, plain->len) : g_byte_array_ref(plain);
        fd_auto int fd = file_with(archive->data, archive->len);
        lseek(fd, 0, SEEK_SET);
        split_unref(split_start(fixture->unpacker, fd, NULL, &handler, fixture));
        loop_run(fixture->loop);
}

static void splits_oci_layouts(void)
{
        static const struct tar_entry entries[] = {
                {.name = "blobs/", .type = '5', .mode = 0755},
                {.name = "./blobs/sha256/aa", .type = '0', .body = "body"},
                {.name = "blobs/sha256/bb", .type = '0', .body = "\x1f\x8b\x08z"},
                {.name = "empty", .type = '0'},
                {.name = "index.json", .type = '0', .body = "{}"},
                {.name = "oci-layout", .type = '0', .body = "{\"imageLayoutVersion\":\"1.0.0\"}"},
        };
        for (int compressed = 0; compressed < 2; compressed++) {
                struct fixture fixture;
                set_up(&fixture, false);
                split(&fixture, entries, G_N_ELEMENTS(entries), compressed);
                g_assert_no_error(fixture.error);
                g_assert_cmpstr(fixture.text->str, ==,
                        "blobs/sha256/aa 4 :body\nblobs/sha256/bb 4 gzip:\x1f\x8b\x08z\nempty 0 :\n"
                        "index.json 2 :{}\nlayout 1.0.0\n");
                tear_down(&fixture);
        }
}

static void splits_docker_archives(void)
{
        static const struct tar_entry entries[] = {
                {.name = "c.json", .type = '0', .body = "{}"},
                {.name = "l1/layer.tar", .type = '0', .body = "one"},
                {.name = "l2/layer.tar", .type = '2', .link = "../l1/layer.tar"},
                {.name = "manifest.json",
                        .type = '0',
                        .body = "[{\"Config\":\"c.json\",\"RepoTags\":[\"a:b\"],"
                                "\"Layers\":[\"l1/layer.tar\",\"l2/layer.tar\"]}]"},
        };
        struct fixture fixture;
        set_up(&fixture, false);
        split(&fixture, entries, G_N_ELEMENTS(entries), false);
        g_assert_no_error(fixture.error);
        g_assert_cmpstr(fixture.text->str, ==,
                "c.json 2 :{}\nl1/layer.tar 3 :one\nimage c.json a:b l1/layer.tar l1/layer.tar\n");
        tear_down(&fixture);
}

static void refuses_what_is_no_image_archive(void)
{
        static const struct tar_entry entries[] = {{.name = "x", .type = '0', .body = "x"}};
        struct fixture fixture;
        set_up(&fixture, false);
        split(&fixture, entries, 1, false);
        g_assert_error(fixture.error, SKIFF_ERROR, ERROR_INVALID_ARGUMENT);
        g_assert_nonnull(strstr(fixture.error->message, "unrecognized image format"));
        tear_down(&fixture);
}

int main(int argc, char **argv)
{
        signal(SIGPIPE, SIG_IGN); // as the daemon does: a worker may go while it is written to
        g_test_init(&argc, &argv, NULL);
        if (geteuid() != 0 || getenv("SKIFF_UNPACK") == NULL) {
                g_test_message("needs root and SKIFF_UNPACK");
                return 77;
        }
        umask(022);
        g_test_add_func("/unpacker/unpacks_gzip", unpacks_gzip);
        g_test_add_func("/unpacker/unpacks_zstd", unpacks_zstd);
        g_test_add_func("/unpacker/unpacks_plain", unpacks_plain);
        g_test_add_func("/unpacker/unpacks_gzip_members", unpacks_gzip_members);
        g_test_add_func("/unpacker/unpacks_without_user_namespaces", unpacks_without_user_namespaces);
        g_test_add_func("/unpacker/unpacks_a_file_that_still_grows", unpacks_a_file_that_still_grows);
        g_test_add_func("/unpacker/ends_when_it_is_canceled", ends_when_it_is_canceled);
        g_test_add_func("/unpacker/does_not_wait_for_a_lost_download", does_not_wait_for_a_download_that_is_lost);
        g_test_add_func("/unpacker/refuses_damaged_streams", refuses_truncated_and_damaged_streams);
        g_test_add_func("/unpacker/refuses_bombs", refuses_bombs);
        g_test_add_func("/unpacker/says_what_is_wrong", says_what_is_wrong_with_an_archive);
        g_test_add_func("/unpacker/needs_its_directory", needs_its_directory);
        g_test_add_func("/unpacker/dresses_directories", dresses_directories_that_are_taken_for_granted);
        g_test_add_func("/pack/packs_plain", packs_plain);
        g_test_add_func("/pack/packs_gzip", packs_gzip);
        g_test_add_func("/pack/packs_zstd", packs_zstd);
        g_test_add_func("/inspector/inspects_documents_in_order", inspects_documents_in_order);
        g_test_add_func("/split/splits_oci_layouts", splits_oci_layouts);
        g_test_add_func("/split/splits_docker_archives", splits_docker_archives);
        g_test_add_func("/split/refuses_what_is_no_image_archive", refuses_what_is_no_image_archive);
        return g_test_run();
}
