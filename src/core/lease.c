// SPDX-License-Identifier: Apache-2.0
//
// containerd's rules for leases and what they hold.
#include "core/lease.h"

#include "base/digest.h"
#include "base/filter.h"

#include <string.h>

const char *lease_field(void *object, const char *const *path, size_t n, bool *ret_present)
{
        const struct lease *lease = object;
        if (strcmp(path[0], "labels") == 0)
                return labels_field(&lease->labels, path + 1, n - 1, ret_present);
        if (strcmp(path[0], "id") != 0)
                return NULL;
        *ret_present = lease->id[0] != '\0';
        return lease->id;
}

bool lease_resource_validate(const struct lease_resource *resource, GError **error)
{
        g_auto(GStrv) parts = g_strsplit(resource->type, "/", -1);
        guint n = g_strv_length(parts);
        const char *kind = n > 0 ? parts[0] : "";
        if (strcmp(kind, "snapshots") == 0) {
                return n == 2 || error_fail(error, ERROR_INVALID_ARGUMENT,
                                         "invalid snapshot resource type %s: invalid argument", resource->type);
        }
        if (strcmp(kind, "content") != 0 && strcmp(kind, "ingests") != 0 && strcmp(kind, "images") != 0)
                return error_fail(error, ERROR_UNIMPLEMENTED, "resource type %s not supported yet: not implemented",
                        resource->type);
        if (n != 1)
                return error_fail(
                        error, ERROR_INVALID_ARGUMENT, "invalid resource type %s: invalid argument", resource->type);
        g_autoptr(GError) bad_digest = NULL;
        if (strcmp(kind, "content") == 0 && !digest_parse(resource->id, NULL, &bad_digest))
                return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid content resource id %s: %s: invalid argument",
                        resource->id, bad_digest->message);
        return true;
}

bool lease_hold(struct metadata *metadata, struct tx *tx, const struct scope *scope, const char *type, const char *id,
        GError **error)
{
        if (scope->lease == NULL)
                return true;
        g_autoptr(GError) failure = NULL;
        const struct lease_resource resource = {type, id};
        if (metadata->leases->add(tx, scope->namespace_, scope->lease, &resource, &failure))
                return true;
        if (error_is(failure, ERROR_NOT_FOUND))
                return error_fail(error, ERROR_NOT_FOUND, "lease does not exist: not found");
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}

bool lease_release(struct metadata *metadata, struct tx *tx, const struct scope *scope, const char *type,
        const char *id, GError **error)
{
        if (scope->lease == NULL)
                return true;
        g_autoptr(GError) failure = NULL;
        const struct lease_resource resource = {type, id};
        if (metadata->leases->drop(tx, scope->namespace_, scope->lease, &resource, &failure) ||
                error_is(failure, ERROR_NOT_FOUND))
                return true;
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}
