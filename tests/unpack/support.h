// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the daemon's side of skiff-unpack share: a loop, lanes, an unpacker, a directory, and bytes.
// Threads: the one of the test.
#pragma once

#include "core/unpacker.h"

#include <glib.h>
#include <sys/stat.h>

struct support {
        struct loop *loop;
        struct lanes *lanes;
        struct unpacker *unpacker;
        char *path, *directory;
        // How the directory is filled; parents stays the test's.
        bool overlay;
        const char *const *parents;
        // Results:
        char *diff_id;
        int64_t size;
        GError *error;
        GString *text;
};

// The program is $SKIFF_UNPACK.
void support_set_up(struct support *support, bool without_user_namespaces);
void support_tear_down(struct support *support);

GByteArray *support_gzip(const void *bytes, size_t n_bytes);
GByteArray *support_zstd(const void *bytes, size_t n_bytes);
// A file without a name that holds these.
int support_file(const void *bytes, size_t n_bytes);

// unpack_request's locate for a struct support: its directory.
bool support_locate(void *data, struct unpack_place *ret_place, GError **error);
// Ends the loop and keeps the result: unpack_done_fn for a struct support.
void support_on_done(void *data, const struct unpack_result *result, const GError *error);
// Unpacks the bytes into the directory and waits for the end.
void support_unpack(struct support *support, const struct unpack_request *template, const void *bytes, size_t n_bytes);
struct stat support_stat(const struct support *support, const char *path);
// Runs a program of the system; it must succeed.
void support_run(const char *const *argv);
// 77 from main where the tests cannot run.
bool support_can_run(void);
