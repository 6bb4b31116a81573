// SPDX-License-Identifier: Apache-2.0
// The filter parser, and matching against one object with fields of all kinds.
#include "base/filter.h"
#include "fuzz.h"

static const char *field(void *object, const char *const *path, size_t n, bool *ret_present)
{
        *ret_present = n % 2 == 1;
        if (filter_path_is(path, n, "name"))
                return "busybox, caf\xc3\xa9 \xff";
        return filter_path_is(path, n, "labels.a.b") ? "" : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_autofree char *text = g_strndup((const char *)data, size);
        char *texts[] = {text};
        g_autoptr(GError) error = NULL;
        AUTO(filter) filter = filter_parse(texts, 1, &error);
        if (filter == NULL) {
                g_assert_nonnull(error);
                return 0;
        }
        filter_match(filter, field, NULL);
        return 0;
}
