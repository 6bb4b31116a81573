// SPDX-License-Identifier: Apache-2.0
#include "sys/boot.h"

#include <glib.h>

char *boot_id(void)
{
        g_autofree char *text = NULL;
        if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &text, NULL, NULL))
                return g_strdup("");
        return g_strdup(g_strstrip(text));
}
