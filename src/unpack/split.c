// SPDX-License-Identifier: Apache-2.0
#include "unpack/archive_split.h"
#include "unpack/control.h"
#include "unpack/job.h"

#include <errno.h>

static ssize_t read_input(void *data, void *bytes, size_t n_bytes)
{
        return control_read_some(INPUT_FD, bytes, n_bytes);
}

static bool write_bytes(void *data, const void *bytes, size_t n_bytes, GError **error)
{
        return control_write_all(OUTPUT_FD, bytes, n_bytes) || error_fail_errno(error, errno, "write file");
}

static bool write_file(void *data, const Worker__ArchiveFile *file, GError **error)
{
        size_t length = worker__archive_file__get_packed_size(file);
        g_autofree uint8_t *record = g_malloc(4 + length);
        for (int i = 0; i < 4; i++)
                record[i] = (uint8_t)(length >> (8 * i));
        worker__archive_file__pack(file, record + 4);
        return write_bytes(data, record, 4 + length, error);
}

bool job_split(struct control *control, GError **error)
{
        AUTO(arena) arena = arena_new();
        const Worker__SplitJob *job = (void *)control_read(control, &worker__split_job__descriptor, arena, error);
        if (job == NULL)
                return false;
        struct split_options options = {
                .read = read_input,
                .on_file = write_file,
                .on_bytes = write_bytes,
                .limits = {.max_ratio = job->max_ratio, .free_bytes = job->free_bytes},
                .max_files = job->max_files,
        };
        const Worker__ArchiveEnd *end = archive_split(&options, arena, error);
        if (end == NULL)
                return false;
        Worker__Answer answer = WORKER__ANSWER__INIT;
        answer.answer_case = WORKER__ANSWER__ANSWER_ARCHIVE_END;
        answer.archive_end = (Worker__ArchiveEnd *)end;
        return control_send(control, &answer, error);
}
