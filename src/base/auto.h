// SPDX-License-Identifier: Apache-2.0
//
// Cleanup by attribute for our own types. After DEFINE_AUTO(digester, digester_free) a local
//   AUTO(digester) digester = digester_new(…);
// is freed at the end of its scope unless it is NULL or was handed on with g_steal_pointer(&digester).
// GLib's g_autoptr does the same for GLib's types; it needs typedefs, which we do not use.
#pragma once

#include <stddef.h>

#define DEFINE_AUTO(type, free_function)                                                                               \
        static inline __attribute__((unused)) void type##_auto_cleanup(struct type **pointer)                          \
        {                                                                                                              \
                if (*pointer != NULL)                                                                                  \
                        free_function(*pointer);                                                                       \
        }

#define AUTO(type) __attribute__((unused, cleanup(type##_auto_cleanup))) struct type *
