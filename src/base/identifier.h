// SPDX-License-Identifier: Apache-2.0
//
// Names that clients choose: namespaces, containers, tasks, leases; and names that we make up. Threads: any.
#pragma once

#include <glib.h>
#include <stdbool.h>

// containerd's rule for identifiers: at most 76 bytes, alphanumeric components joined by one of "-", "_", ".".
// INVALID_ARGUMENT with containerd's texts: `identifier "x" must match …`, "identifier must not be empty".
bool identifier_validate(const char *text, GError **error);

// Label limits as containerd's: key and value together at most 4096 bytes; INVALID_ARGUMENT with its text.
bool label_validate(const char *key, const char *value, GError **error);

// n_bytes of the kernel's randomness as lower-case hex; caller frees.
char *identifier_random_hex(size_t n_bytes);
// A random (version 4) UUID, RFC 9562 section 5.4; caller frees.
char *identifier_random_uuid(void);
