// SPDX-License-Identifier: Apache-2.0
//
// The metadata store (core/metadata.h) in one SQLite database. Threads: open and close by one thread while nobody else
// uses it.
#pragma once

#include "core/metadata.h"

// Opens, or makes with mode 0600, the database at path; its directory must exist. Brings an older schema up to date.
// FAILED_PRECONDITION if another process has it open, or a newer skiffd wrote it; DATA_LOSS if it is damaged.
struct metadata *store_open(const char *path, GError **error);
void store_close(struct metadata *metadata);
