// SPDX-License-Identifier: Apache-2.0
//
// The order of creation makes a crash harmless: a directory without bootstrap.json is a bundle that no shim knows, and
// is removed at the next start. Removal renames first, as the hidden name is skipped by whoever lists bundles.
#include "plugins/runtime_v2/bundle.h"

#include "base/error.h"
#include "base/fd.h"
#include "containerd/bootstrap.pb-c.h"
#include "sys/mounts.h"
#include "sys/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NEWEST_VERSION = 3, MAX_ADDRESS_BYTES = 4096 };

void bundle_address_done(struct bundle_address *address)
{
        g_free(address->protocol);
        g_free(address->address);
        *address = (struct bundle_address){0};
}

struct bundle *bundle_new(const char *root, const char *state, const char *namespace_, const char *id)
{
        struct bundle *bundle = g_new0(struct bundle, 1);
        bundle->namespace_ = g_strdup(namespace_);
        bundle->id = g_strdup(id);
        bundle->path = g_build_filename(state, namespace_, id, NULL);
        bundle->work = g_build_filename(root, namespace_, id, NULL);
        return bundle;
}

void bundle_free(struct bundle *bundle)
{
        if (bundle == NULL)
                return;
        g_free(bundle->namespace_);
        g_free(bundle->id);
        g_free(bundle->path);
        g_free(bundle->work);
        g_free(bundle);
}

static bool make_parent(const char *path, GError **error)
{
        g_autofree char *parent = g_path_get_dirname(path);
        return g_mkdir_with_parents(parent, 0711) == 0 || error_fail_errno(error, errno, "make directory %s", parent);
}

static bool write_file(const struct bundle *bundle, const char *name, const void *bytes, size_t n_bytes, GError **error)
{
        // Complete or absent: a daemon that starts after a crash reads these files. STATE is a tmpfs, no sync needed.
        g_autofree char *path = g_build_filename(bundle->path, name, NULL);
        g_autofree char *fresh = g_strconcat(path, ".new", NULL);
        fd_auto int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
                return error_fail_errno(error, errno, "write %s", path);
        for (size_t done = 0; done < n_bytes;) {
                ssize_t n = write(fd, (const char *)bytes + done, n_bytes - done);
                if (n < 0 && errno != EINTR)
                        return error_fail_errno(error, errno, "write %s", path);
                done += n > 0 ? (size_t)n : 0;
        }
        return rename(fresh, path) == 0 || error_fail_errno(error, errno, "write %s", path);
}

static bool fill(const struct bundle *bundle, const struct any *spec, GError **error)
{
        g_autofree char *rootfs = g_build_filename(bundle->path, "rootfs", NULL);
        g_autofree char *link = g_build_filename(bundle->path, "work", NULL);
        g_autofree char *log = g_build_filename(bundle->path, "log", NULL);
        if (mkdir(rootfs, 0711) < 0)
                return error_fail_errno(error, errno, "make directory %s", rootfs);
        if (mkdir(bundle->work, 0711) < 0 &&
                (errno != EEXIST || !tree_remove(bundle->work, NULL) || mkdir(bundle->work, 0711) < 0))
                return error_fail_errno(error, errno, "make directory %s", bundle->work);
        if (symlink(bundle->work, link) < 0 || mkfifo(log, 0700) < 0)
                return error_fail_errno(error, errno, "fill bundle %s", bundle->path);
        return spec->n_value == 0 || write_file(bundle, "config.json", spec->value, spec->n_value, error);
}

bool bundle_create(const struct bundle *bundle, const struct any *spec, GError **error)
{
        if (!make_parent(bundle->path, error) || !make_parent(bundle->work, error))
                return false;
        if (mkdir(bundle->path, 0700) < 0) {
                if (errno == EEXIST)
                        return error_fail(error, ERROR_ALREADY_EXISTS, "bundle %s: already exists", bundle->path);
                return error_fail_errno(error, errno, "make directory %s", bundle->path);
        }
        if (fill(bundle, spec, error))
                return true;
        bundle_delete(bundle, NULL);
        return false;
}

static bool remove_hidden(const char *path, GError **error)
{
        g_autofree char *parent = g_path_get_dirname(path), *name = g_path_get_basename(path);
        g_autofree char *hidden_name = g_strconcat(".", name, NULL);
        g_autofree char *hidden = g_build_filename(parent, hidden_name, NULL);
        if (rename(path, hidden) < 0)
                return errno == ENOENT || error_fail_errno(error, errno, "remove %s", path);
        return tree_remove(hidden, error);
}

