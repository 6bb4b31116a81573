// SPDX-License-Identifier: Apache-2.0
//
// Small things on top of any content store.
#include "core/content.h"

#include "base/fd.h"

#include <errno.h>
#include <string.h>

const char *content_field(void *object, const char *const *path, size_t n, bool *ret_present)
{
        const struct blob *blob = object;
        if (strcmp(path[0], "labels") == 0)
                return labels_field(&blob->labels, path + 1, n - 1, ret_present);
        *ret_present = strcmp(path[0], "digest") == 0;
        return *ret_present ? blob->digest : NULL;
}

const char *content_status_field(void *object, const char *const *path, size_t n, bool *ret_present)
{
        const struct content_status *status = object;
        *ret_present = strcmp(path[0], "ref") == 0;
        return *ret_present ? status->ref : NULL;
}

static bool read_all(int fd, char *bytes, size_t n_bytes, GError **error)
{
        size_t done = 0;
        while (done < n_bytes) {
                ssize_t n = pread(fd, bytes + done, n_bytes - done, (off_t)done);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_fail_errno(error, errno, "read");
                if (n == 0)
                        return error_fail(error, ERROR_DATA_LOSS, "the blob is shorter than its record says");
                done += (size_t)n;
        }
        return true;
}

bool content_read(struct content_store *store, const struct scope *scope, const char *digest, size_t limit,
        struct arena *arena, const char **ret_bytes, size_t *ret_n, GError **error)
{
        int64_t size;
        fd_auto int fd = store->ops->open(store, scope, digest, &size, error);
        if (fd < 0)
                return false;
        if ((uint64_t)size > limit)
                return error_fail(error, ERROR_RESOURCE_EXHAUSTED, "content %s: %lld bytes are more than %zu", digest,
                        (long long)size, limit);
        char *bytes = arena_alloc(arena, (size_t)size + 1);
        if (!read_all(fd, bytes, (size_t)size, error)) {
                g_prefix_error(error, "content %s: ", digest);
                return false;
        }
        *ret_bytes = bytes;
        *ret_n = (size_t)size;
        return true;
}

static bool write_all(struct content_store *store, const struct scope *scope, const char *ref, const void *bytes,
        size_t n_bytes, const struct content_commit *commit, GError **error)
{
        const struct content_expect expect = {ref, (int64_t)n_bytes, commit->expected};
        AUTO(content_writer) writer = store->ops->writer(store, scope, &expect, error);
        if (writer == NULL)
                return false;
        struct content_status status;
        writer->ops->status(writer, &status);
        // Another namespace has these very bytes: there is nothing to write.
        bool adopted = status.offset > 0 && status.expected[0] != '\0';
        if (!adopted && ((status.offset > 0 && !writer->ops->truncate(writer, 0, error)) ||
                                !writer->ops->write(writer, bytes, n_bytes, error)))
                return false;
        return writer->ops->commit(writer, commit, error);
}

bool content_write(struct content_store *store, const struct scope *scope, const char *ref, const void *bytes,
        size_t n_bytes, const struct content_commit *commit, GError **error)
{
        g_autoptr(GError) failure = NULL;
        if (write_all(store, scope, ref, bytes, n_bytes, commit, &failure) || error_is(failure, ERROR_ALREADY_EXISTS))
                return true;
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}
