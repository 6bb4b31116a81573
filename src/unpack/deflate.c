// SPDX-License-Identifier: Apache-2.0
//
// gzip by ISA-L at its best level for size, which is a multiple of zlib's speed; zstd at its default level.
#include "unpack/control.h"
#include "unpack/job.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <string.h>
#include <zstd.h>

enum { BUFFER_BYTES = 1024 * 1024, GZIP_LEVEL = 2, ZSTD_LEVEL = 3 };

struct buffers {
        uint8_t *in, *out;
        uint64_t written;
};

static bool read_in(const struct buffers *buffers, size_t *ret_n, GError **error)
{
        ssize_t n = control_read_some(INPUT_FD, buffers->in, BUFFER_BYTES);
        if (n < 0)
                return error_fail_errno(error, errno, "read plain bytes");
        *ret_n = (size_t)n;
        return true;
}

static bool write_out(struct buffers *buffers, size_t n_bytes, GError **error)
{
        buffers->written += n_bytes;
        return control_write_all(OUTPUT_FD, buffers->out, n_bytes) ||
               error_fail_errno(error, errno, "write compressed bytes");
}

static bool run_gzip(struct buffers *buffers, GError **error)
{
        g_autofree uint8_t *memory = g_malloc(ISAL_DEF_LVL2_DEFAULT);
        g_autofree struct isal_zstream *stream = g_new0(struct isal_zstream, 1);
        isal_deflate_init(stream);
        stream->gzip_flag = IGZIP_GZIP;
        stream->level = GZIP_LEVEL;
        stream->level_buf = memory;
        stream->level_buf_size = ISAL_DEF_LVL2_DEFAULT;
        while (stream->internal_state.state != ZSTATE_END) {
                size_t n = 0;
                if (stream->avail_in == 0 && !stream->end_of_stream) {
                        if (!read_in(buffers, &n, error))
                                return false;
                        stream->next_in = buffers->in;
                        stream->avail_in = (uint32_t)n;
                        stream->end_of_stream = n == 0;
                }
                stream->next_out = buffers->out;
                stream->avail_out = BUFFER_BYTES;
                if (isal_deflate(stream) != COMP_OK)
                        return error_fail(error, ERROR_INTERNAL, "gzip: compression failed");
                if (!write_out(buffers, BUFFER_BYTES - stream->avail_out, error))
                        return false;
        }
        return true;
}

static bool run_zstd(struct buffers *buffers, GError **error)
{
        ZSTD_CStream *stream = ZSTD_createCStream();
        ZSTD_CCtx_setParameter(stream, ZSTD_c_compressionLevel, ZSTD_LEVEL);
        ZSTD_CCtx_setParameter(stream, ZSTD_c_checksumFlag, 1);
        bool good = true, ended = false;
        while (good && !ended) {
                size_t n = 0;
                good = read_in(buffers, &n, error);
                ZSTD_inBuffer in = {buffers->in, n, 0};
                bool done = false;
                while (good && !done) {
                        ZSTD_outBuffer out = {buffers->out, BUFFER_BYTES, 0};
                        size_t left = ZSTD_compressStream2(stream, &out, &in, n == 0 ? ZSTD_e_end : ZSTD_e_continue);
                        good = !ZSTD_isError(left) ||
                               error_fail(error, ERROR_INTERNAL, "zstd: %s", ZSTD_getErrorName(left));
                        good = good && write_out(buffers, out.pos, error);
                        done = n == 0 ? left == 0 : in.pos == in.size;
                }
                ended = n == 0;
        }
        ZSTD_freeCStream(stream);
        return good;
}

bool job_deflate(struct control *control, GError **error)
{
        AUTO(arena) arena = arena_new();
        const Worker__DeflateJob *job = (void *)control_read(control, &worker__deflate_job__descriptor, arena, error);
        if (job == NULL)
                return false;
        g_autofree uint8_t *in = g_malloc(BUFFER_BYTES), *out = g_malloc(BUFFER_BYTES);
        struct buffers buffers = {.in = in, .out = out};
        bool zstd = job->format == WORKER__DEFLATE_JOB__FORMAT__FORMAT_ZSTD;
        if (!(zstd ? run_zstd(&buffers, error) : run_gzip(&buffers, error)))
                return false;
        Worker__Written written = WORKER__WRITTEN__INIT;
        written.bytes = buffers.written;
        Worker__Answer answer = WORKER__ANSWER__INIT;
        answer.answer_case = WORKER__ANSWER__ANSWER_WRITTEN;
        answer.written = &written;
        return control_send(control, &answer, error);
}
