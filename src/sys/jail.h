// SPDX-License-Identifier: Apache-2.0
//
// What a worker does to itself before it touches a byte from outside, after its namespaces (sys/namespace.h). Only for
// single-threaded programs. Errors are UNKNOWN with the step that failed.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Keeps these of the capabilities that the process has, for good (no_new_privs).
bool jail_keep_capabilities(const int *capabilities, size_t n_capabilities, GError **error);
// Another user, no groups, no capabilities, for good (no_new_privs).
bool jail_become(uint32_t uid, GError **error);

// No core files, no more processes, at most n_files descriptors and memory_bytes of address space (0: no limit).
bool jail_limit(unsigned n_files, uint64_t memory_bytes, GError **error);

// From here on only the system calls named are done; those in killed end the process, all others fail with EPERM. Both
// lists end with NULL; a name that this architecture does not have is passed over.
bool jail_seccomp(const char *const *allowed, const char *const *killed, GError **error);
