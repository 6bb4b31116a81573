// SPDX-License-Identifier: Apache-2.0
#include "codec/oci.h"
#include "unpack/control.h"
#include "unpack/job.h"

// A document that is none fails its own request, not those that follow.
static bool inspect_one(struct control *control, GError **error)
{
        AUTO(arena) arena = arena_new();
        const Worker__InspectJob *job = (void *)control_read(control, &worker__inspect_job__descriptor, arena, error);
        if (job == NULL)
                return false;
        g_autoptr(GError) failure = NULL;
        const Worker__Document *document =
                oci_parse(job->media_type, job->document.data, job->document.len, arena, &failure);
        if (document == NULL)
                return control_send_failure(control, failure) || error_fail(error, ERROR_UNAVAILABLE, "skiffd is gone");
        Worker__Answer answer = WORKER__ANSWER__INIT;
        answer.answer_case = WORKER__ANSWER__ANSWER_DOCUMENT;
        answer.document = (Worker__Document *)document;
        return control_send(control, &answer, error);
}

bool job_inspect(struct control *control, GError **error)
{
        while (inspect_one(control, error))
                continue;
        if (!control_ended(control))
                return false;
        g_clear_error(error);
        return true;
}
