// SPDX-License-Identifier: Apache-2.0
//
// An ingest's directory. Nothing here is synced: an ingest that a power cut tore is begun anew or hashed again, and
// what counts is checked by digest at the commit.
#include "plugins/content_local/local.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/fd.h"
#include "sys/files.h"
#include "sys/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_SMALL_FILE = 64 * 1024 };

char *content_local_ingest_path(const char *backend)
{
        g_autofree char *digest = digest_of_bytes(DIGEST_SHA256, backend, strlen(backend));
        return g_strconcat("ingest/", digest_encoded(digest), NULL);
}

static bool write_small(int directory, const char *name, const char *text, GError **error)
{
        fd_auto int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0)
                return error_fail_errno(error, errno, "open %s", name);
        return file_write_at(fd, text, strlen(text), 0, error);
}

static bool write_time(int directory, const char *name, int64_t ns, GError **error)
{
        g_autofree char *text = clock_format_rfc3339(ns);
        return write_small(directory, name, text, error);
}

static bool read_time(int directory, const char *name, int64_t *ret_ns, GError **error)
{
        g_autofree char *text = file_read_text(directory, name, MAX_SMALL_FILE, error);
        if (text == NULL)
                return false;
        return clock_parse_rfc3339(text, ret_ns) ||
               error_fail(error, ERROR_UNKNOWN, "could not parse timestamp file %s", name);
}

static int64_t read_total(int directory)
{
        g_autofree char *text = file_read_text(directory, "total", MAX_SMALL_FILE, NULL);
        return text != NULL ? g_ascii_strtoll(text, NULL, 10) : 0;
}

static bool read_state(int directory, const char *backend, struct ingest_state *ret, GError **error)
{
        struct ingest_state state;
        struct stat st;
        if (fstatat(directory, "data", &st, AT_SYMLINK_NOFOLLOW) != 0)
                return errno == ENOENT ? error_fail(error, ERROR_NOT_FOUND, "ingest %s: not found", backend)
                                       : error_fail_errno(error, errno, "stat data");
        g_autofree char *ref = file_read_text(directory, "ref", MAX_SMALL_FILE, error);
        if (ref == NULL || !read_time(directory, "startedat", &state.started_ns, error) ||
                !read_time(directory, "updatedat", &state.updated_ns, error))
                return false;
        if (strcmp(ref, backend) != 0)
                return error_fail(error, ERROR_UNKNOWN, "ref key does not match: %s != %s", backend, ref);
        state.updated_ns = MAX(state.updated_ns, st.st_mtim.tv_sec * NS_PER_SECOND + st.st_mtim.tv_nsec);
        state.offset = st.st_size;
        state.total = read_total(directory);
        *ret = state;
        return true;
}

bool ingest_read(struct content_local *local, const char *backend, struct ingest_state *ret, GError **error)
{
        g_autofree char *path = content_local_ingest_path(backend);
        fd_auto int directory = openat(local->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (directory < 0)
                return errno == ENOENT ? error_fail(error, ERROR_NOT_FOUND, "ingest %s: not found", backend)
                                       : error_fail_errno(error, errno, "open %s", path);
        return read_state(directory, backend, ret, error);
}

static bool begin(int directory, const char *backend, struct ingest_state *state, GError **error)
{
        state->offset = 0;
        state->started_ns = state->updated_ns = clock_now_ns();
        if (!write_small(directory, "ref", backend, error) ||
                !write_time(directory, "startedat", state->started_ns, error) ||
                !write_time(directory, "updatedat", state->updated_ns, error))
                return false;
        g_autofree char *total = g_strdup_printf("%" G_GINT64_FORMAT, state->total);
        return state->total == 0 || write_small(directory, "total", total, error);
}

int ingest_open(struct content_local *local, const char *backend, int64_t total, int *ret_directory,
        struct ingest_state *ret, GError **error)
{
        g_autofree char *path = content_local_ingest_path(backend);
        if (mkdirat(local->root_fd, path, 0755) != 0 && errno != EEXIST) {
                error_fail_errno(error, errno, "mkdir %s", path);
                return -1;
        }
        fd_auto int directory = openat(local->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (directory < 0) {
                error_fail_errno(error, errno, "open %s", path);
                return -1;
        }
        struct ingest_state state;
        bool resumed = read_state(directory, backend, &state, NULL) &&
                       (total == 0 || state.total == 0 || total == state.total);
        if (!resumed) {
                state.total = total;
                if (!begin(directory, backend, &state, error))
                        return -1;
        }
        fd_auto int fd =
                openat(directory, "data", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (resumed ? 0 : O_TRUNC), 0644);
        if (fd < 0) {
                error_fail_errno(error, errno, "failed to open data file");
                return -1;
        }
        *ret = state;
        *ret_directory = fd_take(&directory);
        return fd_take(&fd);
}

void ingest_note_update(int directory, int64_t updated_ns)
{
        write_time(directory, "updatedat", updated_ns, NULL); // the data's own time tells nearly as much
}

bool ingest_remove(struct content_local *local, const char *backend, GError **error)
{
        g_autofree char *path = content_local_ingest_path(backend);
        g_autofree char *full = g_build_filename(local->root, path, NULL);
        return tree_remove(full, error);
}
