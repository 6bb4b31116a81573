// SPDX-License-Identifier: Apache-2.0
//
// WWW-Authenticate challenges (RFC 9110 section 11.6.1), read as containerd reads them: one per header line.
// Threads: any.
#pragma once

#include <glib.h>
#include <stdbool.h>

enum challenge_scheme { CHALLENGE_BEARER, CHALLENGE_DIGEST, CHALLENGE_BASIC }; // in the order of preference

struct challenge {
        enum challenge_scheme scheme;
        GHashTable *parameters; // lower-case name → value
};

// False: a scheme that we do not know, or no challenge at all. Never fails on what follows: it stops reading there.
bool challenge_parse(const char *header, struct challenge *ret_challenge);
void challenge_done(struct challenge *challenge);
// NULL: not there.
const char *challenge_parameter(const struct challenge *challenge, const char *name);
