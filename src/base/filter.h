// SPDX-License-Identifier: Apache-2.0
//
// containerd's filters, as clients send them to the List calls and to Subscribe:
//
//   filter   := selector ("," selector)*            all must match
//   selector := path [operator value]               without an operator: the field is present
//   path     := part ("." part)*
//   part     := [A-Za-z0-9_]+ | quoted by "
//   operator := "==" | "!=" | "~="                  the last one: a regular expression finds something
//   value    := anything up to a comma or space | quoted by " (after ~= also by / or |)
//
// Quoted text knows Go's escapes. Of several filters one must match; no filter and the empty filter match everything.
//
// Regular expressions are Go's RE2 in containerd and PCRE here. Nearly all that RE2 takes means the same; PCRE takes
// more (look-around, back references), for which containerd matches nothing, and refuses a repeated anchor (`$*`). An
// expression that does not compile, or takes too long, matches nothing, as in containerd.
//
// Threads: any, one at a time for each filter.
#pragma once

#include "base/auto.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

struct filter;

// The value of a field of object, and whether it is there; *ret_present is false before the call. NULL is the empty
// text. n is 1 or more. An absent field has the empty value: `x!=y` and `x~=.*` match it.
typedef const char *(*filter_field)(void *object, const char *const *path, size_t n, bool *ret_present);

// INVALID_ARGUMENT with containerd's text: `filters: parse error: [name >|<|< x]: …: invalid argument`. The texts are
// copied.
struct filter *filter_parse(char *const *texts, size_t n, GError **error);
// NULL is allowed.
void filter_free(struct filter *filter);

DEFINE_AUTO(filter, filter_free)

bool filter_match(const struct filter *filter, filter_field field, void *object);

// Whether the parts, joined by dots, are key: for maps such as labels, whose keys have dots themselves. A field
// function that got labels.a.b calls it with path + 1 and n - 1 for each key.
bool filter_path_is(const char *const *path, size_t n, const char *key);
