// SPDX-License-Identifier: Apache-2.0
//
// What a shim needs to know of an OCI runtime spec (config.json), and the two changes that it makes to one, each to a
// single value with all other bytes kept. Texts are given with their length. Threads: any.
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

// INVALID_ARGUMENT if the text is not one JSON object.
bool runtime_spec_check(const char *text, size_t n, GError **error);
// The value of an annotation, caller frees; NULL: none.
char *runtime_spec_annotation(const char *text, size_t n, const char *key);
// True if the container gets a process namespace of its own, so that the kernel ends its processes with the first.
bool runtime_spec_has_own_pid_namespace(const char *text, size_t n);
// "major.minor" as numbers; false: no ociVersion, or not of that form.
bool runtime_spec_version(const char *text, size_t n, unsigned *ret_major, unsigned *ret_minor);

// The text with another ociVersion; NULL where it has none.
char *runtime_spec_with_version(const char *text, size_t n, const char *version);
// A process (the spec of an exec) with "terminal" set; INVALID_ARGUMENT and NULL if it is not a JSON object.
char *process_spec_with_terminal(const char *text, size_t n, bool terminal, GError **error);
