// SPDX-License-Identifier: Apache-2.0
#include "unpack/layer_writer.h"

#include "base/fd.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum { BUFFER_BYTES = 256 * 1024, CAPABILITY_BYTES = 64 };

struct layer_writer {
        struct changes_options options;
        struct archive *archive;
        GError *failure; // of options.write
        uint8_t *buffer;
};

static la_ssize_t on_write(struct archive *archive, void *data, const void *bytes, size_t n_bytes)
{
        struct layer_writer *writer = data;
        if (writer->failure == NULL && writer->options.write(writer->options.data, bytes, n_bytes, &writer->failure))
                return (la_ssize_t)n_bytes;
        archive_set_error(archive, EIO, "write");
        return -1;
}

static bool failed(struct layer_writer *writer, const char *path, GError **error)
{
        if (writer->failure != NULL) {
                g_propagate_error(error, g_steal_pointer(&writer->failure));
                return false;
        }
        const char *text = archive_error_string(writer->archive);
        return error_fail(error, ERROR_UNKNOWN, "write %s: %s", path, text != NULL ? text : "failed");
}

struct layer_writer *layer_writer_new(const struct changes_options *options, GError **error)
{
        struct layer_writer *writer = g_new0(struct layer_writer, 1);
        writer->options = *options;
        writer->buffer = g_malloc(BUFFER_BYTES);
        writer->archive = archive_write_new();
        archive_write_set_format_pax_restricted(writer->archive);
        archive_write_set_options(writer->archive, "xattrheader=SCHILY");
        archive_write_set_bytes_per_block(writer->archive, BUFFER_BYTES);
        archive_write_set_bytes_in_last_block(writer->archive, 1); // no padding
        if (archive_write_open(writer->archive, writer, NULL, on_write, NULL) == ARCHIVE_OK)
                return writer;
        failed(writer, "archive", error);
        layer_writer_free(writer);
        return NULL;
}

void layer_writer_free(struct layer_writer *writer)
{
        if (writer == NULL)
                return;
        archive_write_free(writer->archive);
        g_clear_error(&writer->failure);
        g_free(writer->buffer);
        g_free(writer);
}

void *layer_writer_capabilities(int directory_fd, const char *name, size_t *ret_size)
{
        *ret_size = 0;
        fd_auto int fd = openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        uint8_t value[CAPABILITY_BYTES];
        ssize_t size = fd < 0 ? -1 : fgetxattr(fd, "security.capability", value, sizeof(value));
        if (size <= 0)
                return NULL;
        *ret_size = (size_t)size;
        return g_memdup2(value, (size_t)size);
}

static bool copy_body(
        struct layer_writer *writer, int directory_fd, const char *name, const char *path, off_t size, GError **error)
{
        fd_auto int fd = openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return error_fail_errno(error, errno, "open %s", path);
        while (size > 0) {
                ssize_t n = read(fd, writer->buffer, (size_t)MIN(size, BUFFER_BYTES));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? error_fail_errno(error, errno, "read %s", path)
                                     : error_fail(error, ERROR_UNKNOWN, "short write copying file");
                if (archive_write_data(writer->archive, writer->buffer, (size_t)n) != n)
                        return failed(writer, path, error);
                size -= n;
        }
        return true;
}

static bool describe(
        struct archive_entry *entry, int directory_fd, const char *name, const struct stat *status, GError **error)
{
        archive_entry_set_mode(entry, status->st_mode);
        archive_entry_set_uid(entry, status->st_uid);
        archive_entry_set_gid(entry, status->st_gid);
        if (S_ISLNK(status->st_mode)) {
                char target[PATH_MAX];
                ssize_t length = readlinkat(directory_fd, name, target, sizeof(target) - 1);
                if (length < 0)
                        return error_fail_errno(error, errno, "read link %s", name);
                target[length] = '\0';
                archive_entry_set_symlink(entry, target);
        }
        if (S_ISCHR(status->st_mode) || S_ISBLK(status->st_mode)) {
                archive_entry_set_rdevmajor(entry, major(status->st_rdev));
                archive_entry_set_rdevminor(entry, minor(status->st_rdev));
        }
        archive_entry_set_size(entry, S_ISREG(status->st_mode) ? status->st_size : 0);
        if (!S_ISREG(status->st_mode))
                return true;
        size_t size;
        g_autofree void *capabilities = layer_writer_capabilities(directory_fd, name, &size);
        if (size > 0)
                archive_entry_xattr_add_entry(entry, "security.capability", capabilities, size);
        return true;
}

static int64_t bounded_time(const struct layer_writer *writer, int64_t seconds)
{
        return writer->options.has_epoch ? MIN(seconds, writer->options.epoch_seconds) : seconds;
}

bool layer_writer_add(struct layer_writer *writer, int directory_fd, const char *name, const char *path,
        const struct stat *status, const char *link, GError **error)
{
        struct archive_entry *entry = archive_entry_new2(writer->archive);
        g_autofree char *full = g_strconcat(path, S_ISDIR(status->st_mode) ? "/" : "", NULL);
        archive_entry_copy_pathname(entry, full);
        archive_entry_set_mtime(entry, bounded_time(writer, status->st_mtim.tv_sec), 0);
        bool good = describe(entry, directory_fd, name, status, error);
        if (good && link != NULL) {
                archive_entry_set_size(entry, 0);
                archive_entry_copy_hardlink(entry, link);
        }
        if (good && archive_write_header(writer->archive, entry) < ARCHIVE_WARN)
                good = failed(writer, path, error);
        archive_entry_free(entry);
        if (good && link == NULL && S_ISREG(status->st_mode) && status->st_size > 0)
                good = copy_body(writer, directory_fd, name, path, status->st_size, error);
        return good;
}

bool layer_writer_whiteout(struct layer_writer *writer, const char *path, GError **error)
{
        const char *slash = strrchr(path, '/');
        size_t n = slash == NULL ? 0 : (size_t)(slash - path) + 1;
        g_autofree char *full = g_strdup_printf("%.*s.wh.%s", (int)n, path, path + n);
        struct archive_entry *entry = archive_entry_new2(writer->archive);
        archive_entry_copy_pathname(entry, full);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_size(entry, 0);
        archive_entry_set_mtime(entry, 0, 0);
        bool good = archive_write_header(writer->archive, entry) >= ARCHIVE_WARN || failed(writer, path, error);
        archive_entry_free(entry);
        return good;
}

bool layer_writer_finish(struct layer_writer *writer, GError **error)
{
        return archive_write_close(writer->archive) == ARCHIVE_OK || failed(writer, "end of archive", error);
}
