// SPDX-License-Identifier: Apache-2.0
// Image references: what is normalised stays as it is when that is done again, and is a reference for the daemon.
#include "base/reference.h"
#include "fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_autofree char *text = g_strndup((const char *)data, size);
        g_autoptr(GError) error = NULL;
        struct reference reference;
        if (reference_parse(text, &reference, &error)) {
                g_assert_cmpstr(reference.host, !=, "");
                g_autofree char *path = g_strconcat("/", reference.repository, "/", NULL);
                g_assert_null(strstr(path, "/../"));
                reference_done(&reference);
        } else {
                g_assert_nonnull(error);
        }
        g_autofree G_GNUC_UNUSED char *oci = reference_oci_name(text);
        g_autofree char *full = reference_normalize(text, NULL);
        if (full == NULL)
                return 0;
        g_autofree char *again = reference_normalize(full, NULL);
        g_autofree char *familiar = reference_familiar(full, NULL);
        g_assert_cmpstr(full, ==, again);
        g_assert_nonnull(familiar);
        if (strchr(full, '[') == NULL) {
                g_assert_true(reference_parse(full, &reference, NULL));
                reference_done(&reference);
        }
        return 0;
}
