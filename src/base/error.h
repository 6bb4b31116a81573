// SPDX-License-Identifier: Apache-2.0
//
// The one error type: a GError of domain SKIFF_ERROR whose code is one of containerd's error classes. The numbers are
// gRPC's and ttrpc's status codes, so no table is needed at the edge. Threads: any.
#pragma once

#include <errno.h>
#include <glib.h>
#include <stdbool.h>

#define SKIFF_ERROR error_quark()
GQuark error_quark(void);

enum error_code {
        ERROR_CANCELED = 1,
        ERROR_UNKNOWN = 2,
        ERROR_INVALID_ARGUMENT = 3,
        ERROR_DEADLINE_EXCEEDED = 4,
        ERROR_NOT_FOUND = 5,
        ERROR_ALREADY_EXISTS = 6,
        ERROR_PERMISSION_DENIED = 7,
        ERROR_RESOURCE_EXHAUSTED = 8,
        ERROR_FAILED_PRECONDITION = 9,
        ERROR_ABORTED = 10,
        ERROR_OUT_OF_RANGE = 11,
        ERROR_UNIMPLEMENTED = 12,
        ERROR_INTERNAL = 13,
        ERROR_UNAVAILABLE = 14,
        ERROR_DATA_LOSS = 15,
        ERROR_UNAUTHENTICATED = 16,
};

// Sets *error and returns false, so that a failing function ends with `return error_fail(error, CODE, "…")`.
// error may be NULL. Texts are lower case, without a full stop, and name the object: `image "x": not found`.
bool error_fail(GError **error, enum error_code code, const char *format, ...) G_GNUC_PRINTF(3, 4);

// The same from an errno: the text is followed by ": " and the system's description, the code is UNKNOWN. Where the
// caller knows what an errno means there (ENOENT: not found), it says so with error_fail instead.
bool error_fail_errno(GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF(3, 4);
// The system's description as Go's programs write it, and their clients look for it: "no space left on device". Static.
const char *errno_text(int errnum);

// The class of an error of any domain; UNKNOWN for foreign ones.
enum error_code error_class(const GError *error);
bool error_is(const GError *error, enum error_code code);

// The class's name as containerd's Go errors print it ("not found", "already exists", …).
const char *error_class_text(enum error_code code);
