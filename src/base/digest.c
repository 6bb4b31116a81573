// SPDX-License-Identifier: Apache-2.0
//
// nettle hashes (with the CPU's SHA instructions where it has them). A digest is asked for in the middle of a stream
// (content status), so the context is copied before it is finished.
#include "base/digest.h"

#include "base/error.h"

#include <nettle/sha2.h>
#include <string.h>

struct digester {
        enum digest_algorithm algorithm;
        union {
                struct sha256_ctx sha256;
                struct sha512_ctx sha512; // sha384 is the same machine with other start values
        } context;
};

static const struct {
        const char *name;
        size_t n_bytes;
} algorithms[] = {
        [DIGEST_SHA256] = {"sha256", SHA256_DIGEST_SIZE},
        [DIGEST_SHA384] = {"sha384", SHA384_DIGEST_SIZE},
        [DIGEST_SHA512] = {"sha512", SHA512_DIGEST_SIZE},
};

static bool is_algorithm_text(const char *text, size_t length)
{
        for (size_t i = 0; i < length; i++) {
                if (!g_ascii_isalnum(text[i]) && strchr("+.-_", text[i]) == NULL)
                        return false;
        }
        return length > 0;
}

bool digest_parse(const char *text, enum digest_algorithm *ret_algorithm, GError **error)
{
        const char *colon = strchr(text, ':');
        if (colon == NULL || !is_algorithm_text(text, (size_t)(colon - text)) || colon[1] == 0)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid checksum digest format");
        for (size_t i = 0; i < G_N_ELEMENTS(algorithms); i++) {
                size_t name_length = strlen(algorithms[i].name);
                if (name_length != (size_t)(colon - text) || strncmp(text, algorithms[i].name, name_length) != 0)
                        continue;
                if (strlen(colon + 1) != 2 * algorithms[i].n_bytes)
                        return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid checksum digest length");
                if (strspn(colon + 1, "0123456789abcdef") != 2 * algorithms[i].n_bytes)
                        return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid checksum digest format");
                if (ret_algorithm != NULL)
                        *ret_algorithm = (enum digest_algorithm)i;
                return true;
        }
        return error_fail(error, ERROR_INVALID_ARGUMENT, "unsupported digest algorithm");
}

const char *digest_encoded(const char *digest)
{
        return strchr(digest, ':') + 1;
}

struct digester *digester_new(enum digest_algorithm algorithm)
{
        struct digester *digester = g_new0(struct digester, 1);
        digester->algorithm = algorithm;
        if (algorithm == DIGEST_SHA256)
                sha256_init(&digester->context.sha256);
        else if (algorithm == DIGEST_SHA384)
                sha384_init(&digester->context.sha512);
        else
                sha512_init(&digester->context.sha512);
        return digester;
}

void digester_free(struct digester *digester)
{
        g_free(digester);
}

void digester_update(struct digester *digester, const void *bytes, size_t n_bytes)
{
        if (digester->algorithm == DIGEST_SHA256)
                sha256_update(&digester->context.sha256, n_bytes, bytes);
        else
                sha512_update(&digester->context.sha512, n_bytes, bytes);
}

char *digester_digest(const struct digester *digester)
{
        static const char hex[] = "0123456789abcdef";
        struct digester copy = *digester;
        uint8_t raw[SHA512_DIGEST_SIZE];
        size_t n_bytes = algorithms[copy.algorithm].n_bytes;
        if (copy.algorithm == DIGEST_SHA256)
                sha256_digest(&copy.context.sha256, n_bytes, raw);
        else if (copy.algorithm == DIGEST_SHA384)
                sha384_digest(&copy.context.sha512, n_bytes, raw);
        else
                sha512_digest(&copy.context.sha512, n_bytes, raw);

        char text[DIGEST_MAX_LENGTH + 1];
        char *end = g_stpcpy(g_stpcpy(text, algorithms[copy.algorithm].name), ":");
        for (size_t i = 0; i < n_bytes; i++) {
                *end++ = hex[raw[i] >> 4];
                *end++ = hex[raw[i] & 15];
        }
        *end = 0;
        return g_strdup(text);
}

char *digest_of_bytes(enum digest_algorithm algorithm, const void *bytes, size_t n_bytes)
{
        AUTO(digester) digester = digester_new(algorithm);
        digester_update(digester, bytes, n_bytes);
        return digester_digest(digester);
}
