// SPDX-License-Identifier: Apache-2.0
//
// What went wrong: a class, which programs decide on, and a text, which people read. Functions that can fail take a
// `struct skiff_error **`, which may be NULL; they set it exactly if they fail, and the caller frees it. The classes
// and their numbers are those of gRPC status codes, as containerd's API uses them. Threads: any, one at a time per
// error.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

enum skiff_error_code {
        SKIFF_CANCELED = 1,
        SKIFF_UNKNOWN = 2, // also what the OCI runtime says ("executable file not found in $PATH")
        SKIFF_INVALID_ARGUMENT = 3,
        SKIFF_DEADLINE_EXCEEDED = 4,
        SKIFF_NOT_FOUND = 5,
        SKIFF_ALREADY_EXISTS = 6,
        SKIFF_PERMISSION_DENIED = 7, // on the socket, for example
        SKIFF_RESOURCE_EXHAUSTED = 8,
        SKIFF_FAILED_PRECONDITION = 9,
        SKIFF_ABORTED = 10,
        SKIFF_OUT_OF_RANGE = 11,
        SKIFF_UNIMPLEMENTED = 12,
        SKIFF_INTERNAL = 13,
        SKIFF_UNAVAILABLE = 14, // no daemon, or the connection is lost
        SKIFF_DATA_LOSS = 15,
        SKIFF_UNAUTHENTICATED = 16,
};

struct skiff_error;

enum skiff_error_code skiff_error_code(const struct skiff_error *error);
// One line without a full stop; lives as long as the error.
const char *skiff_error_text(const struct skiff_error *error);
// NULL is fine.
void skiff_error_free(struct skiff_error *error);

#ifdef __cplusplus
}
#endif
