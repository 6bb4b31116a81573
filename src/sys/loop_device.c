// SPDX-License-Identifier: Apache-2.0
//
// LOOP_CTL_GET_FREE only says which device is free just now: another process can take it first, so attaching is tried
// again. LOOP_CONFIGURE (Linux 5.8) sets everything in one step; before it, autoclear was set after the file.
#include "sys/loop_device.h"

#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

enum { MAX_TRIES = 100 };

static int configure(int device, int file, const char *name, const struct loop_device_options *options)
{
        struct loop_config config = {.fd = (uint32_t)file};
        config.info.lo_flags = (options->read_only ? LO_FLAGS_READ_ONLY : 0) |
                               (options->autoclear ? LO_FLAGS_AUTOCLEAR : 0) |
                               (options->direct_io ? LO_FLAGS_DIRECT_IO : 0);
        g_strlcpy((char *)config.info.lo_file_name, name, sizeof config.info.lo_file_name);
        if (ioctl(device, LOOP_CONFIGURE, &config) == 0)
                return 0;
        if (errno != EINVAL && errno != ENOTTY && errno != ENOSYS)
                return errno;
        if (ioctl(device, LOOP_SET_FD, file) != 0)
                return errno;
        if (ioctl(device, LOOP_SET_STATUS64, &config.info) != 0 ||
                (options->direct_io && ioctl(device, LOOP_SET_DIRECT_IO, 1UL) != 0)) {
                int errnum = errno;
                ioctl(device, LOOP_CLR_FD, 0);
                return errnum;
        }
        return 0;
}

char *loop_device_attach(const char *file, const struct loop_device_options *options, int *ret_fd, GError **error)
{
        fd_auto int backing = open(file, (options->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
        if (backing < 0) {
                error_fail_errno(error, errno, "could not open loop file \"%s\"", file);
                return NULL;
        }
        fd_auto int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
        if (control < 0) {
                error_fail_errno(error, errno, "could not open /dev/loop-control");
                return NULL;
        }
        for (int i = 0; i < MAX_TRIES; i++) {
                int number = ioctl(control, LOOP_CTL_GET_FREE);
                if (number < 0) {
                        error_fail_errno(error, errno, "could not get a free loop device");
                        return NULL;
                }
                g_autofree char *path = g_strdup_printf("/dev/loop%d", number);
                fd_auto int device = open(path, (options->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
                if (device < 0) {
                        error_fail_errno(error, errno, "could not open loop device \"%s\"", path);
                        return NULL;
                }
                int errnum = configure(device, backing, file, options);
                if (errnum == 0) {
                        *ret_fd = fd_take(&device);
                        return g_steal_pointer(&path);
                }
                if (errnum != EBUSY) {
                        error_fail_errno(error, errnum, "could not attach \"%s\" to \"%s\"", file, path);
                        return NULL;
                }
        }
        error_fail(error, ERROR_UNAVAILABLE, "could not attach \"%s\": all loop devices are taken by others", file);
        return NULL;
}
