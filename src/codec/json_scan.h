// SPDX-License-Identifier: Apache-2.0
//
// Looks things up in JSON text without building a tree: for programs that must stay small and for changing one value
// while every other byte stays as it is (numbers above 2^63, order, spacing). It finds the extent of values; it does
// not check what it passes by. Nothing is allocated except by json_span_string. Threads: any.
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

// A value (or the inside of a key's quotes) where it stands in the caller's text. text NULL: not there.
struct json_span {
        const char *text;
        size_t n;
};

// The one value of a document, without the white space around it. False: no value, or something after it.
bool json_scan_document(const char *text, size_t n, struct json_span *ret_value);

// Walks the members of an object or the elements of an array (whose key is {NULL, 0}):
//   for (struct json_walk walk = json_walk(object); json_walk_next(&walk, &key, &value);) …
// It ends early, with broken set, where the text is not JSON; at once if the value is neither.
struct json_walk {
        const char *at, *end;
        bool object, broken;
};
struct json_walk json_walk(struct json_span value);
bool json_walk_next(struct json_walk *walk, struct json_span *ret_key, struct json_span *ret_value);

// The first member of that name; {NULL, 0}: none, or not an object. Keys with escapes are never equal.
struct json_span json_member(struct json_span object, const char *name);
bool json_span_is(struct json_span span, const char *text);
// The text of a string value, escapes resolved, in UTF-8; the caller frees. NULL: not a string, or one with a NUL.
char *json_span_string(struct json_span value);
// Appends text as a JSON string, quotes included.
void json_append_string(GString *out, const char *text);
