// SPDX-License-Identifier: Apache-2.0
//
// A program as a file in memory that nobody can change any more. An OCI runtime keeps its containers from writing to
// the host's binary by running from such a copy of itself (CVE-2019-5736): one that is started from a copy already need
// not make another at each call. Threads: any.
#pragma once

#include <glib.h>
#include <stddef.h>

// Which file a name or path stands for, by device, inode, size and time of change, as one word; NULL: there is no such
// program. Caller frees.
char *sealed_program_identity(const char *name);

// A copy of it, for spawn_options.program_fd: closed on exec, sealed. -1 with no error where it is larger than
// max_bytes, is no binary, or this kernel gives no such files.
int sealed_program_open(const char *name, size_t max_bytes);

// How the daemon hands one on to its own shims: as this descriptor, with the identity in this variable.
#define SEALED_PROGRAM_VARIABLE "SKIFF_OCI_RUNTIME_COPY"
enum { SEALED_PROGRAM_FD = 4 };
