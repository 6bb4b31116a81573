// SPDX-License-Identifier: Apache-2.0
//
// Paths are compared as text; nothing is parsed, because keys of labels hold dots and need no quotes here.
#include "base/fieldmask.h"

#include <string.h>

const char *fieldmask_key(const char *path, const char *map)
{
        size_t length = strlen(map);
        return strncmp(path, map, length) == 0 && path[length] == '.' ? path + length + 1 : NULL;
}

bool fieldmask_is_of(const char *path, const char *map)
{
        return strcmp(path, map) == 0 || fieldmask_key(path, map) != NULL;
}
