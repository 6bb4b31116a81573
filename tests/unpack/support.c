// SPDX-License-Identifier: Apache-2.0
#include "support.h"

#include "base/fd.h"
#include "io/lanes.h"
#include "io/loop.h"
#include "sys/spawn.h"
#include "sys/tree.h"
#include "unpack/tar_fixture.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

void support_set_up(struct support *support, bool without_user_namespaces)
{
        *support = (struct support){.loop = loop_new(NULL), .lanes = lanes_new(NULL), .text = g_string_new(NULL)};
        struct unpacker_options options = {
                .loop = support->loop,
                .lanes = support->lanes,
                .program = getenv("SKIFF_UNPACK"),
                .max_ratio = 100,
                .without_user_namespaces = without_user_namespaces,
        };
        support->unpacker = unpacker_new(&options);
        support->path = g_dir_make_tmp("skiff-unpacker-XXXXXX", NULL);
        support->directory = g_build_filename(support->path, "fs", NULL);
        g_assert_cmpint(g_mkdir(support->directory, 0755), ==, 0);
}

void support_tear_down(struct support *support)
{
        lanes_free(support->lanes);
        unpacker_unref(support->unpacker);
        loop_free(support->loop);
        g_assert_true(tree_remove(support->path, NULL));
        g_free(support->path);
        g_free(support->directory);
        g_free(support->diff_id);
        g_clear_error(&support->error);
        g_string_free(support->text, TRUE);
}

// ---- bytes

GByteArray *support_gzip(const void *bytes, size_t n_bytes)
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

GByteArray *support_zstd(const void *bytes, size_t n_bytes)
{
        GByteArray *out = g_byte_array_new();
        g_byte_array_set_size(out, (guint)ZSTD_compressBound(n_bytes));
        g_byte_array_set_size(out, (guint)ZSTD_compress(out->data, out->len, bytes, n_bytes, 3));
        return out;
}

int support_file(const void *bytes, size_t n_bytes)
{
        int fd = memfd_create("layer", MFD_CLOEXEC);
        g_assert_cmpint(write(fd, bytes, n_bytes), ==, (ssize_t)n_bytes);
        return fd;
}

// ---- running

bool support_locate(void *data, struct unpack_place *ret_place, GError **error)
{
        struct support *support = data;
        *ret_place = (struct unpack_place){
                g_strdup(support->directory), g_strdupv((char **)support->parents), support->overlay};
        return true;
}

void support_on_done(void *data, const struct unpack_result *result, const GError *error)
{
        struct support *support = data;
        g_assert_true((result == NULL) == (error != NULL));
        if (result != NULL) {
                support->diff_id = g_strdup(result->diff_id);
                support->size = result->size;
        } else {
                support->error = g_error_copy(error);
        }
        loop_stop(support->loop);
}

void support_unpack(struct support *support, const struct unpack_request *template, const void *bytes, size_t n_bytes)
{
        fd_auto int fd = support_file(bytes, n_bytes);
        struct unpack_request request = *template;
        request.fd = fd;
        request.available_bytes = (int64_t)n_bytes;
        request.complete = true;
        request.locate = support_locate;
        unpack_unref(unpack_start(support->unpacker, &request, support_on_done, support));
        loop_run(support->loop);
}

struct stat support_stat(const struct support *support, const char *path)
{
        struct stat status = {0};
        g_autofree char *full = g_build_filename(support->directory, path, NULL);
        g_assert_cmpint(lstat(full, &status), ==, 0);
        return status;
}

void support_run(const char *const *argv)
{
        const struct spawn_options options = {.path = argv[0], .argv = argv};
        struct spawn_output output;
        g_assert_true(spawn_collect(&options, 65536, 60000, &output, NULL));
        if (output.status != 0)
                g_test_message("%s: %s%s", argv[0], output.out->str, output.err->str);
        g_assert_cmpint(output.status, ==, 0);
        spawn_output_done(&output);
}

bool support_can_run(void)
{
        umask(022);
        signal(SIGPIPE, SIG_IGN);
        if (geteuid() == 0 && getenv("SKIFF_UNPACK") != NULL)
                return true;
        g_test_message("needs root and SKIFF_UNPACK");
        return false;
}
