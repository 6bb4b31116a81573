// SPDX-License-Identifier: Apache-2.0
// All that is asked of a runtime spec, of JSON text of any kind.
#include "codec/json_scan.h"
#include "codec/runtime_spec.h"
#include "fuzz.h"

#include <glib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = (const char *)data;
        unsigned major, minor;
        g_autofree G_GNUC_UNUSED char *annotation = runtime_spec_annotation(text, size, "a");
        g_autofree G_GNUC_UNUSED char *changed = runtime_spec_with_version(text, size, "1.0.2");
        g_autofree G_GNUC_UNUSED char *process = process_spec_with_terminal(text, size, true, NULL);
        runtime_spec_has_own_pid_namespace(text, size);
        runtime_spec_version(text, size, &major, &minor);
        return 0;
}
