// SPDX-License-Identifier: Apache-2.0
// WWW-Authenticate headers, as registries send them.
#include "fuzz.h"
#include "remote/challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_autofree char *text = g_strndup((const char *)data, size);
        struct challenge challenge;
        if (!challenge_parse(text, &challenge))
                return 0;
        g_assert_nonnull(challenge.parameters);
        challenge_parameter(&challenge, "realm");
        challenge_done(&challenge);
        return 0;
}
