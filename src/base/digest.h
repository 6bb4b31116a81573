// SPDX-License-Identifier: Apache-2.0
//
// OCI digests ("sha256:<64 hex digits>", image-spec descriptor.md section Digests) and the running hash behind them.
// Algorithms: sha256, sha384, sha512. Threads: any; a hasher by one thread at a time.
#pragma once

#include "base/auto.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

enum digest_algorithm { DIGEST_SHA256, DIGEST_SHA384, DIGEST_SHA512 };

#define DIGEST_MAX_LENGTH 135 // "sha512:" and 128 hex digits

// INVALID_ARGUMENT with containerd's text ("invalid checksum digest format", "unsupported digest algorithm",
// "invalid checksum digest length") if text is not a digest of a known algorithm. ret_algorithm may be NULL.
bool digest_parse(const char *text, enum digest_algorithm *ret_algorithm, GError **error);
// The hex digits behind the colon of a digest that digest_parse accepts.
const char *digest_encoded(const char *digest);

struct digester;
struct digester *digester_new(enum digest_algorithm algorithm);
void digester_free(struct digester *digester);
DEFINE_AUTO(digester, digester_free)
void digester_update(struct digester *digester, const void *bytes, size_t n_bytes);
// The digest of all bytes so far, as a string that the caller frees; the hasher can go on afterwards.
char *digester_digest(const struct digester *digester);

char *digest_of_bytes(enum digest_algorithm algorithm, const void *bytes, size_t n_bytes);
