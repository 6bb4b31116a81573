// SPDX-License-Identifier: Apache-2.0
//
// The worker's end of its control socket, blocking. Descriptors as skiffd gives them.
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include "skiff/worker.pb-c.h"

#include <stdbool.h>
#include <sys/types.h>

enum {
        CONTROL_FD = 3,
        INPUT_FD = 4,
        OUTPUT_FD = 5,
        UNTAR_ROOT_FD = 5,
        TAR_OUTPUT_FD = 4,
        TAR_UPPER_FD = 5,
        TAR_LOWER_FD = 6,
        CONTROL_MAX_RECORD = 16 * 1024 * 1024
};

struct control;
struct control *control_new(void);
void control_free(struct control *control);
DEFINE_AUTO(control, control_free)

// The next record, in arena. CANCELED at the end of file (control_ended tells), UNAVAILABLE if skiffd is gone.
const ProtobufCMessage *control_read(
        struct control *control, const ProtobufCMessageDescriptor *descriptor, struct arena *arena, GError **error);
bool control_ended(const struct control *control);

bool control_send(struct control *control, const Worker__Answer *answer, GError **error);
bool control_send_failure(struct control *control, const GError *failure);

// write(2), gone on with until all is done, and read(2): 0 at the end of file, -1 with errno.
bool control_write_all(int fd, const void *bytes, size_t n_bytes);
ssize_t control_read_some(int fd, void *bytes, size_t n_bytes);
