// SPDX-License-Identifier: Apache-2.0
//
// Reads as much as a pipe holds, so that both sides change hands once per megabyte and not once per page.
#include "codec/inflate.h"
#include "unpack/control.h"
#include "unpack/job.h"

#include <errno.h>

enum { BUFFER_BYTES = 1024 * 1024 };

struct pipeline {
        struct inflater *inflater;
        uint8_t *in, *out;
        size_t n_in, in_offset;
        bool in_ended;
};

static bool refill(struct pipeline *pipeline, GError **error)
{
        ssize_t n = control_read_some(INPUT_FD, pipeline->in, BUFFER_BYTES);
        if (n < 0)
                return error_fail_errno(error, errno, "read compressed bytes");
        pipeline->n_in = (size_t)n;
        pipeline->in_offset = 0;
        pipeline->in_ended = n == 0;
        return true;
}

static bool run(struct pipeline *pipeline, GError **error)
{
        for (;;) {
                if (pipeline->in_offset == pipeline->n_in && !pipeline->in_ended && !refill(pipeline, error))
                        return false;
                struct inflater_step step = {
                        .in = pipeline->in + pipeline->in_offset,
                        .n_in = pipeline->n_in - pipeline->in_offset,
                        .in_ended = pipeline->in_ended,
                        .out = pipeline->out,
                        .n_out = BUFFER_BYTES,
                };
                if (!inflater_step(pipeline->inflater, &step, error))
                        return false;
                pipeline->in_offset += step.taken;
                if (step.written > 0 && !control_write_all(OUTPUT_FD, pipeline->out, step.written))
                        return error_fail_errno(error, errno, "write plain bytes");
                if (pipeline->in_ended && step.taken == 0 && step.written == 0)
                        return true;
        }
}

static bool send_result(struct control *control, const struct inflater *inflater, GError **error)
{
        Worker__Inflated inflated = WORKER__INFLATED__INIT;
        inflated.format = (char *)inflater_format(inflater);
        inflated.compressed_bytes = inflater_taken_bytes(inflater);
        inflated.plain_bytes = inflater_written_bytes(inflater);
        Worker__Answer answer = WORKER__ANSWER__INIT;
        answer.answer_case = WORKER__ANSWER__ANSWER_INFLATED;
        answer.inflated = &inflated;
        return control_send(control, &answer, error);
}

bool job_inflate(struct control *control, GError **error)
{
        AUTO(arena) arena = arena_new();
        const Worker__InflateJob *job = (void *)control_read(control, &worker__inflate_job__descriptor, arena, error);
        if (job == NULL)
                return false;
        struct inflater_limits limits = {.max_ratio = job->max_ratio, .free_bytes = job->free_bytes};
        AUTO(inflater) inflater = inflater_new(job->plain, &limits);
        g_autofree uint8_t *in = g_malloc(BUFFER_BYTES), *out = g_malloc(BUFFER_BYTES);
        struct pipeline pipeline = {.inflater = inflater, .in = in, .out = out};
        return run(&pipeline, error) && send_result(control, inflater, error);
}
