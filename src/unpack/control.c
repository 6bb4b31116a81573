// SPDX-License-Identifier: Apache-2.0
#include "unpack/control.h"

#include "base/fd.h"
#include "sys/records.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

struct control {
        struct records *records;
        bool ended;
};

struct control *control_new(void)
{
        struct control *control = g_new0(struct control, 1);
        control->records = records_new(CONTROL_FD, CONTROL_MAX_RECORD);
        return control;
}

void control_free(struct control *control)
{
        if (control == NULL)
                return;
        records_free(control->records);
        g_free(control);
}

static bool wait_for(short events, GError **error)
{
        struct pollfd watched = {.fd = CONTROL_FD, .events = events};
        while (poll(&watched, 1, -1) < 0) {
                if (errno != EINTR)
                        return error_fail_errno(error, errno, "wait for the control socket");
        }
        return true;
}

const ProtobufCMessage *control_read(
        struct control *control, const ProtobufCMessageDescriptor *descriptor, struct arena *arena, GError **error)
{
        const uint8_t *bytes;
        size_t n_bytes;
        fd_auto int fd = -1;
        enum records_result result;
        while ((result = records_receive(control->records, &bytes, &n_bytes, &fd, error)) == RECORDS_AGAIN) {
                if (!wait_for(POLLIN, error))
                        return NULL;
        }
        if (result == RECORDS_END) {
                control->ended = true;
                error_fail(error, ERROR_CANCELED, "end of the control socket");
        }
        if (result != RECORDS_GOT)
                return NULL;
        ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, arena_allocator(arena), n_bytes, bytes);
        if (message == NULL)
                error_fail(error, ERROR_INVALID_ARGUMENT, "malformed record");
        return message;
}

bool control_ended(const struct control *control)
{
        return control->ended;
}

bool control_send(struct control *control, const Worker__Answer *answer, GError **error)
{
        size_t length = worker__answer__get_packed_size(answer);
        g_autofree uint8_t *record = g_malloc(length + 1);
        worker__answer__pack(answer, record);
        records_send(control->records, record, length, -1);
        while (records_flush(control->records, error)) {
                if (!records_has_unsent(control->records))
                        return true;
                if (!wait_for(POLLOUT, error))
                        return false;
        }
        return false;
}

bool control_send_failure(struct control *control, const GError *failure)
{
        // Texts quote names from the archive; strings of protobuf are UTF-8.
        g_autofree char *text = g_utf8_make_valid(failure->message, -1);
        Worker__Failure message = WORKER__FAILURE__INIT;
        message.code = (int32_t)error_class(failure);
        message.message = text;
        Worker__Answer answer = WORKER__ANSWER__INIT;
        answer.answer_case = WORKER__ANSWER__ANSWER_FAILURE;
        answer.failure = &message;
        return control_send(control, &answer, NULL);
}

bool control_write_all(int fd, const void *bytes, size_t n_bytes)
{
        const char *at = bytes;
        while (n_bytes > 0) {
                ssize_t n = write(fd, at, n_bytes);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return false;
                at += n;
                n_bytes -= (size_t)n;
        }
        return true;
}

ssize_t control_read_some(int fd, void *bytes, size_t n_bytes)
{
        ssize_t n;
        do
                n = read(fd, bytes, n_bytes);
        while (n < 0 && errno == EINTR);
        return n;
}
