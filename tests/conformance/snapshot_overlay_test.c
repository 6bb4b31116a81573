// SPDX-License-Identifier: Apache-2.0
#include "plugins/snapshot_overlay/overlay.h"
#include "snapshot_suite.h"

static struct snapshot_driver *open_overlay(const char *root, GError **error)
{
        const struct overlay_options options = {.root = root};
        return overlay_new(&options, error);
}

int main(int argc, char **argv)
{
        static const struct snapshot_implementer implementer = {
                .name = "overlayfs",
                .open = open_overlay,
                .close = overlay_free,
                .write = snapshot_suite_write_mounted,
                .read = snapshot_suite_read_mounted,
        };
        return snapshot_suite_main(argc, argv, &implementer);
}
