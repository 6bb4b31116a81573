// SPDX-License-Identifier: Apache-2.0
//
// The root of this process is the directory to be filled, and all that it can reach.
#include "base/fd.h"
#include "unpack/control.h"
#include "unpack/job.h"
#include "unpack/layer.h"

#include <fcntl.h>

static ssize_t read_input(void *data, void *bytes, size_t n_bytes)
{
        return control_read_some(INPUT_FD, bytes, n_bytes);
}

static bool send_part(void *data, const Worker__Reported *part, GError **error)
{
        Worker__Answer answer = WORKER__ANSWER__INIT;
        answer.answer_case = WORKER__ANSWER__ANSWER_REPORTED;
        answer.reported = (Worker__Reported *)part;
        return control_send(data, &answer, error);
}

bool job_untar(struct control *control, GError **error)
{
        AUTO(arena) arena = arena_new();
        const Worker__UntarJob *job = (void *)control_read(control, &worker__untar_job__descriptor, arena, error);
        if (job == NULL)
                return false;
        fd_auto int root_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (root_fd < 0)
                return error_fail_errno(error, errno, "open the root");
        struct layer_options options = {
                .root_fd = root_fd,
                .read = read_input,
                .overlay = job->overlay,
                .max_entries = job->max_entries,
        };
        AUTO(report) report = report_new();
        struct layer_result result;
        if (!layer_apply(&options, report, &result, error) || !report_send(report, send_part, control, error))
                return false;
        Worker__Untarred untarred = WORKER__UNTARRED__INIT;
        untarred.entries = result.entries;
        untarred.bytes = result.bytes;
        Worker__Answer answer = WORKER__ANSWER__INIT;
        answer.answer_case = WORKER__ANSWER__ANSWER_UNTARRED;
        answer.untarred = &untarred;
        return control_send(control, &answer, error);
}
