// SPDX-License-Identifier: Apache-2.0
//
// Paths are compared as text; nothing is parsed, because keys of labels hold dots and need no quotes here.
#include "base/fieldmask.h"

#include <string.h>

bool fieldmask_has(char *const *paths, size_t n, const char *field)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(paths[i], field) == 0)
                        return true;
        return false;
}

const char *fieldmask_key(const char *path, const char *map)
{
        size_t length = strlen(map);
        return strncmp(path, map, length) == 0 && path[length] == '.' ? path + length + 1 : NULL;
}

bool fieldmask_has_keys(char *const *paths, size_t n, const char *map)
{
        for (size_t i = 0; i < n; i++)
                if (fieldmask_key(paths[i], map) != NULL)
                        return true;
        return false;
}

static bool is_known(const char *path, const char *const *fields, const char *const *maps)
{
        for (; *fields != NULL; fields++)
                if (strcmp(path, *fields) == 0)
                        return true;
        for (; *maps != NULL; maps++)
                if (fieldmask_key(path, *maps) != NULL)
                        return true;
        return false;
}

const char *fieldmask_unknown(char *const *paths, size_t n, const char *const *fields, const char *const *maps)
{
        for (size_t i = 0; i < n; i++)
                if (!is_known(paths[i], fields, maps))
                        return paths[i];
        return NULL;
}
