// SPDX-License-Identifier: Apache-2.0
//
// The database first: if that is damaged, what it says about the rest is not worth comparing. Directories without a
// record and records without a directory are looked after at every start, by the snapshotters and the first sweep.
#include "core/checkup.h"

#include "base/clock.h"
#include "base/log.h"
#include "core/content.h"
#include "core/metadata.h"

static bool check_metadata(struct checkup *checkup)
{
        g_autoptr(GError) error = NULL;
        if (checkup->metadata->ops->check(checkup->metadata, &checkup->stop, &error))
                return true;
        if (!error_is(error, ERROR_CANCELED))
                log_error("the metadata is not sound: stop skiffd, keep a copy of its root, and see \"Trouble\" in "
                          "docs/operations.md",
                        "error", error->message);
        return false;
}

static bool check_content(struct checkup *checkup, unsigned *ret_damaged)
{
        g_autoptr(GError) error = NULL;
        struct content_check check = {.hash = checkup->hash, .stop = &checkup->stop};
        if (checkup->content == NULL)
                return true;
        bool ok = checkup->content->ops->check(checkup->content, &check, &error);
        if (!ok && !error_is(error, ERROR_CANCELED))
                log_error("content cannot be checked", "error", error->message);
        *ret_damaged = check.n_damaged;
        return ok;
}

bool checkup_run(struct checkup *checkup)
{
        int64_t start_ns = clock_monotonic_ns();
        unsigned n_damaged = 0;
        log_info("checking what is kept, as the last end was not a clean one", "cause",
                checkup->hash ? "the machine went down" : "skiffd was killed");
        if (!check_metadata(checkup) || !check_content(checkup, &n_damaged))
                return false;
        g_autofree char *damaged = g_strdup_printf("%u", n_damaged);
        g_autofree char *took = g_strdup_printf("%.1fs", (double)(clock_monotonic_ns() - start_ns) / NS_PER_SECOND);
        log_info("checked what is kept", "damaged", damaged, "took", took);
        return true;
}
