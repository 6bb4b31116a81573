// SPDX-License-Identifier: Apache-2.0
//
// Archives for tests, entry by entry, hostile ones included: nothing is checked. Threads: any.
#pragma once

#include <glib.h>

struct tar_entry {
        const char *name;
        char type;        // '0' file, '1' hard link, '2' symbolic link, '3' '4' devices, '5' directory, '6' FIFO
        const char *link; // of links
        const char *body; // of files
        unsigned mode;    // 0: 0644
        unsigned uid, gid, major, minor;
        long mtime;
        const char *pax; // records before it, each "key=value" and a newline; NULL: none
};

GByteArray *tar_fixture_new(void);
void tar_fixture_add(GByteArray *archive, const struct tar_entry *entry);
// The two blocks at the end.
void tar_fixture_end(GByteArray *archive);
// The whole of it.
GByteArray *tar_fixture(const struct tar_entry *entries, size_t n_entries);
