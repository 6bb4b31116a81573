// SPDX-License-Identifier: Apache-2.0
#include "plugins/snapshot_native/native.h"
#include "snapshot_suite.h"

int main(int argc, char **argv)
{
        static const struct snapshot_implementer implementer = {
                .name = "native",
                .open = native_new,
                .close = native_free,
                .write = snapshot_suite_write_mounted,
                .read = snapshot_suite_read_mounted,
        };
        return snapshot_suite_main(argc, argv, &implementer);
}
