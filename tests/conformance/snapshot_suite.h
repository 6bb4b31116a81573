// SPDX-License-Identifier: Apache-2.0
//
// What every snapshot driver must do, under the snapshotter that clients meet: core/snapshotter.h on the driver and a
// real metadata store.
#pragma once

#include "core/snapshot_driver.h"

struct snapshot_implementer {
        const char *name;
        // NULL with *error: UNIMPLEMENTED means that it cannot work here and the suite is skipped.
        struct snapshot_driver *(*open)(const char *root, GError **error);
        void (*close)(struct snapshot_driver *driver);
        // Writes (text NULL: removes) and reads a file through mounts; false or NULL if that fails.
        bool (*write)(const GPtrArray *mounts, const char *name, const char *text);
        char *(*read)(const GPtrArray *mounts, const char *name);
};

// For those that give out mounts the kernel knows.
bool snapshot_suite_write_mounted(const GPtrArray *mounts, const char *name, const char *text);
char *snapshot_suite_read_mounted(const GPtrArray *mounts, const char *name);

// g_test_init, all tests, g_test_run.
int snapshot_suite_main(int argc, char **argv, const struct snapshot_implementer *implementer);