bool bundle_delete(const struct bundle *bundle, GError **error)
{
        g_autofree char *rootfs = g_build_filename(bundle->path, "rootfs", NULL);
        if (!mount_unmount_recursive(rootfs, 0, error)) {
                g_prefix_error(error, "unmount rootfs %s: ", rootfs);
                return false;
        }
        // Not by tree_remove: if something is still mounted there, it must stay.
        if (rmdir(rootfs) < 0 && errno != ENOENT)
                return error_fail_errno(error, errno, "failed to remove bundle rootfs");
        return remove_hidden(bundle->path, error) && remove_hidden(bundle->work, error);
}

int bundle_open_log(const struct bundle *bundle, GError **error)
{
        g_autofree char *path = g_build_filename(bundle->path, "log", NULL);
        // For writing too: then a shim that comes and goes is no end of file.
        int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                error_fail_errno(error, errno, "open shim log pipe");
        return fd;
}

bool bundle_save_shim(
        const struct bundle *bundle, const char *binary, const struct bundle_address *address, GError **error)
{
        json_t *object = json_pack("{s:i, s:s, s:s}", "version", address->version, "address", address->address,
                "protocol", address->protocol);
        char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
        json_decref(object);
        if (text == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "shim address is not UTF-8");
        bool good = write_file(bundle, "shim-binary-path", binary, strlen(binary), error) &&
                    write_file(bundle, "bootstrap.json", text, strlen(text), error);
        free(text);
        return good;
}

static bool read_file(const struct bundle *bundle, const char *name, char **ret_text, gsize *ret_length)
{
        g_autofree char *path = g_build_filename(bundle->path, name, NULL);
        return g_file_get_contents(path, ret_text, ret_length, NULL);
}

bool bundle_load_shim(
        const struct bundle *bundle, char **ret_binary, struct bundle_address *ret_address, GError **error)
{
        g_autofree char *text = NULL, *binary = NULL;
        gsize length = 0;
        // Shims older than bootstrap.json left a file `address`.
        if (!read_file(bundle, "bootstrap.json", &text, &length) && !read_file(bundle, "address", &text, &length))
                return error_fail(error, ERROR_NOT_FOUND, "bundle %s has no shim address: not found", bundle->path);
        if (!bundle_parse_address(text, length, ret_address, error))
                return false;
        read_file(bundle, "shim-binary-path", &binary, &length);
        *ret_binary = g_steal_pointer(&binary);
        return true;
}

static bool parse_json(const char *text, size_t length, struct bundle_address *ret_address)
{
        json_t *object = json_loadb(text, length, 0, NULL);
        const char *address, *protocol;
        int version;
        bool good = json_unpack(object, "{s:i, s:s, s:s}", "version", &version, "address", &address, "protocol",
                            &protocol) == 0 &&
                    version >= 2;
        if (good)
                *ret_address = (struct bundle_address){version, g_ascii_strdown(protocol, -1), g_strdup(address)};
        json_decref(object);
        return good;
}

static bool parse_protobuf(const void *bytes, size_t n_bytes, struct bundle_address *ret_address)
{
        Bootstrap__BootstrapResult *result = bootstrap__bootstrap_result__unpack(NULL, n_bytes, bytes);
        if (result == NULL)
                return false;
        bool good = result->version >= 2 && *result->address != 0;
        if (good)
                *ret_address = (struct bundle_address){
                        result->version, g_ascii_strdown(result->protocol, -1), g_strdup(result->address)};
        bootstrap__bootstrap_result__free_unpacked(result, NULL);
        return good;
}

bool bundle_parse_address(const void *bytes, size_t n_bytes, struct bundle_address *ret_address, GError **error)
{
        struct bundle_address address = {0};
        g_autofree char *text = g_strstrip(g_strndup(bytes, n_bytes));
        if (n_bytes == 0 || *text == 0 || n_bytes > MAX_ADDRESS_BYTES)
                return error_fail(error, ERROR_UNKNOWN, "shim gave no address");
        if (!parse_protobuf(bytes, n_bytes, &address) && !parse_json(text, strlen(text), &address))
                address = (struct bundle_address){2, g_strdup("ttrpc"), g_steal_pointer(&text)};
        int version = address.version;
        bool known = strcmp(address.protocol, "ttrpc") == 0 || strcmp(address.protocol, "grpc") == 0;
        if (known && version <= NEWEST_VERSION) {
                *ret_address = address;
                return true;
        }
        if (version > NEWEST_VERSION)
                error_fail(error, ERROR_UNIMPLEMENTED, "unsupported shim version (%d): not implemented", version);
        else
                error_fail(error, ERROR_UNIMPLEMENTED, "unsupported shim protocol \"%s\": not implemented",
                        address.protocol);
        bundle_address_done(&address);
        return false;
}
