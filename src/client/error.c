// SPDX-License-Identifier: Apache-2.0
//
// The public error is a GError under another name.
#include "client/internal.h"

enum skiff_error_code skiff_error_code(const struct skiff_error *error)
{
        return (enum skiff_error_code)error_class((const GError *)error);
}

const char *skiff_error_text(const struct skiff_error *error)
{
        return ((const GError *)error)->message;
}

void skiff_error_free(struct skiff_error *error)
{
        if (error != NULL)
                g_error_free((GError *)error);
}
