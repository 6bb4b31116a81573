// SPDX-License-Identifier: Apache-2.0
//
// Image references. The daemon takes them as containerd does: HOST[:PORT]/PATH[:TAG][@DIGEST], nothing filled in.
// Docker's short forms ("alpine", "user/app") are the business of clients, who normalise them first. Threads: any.
#pragma once

#include "base/auto.h"

#include <glib.h>
#include <stdbool.h>

struct reference {
        char *host;       // "docker.io", "localhost:5000"
        char *repository; // "library/alpine"; may be empty
        char *object;     // "latest", "latest@sha256:…", "@sha256:…"; empty if there was none
};

// INVALID_ARGUMENT with containerd's texts ("invalid reference", "hostname required").
bool reference_parse(const char *text, struct reference *ret_reference, GError **error);
void reference_done(struct reference *reference);
// What follows the "@", unchecked; NULL if there is none.
const char *reference_digest(const struct reference *reference);

// The full form of a name that a person typed, by docker's rules: "alpine" is "docker.io/library/alpine:latest"; of
// tag and digest the digest stays. INVALID_ARGUMENT with docker's texts. Caller frees.
char *reference_normalize(const char *text, GError **error);
// The short form that docker shows: "docker.io/library/alpine:latest" is "alpine:latest". Caller frees.
char *reference_familiar(const char *text, GError **error);
// What an OCI layout's annotation org.opencontainers.image.ref.name holds for an image of that name: its tag, or the
// whole name if it has none. Caller frees.
char *reference_oci_name(const char *text);
