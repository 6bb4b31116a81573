// SPDX-License-Identifier: Apache-2.0
//
// Shims outlive the daemon, and with them the copy that they were given: the kernel frees it when the last one is gone.
#include "plugins/runtime_v2/shim.h"

#include "base/fd.h"
#include "sys/sealed_program.h"

#include <fcntl.h>
#include <uv.h>

#define PROGRAM "crun"
enum { MAX_BYTES = 4 * 1024 * 1024 };

struct runtime_copy {
        uv_mutex_t mutex;
        char *identity; // this and fd under mutex; NULL: not looked for yet
        int fd;         // -1: none
};

struct runtime_copy *runtime_copy_new(void)
{
        struct runtime_copy *copy = g_new0(struct runtime_copy, 1);
        copy->fd = -1;
        g_assert(uv_mutex_init(&copy->mutex) == 0);
        return copy;
}

void runtime_copy_free(struct runtime_copy *copy)
{
        if (copy == NULL)
                return;
        uv_mutex_destroy(&copy->mutex);
        fd_close(&copy->fd);
        g_free(copy->identity);
        g_free(copy);
}

int runtime_copy_open(struct runtime_copy *copy, char **ret_identity)
{
        g_autofree char *identity = sealed_program_identity(PROGRAM);
        if (identity == NULL)
                return -1;
        uv_mutex_lock(&copy->mutex);
        if (g_strcmp0(copy->identity, identity) != 0) {
                fd_close(&copy->fd);
                copy->fd = sealed_program_open(PROGRAM, MAX_BYTES);
                g_free(copy->identity);
                copy->identity = g_strdup(identity);
        }
        int fd = copy->fd >= 0 ? fcntl(copy->fd, F_DUPFD_CLOEXEC, 0) : -1;
        uv_mutex_unlock(&copy->mutex);
        if (fd >= 0)
                *ret_identity = g_steal_pointer(&identity);
        return fd;
}
