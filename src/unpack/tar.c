// SPDX-License-Identifier: Apache-2.0
//
// The root of this process is the upper directory; the lower one is known by its descriptor alone.
#include "base/fd.h"
#include "unpack/changes.h"
#include "unpack/control.h"
#include "unpack/job.h"

#include <errno.h>
#include <fcntl.h>

static bool write_output(void *data, const void *bytes, size_t n_bytes, GError **error)
{
        uint64_t *written = data;
        *written += n_bytes;
        return control_write_all(TAR_OUTPUT_FD, bytes, n_bytes) || error_fail_errno(error, errno, "write archive");
}

bool job_tar(struct control *control, GError **error)
{
        AUTO(arena) arena = arena_new();
        const Worker__TarJob *job = (void *)control_read(control, &worker__tar_job__descriptor, arena, error);
        if (job == NULL)
                return false;
        fd_auto int upper_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (upper_fd < 0)
                return error_fail_errno(error, errno, "open the root");
        Worker__Written written = WORKER__WRITTEN__INIT;
        struct changes_options options = {
                .lower_fd = job->has_lower ? TAR_LOWER_FD : -1,
                .upper_fd = upper_fd,
                .has_epoch = job->has_epoch,
                .epoch_seconds = job->epoch,
                .write = write_output,
                .data = &written.bytes,
        };
        if (!changes_write(&options, error))
                return false;
        Worker__Answer answer = WORKER__ANSWER__INIT;
        answer.answer_case = WORKER__ANSWER__ANSWER_WRITTEN;
        answer.written = &written;
        return control_send(control, &answer, error);
}
