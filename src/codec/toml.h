// SPDX-License-Identifier: Apache-2.0
//
// TOML 1.0 to and from jansson trees: tables are objects with their members in the order of the text, dates and times
// strings. Threads: any.
#pragma once

#include <glib.h>
#include <jansson.h>

#ifdef __cplusplus
extern "C" {
#endif

// A new object, or NULL with INVALID_ARGUMENT ("FILE:LINE:COLUMN: what is wrong"). name is for the messages.
json_t *toml_parse(const char *text, size_t length, const char *name, GError **error);
// The text of an object, keys sorted; null values are left out. Caller frees.
char *toml_format(const json_t *object);

#ifdef __cplusplus
}
#endif
