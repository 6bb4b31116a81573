// SPDX-License-Identifier: Apache-2.0
//
// The cage of skiff-fetch. Before any thread is started.
#pragma once

#include <glib.h>

// Leaves the host: a root of its own with read-only copies of libraries, certificates and resolver files, another user,
// no capabilities, and only the system calls that curl needs. uid: decimal, NULL: 64000. A process that is not root
// keeps its root and user and loses the rest. Returns a directory that can be written to; NULL on failure.
const char *confine(const char *uid, GError **error);
