// SPDX-License-Identifier: Apache-2.0
//
// From options, image config and user to the JSON of an OCI runtime specification (runtime-spec config.md and
// config-linux.md). Threads: any.
#pragma once

#include "client/internal.h"
#include "client/user.h"

#include <jansson.h>
#include <skiff/spec.h>

struct spec_input {
        const char *name_space, *id;
        const struct skiff_spec_options *options;
        const struct image_config *image; // NULL: none
        const struct user_ids *user;
};

// INVALID_ARGUMENT. The caller frees with g_free.
char *spec_make(const struct spec_input *input, GError **error);

// The parts; each returns a new reference, or NULL with *error.
json_t *spec_process(const struct spec_input *input, GError **error);
json_t *spec_mounts(const struct skiff_spec_options *options, GError **error);
json_t *spec_linux(const struct spec_input *input, GError **error);
json_t *spec_user(const struct user_ids *user);
// {bounding, effective, permitted} of the defaults or of everything, with what is added and dropped.
json_t *spec_capabilities(bool privileged, const char *const *add, const char *const *drop, GError **error);
// base over which "NAME=VALUE" replaces in place or is appended, and "NAME" removes.
json_t *spec_environment(const char *const *base, const char *const *changes);
// Says in a process how large its terminal is at the start (config.md, "consoleSize"); 0: does not.
void spec_set_console_size(json_t *process, uint32_t columns, uint32_t rows);
json_t *spec_texts(const char *const *texts);
