// SPDX-License-Identifier: Apache-2.0
//
// The kernel resolves what has no symbolic link in it, in one openat2. The rest is walked here, one component at a time
// on open directories, because the resolved path is needed as well: reports to skiffd name it, and opaque markers
// compare it. The last directory is kept open, as archives come in the order of directories; whatever is removed may
// have been part of its path, so every removal forgets it.
#include "unpack/rootfs.h"

#include "base/fd.h"
#include "sys/files.h"
#include "sys/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_LINKS = 255, MAX_DEPTH = 2000 };

struct rootfs {
        int root_fd;
        void (*on_invented)(void *data, const char *path);
        void *data;
        struct memory {
                int fd; // -1: none
                char *asked, *resolved;
                bool stale; // something was removed since
        } places, targets;
};

struct rootfs *rootfs_new(int root_fd, void (*on_invented)(void *data, const char *path), void *data)
{
        struct rootfs *rootfs = g_new0(struct rootfs, 1);
        rootfs->root_fd = root_fd;
        rootfs->on_invented = on_invented;
        rootfs->data = data;
        rootfs->places.fd = rootfs->targets.fd = -1;
        return rootfs;
}

static void forget(struct memory *memory)
{
        fd_close(&memory->fd);
        g_clear_pointer(&memory->asked, g_free);
        g_clear_pointer(&memory->resolved, g_free);
        memory->stale = false;
}

void rootfs_free(struct rootfs *rootfs)
{
        if (rootfs == NULL)
                return;
        forget(&rootfs->places);
        forget(&rootfs->targets);
        g_free(rootfs);
}

char *rootfs_clean(const char *name)
{
        g_auto(GStrv) parts = g_strsplit(name, "/", -1);
        GPtrArray *kept = g_ptr_array_new();
        for (char **part = parts; *part != NULL; part++) {
                if (**part == '\0' || strcmp(*part, ".") == 0)
                        continue;
                if (strcmp(*part, "..") != 0)
                        g_ptr_array_add(kept, *part);
                else if (kept->len > 0)
                        g_ptr_array_set_size(kept, (int)kept->len - 1);
        }
        g_ptr_array_add(kept, NULL);
        char *clean = g_strjoinv("/", (char **)kept->pdata);
        g_ptr_array_free(kept, TRUE);
        return clean;
}

int rootfs_open(const struct rootfs *rootfs, const char *path, int flags)
{
        return file_open_resolved(rootfs->root_fd, path, flags | O_NOFOLLOW,
                RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

// ---- walking

struct walk {
        struct rootfs *rootfs;
        bool create;
        int fd;             // the directory that the walk has reached
        GString *path;      // its path without links
        GQueue *components; // still to go, owned strings
        unsigned links;
};

static void push_components(struct walk *walk, const char *path)
{
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);
        for (guint i = g_strv_length(parts); i > 0; i--) {
                const char *part = parts[i - 1];
                if (*part != '\0' && strcmp(part, ".") != 0)
                        g_queue_push_head(walk->components, g_strdup(part));
        }
}

static bool return_to(struct walk *walk, size_t length, GError **error)
{
        g_string_truncate(walk->path, length);
        fd_close(&walk->fd);
        walk->fd = rootfs_open(walk->rootfs, walk->path->str, O_PATH | O_DIRECTORY);
        return walk->fd >= 0 || error_fail_errno(error, errno, "open %s", walk->path->str);
}

static bool walk_up(struct walk *walk, GError **error)
{
        const char *slash = strrchr(walk->path->str, '/');
        return return_to(walk, slash == NULL ? 0 : (size_t)(slash - walk->path->str), error);
}

static bool follow_link(struct walk *walk, int link_fd, GError **error)
{
        char target[PATH_MAX];
        ssize_t length = readlinkat(link_fd, "", target, sizeof(target) - 1);
        if (length < 0)
                return error_fail_errno(error, errno, "read link in /%s", walk->path->str);
        if (++walk->links > MAX_LINKS)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "too many links in /%s", walk->path->str);
        target[length] = '\0';
        push_components(walk, target);
        return target[0] != '/' || return_to(walk, 0, error);
}

static int invent(struct walk *walk, const char *name)
{
        if (mkdirat(walk->fd, name, 0755) < 0)
                return -1;
        // mkdirat honours the umask and a set-group-id bit above.
        if (fchmodat(walk->fd, name, 0755, 0) < 0)
                return -1;
        g_autofree char *path = walk->path->len == 0 ? g_strdup(name) : g_strdup_printf("%s/%s", walk->path->str, name);
        walk->rootfs->on_invented(walk->rootfs->data, path);
        return openat(walk->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

static bool walk_into(struct walk *walk, const char *name, GError **error)
{
        fd_auto int fd = openat(walk->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT && walk->create)
                fd = invent(walk, name);
        if (fd < 0 && errno == ENOENT)
                return error_fail(error, ERROR_NOT_FOUND, "/%s/%s: no such file or directory", walk->path->str, name);
        struct stat status;
        if (fd < 0 || fstatat(fd, "", &status, AT_EMPTY_PATH) < 0)
                return error_fail_errno(error, errno, "open /%s/%s", walk->path->str, name);
        if (S_ISLNK(status.st_mode))
                return follow_link(walk, fd, error);
        if (!S_ISDIR(status.st_mode))
                return error_fail(error, ERROR_INVALID_ARGUMENT, "/%s/%s: not a directory", walk->path->str, name);
        if (walk->path->len > 0)
                g_string_append_c(walk->path, '/');
        g_string_append(walk->path, name);
        fd_close(&walk->fd);
        walk->fd = fd_take(&fd);
        return true;
}

static bool walk_all(struct walk *walk, const char *path, GError **error)
{
        push_components(walk, path);
        if (!return_to(walk, 0, error))
                return false;
        char *component;
        while ((component = g_queue_pop_head(walk->components)) != NULL) {
                bool good = strcmp(component, "..") == 0 ? walk_up(walk, error) : walk_into(walk, component, error);
                g_free(component);
                if (!good)
                        return false;
        }
        return true;
}

// Opens the directory at path and remembers it as the last one.
static bool enter(struct rootfs *rootfs, struct memory *memory, const char *path, bool create, GError **error)
{
        if (memory->fd >= 0 && !memory->stale && strcmp(memory->asked, path) == 0)
                return true;
        struct walk walk = {.rootfs = rootfs, .create = create, .path = g_string_new(path)};
        walk.fd = strstr(path, "..") == NULL ? rootfs_open(rootfs, path, O_PATH | O_DIRECTORY) : -1;
        bool good = walk.fd >= 0;
        if (!good) {
                walk.components = g_queue_new();
                good = walk_all(&walk, path, error);
                g_queue_free_full(walk.components, g_free);
        }
        g_autofree char *resolved = g_string_free(walk.path, FALSE);
        if (!good) {
                fd_close(&walk.fd);
                return false;
        }
        char *asked = g_strdup(path);
        forget(memory);
        *memory = (struct memory){.fd = walk.fd, .asked = asked, .resolved = g_steal_pointer(&resolved)};
        return true;
}

static bool find(struct rootfs *rootfs, struct memory *memory, const char *path, bool create,
        struct rootfs_place *ret_place, GError **error)
{
        const char *slash = strrchr(path, '/');
        g_autofree char *parent = slash == NULL ? g_strdup("") : g_strndup(path, (size_t)(slash - path));
        if (!enter(rootfs, memory, parent, create, error))
                return false;
        *ret_place = (struct rootfs_place){memory->fd, memory->resolved, slash == NULL ? path : slash + 1};
        return true;
}

bool rootfs_find(struct rootfs *rootfs, const char *path, bool create, struct rootfs_place *ret_place, GError **error)
{
        return find(rootfs, &rootfs->places, path, create, ret_place, error);
}

bool rootfs_find_target(struct rootfs *rootfs, const char *path, struct rootfs_place *ret_place, GError **error)
{
        while (*path == '/')
                path++;
        const char *slash = strrchr(path, '/');
        const char *name = slash == NULL ? path : slash + 1;
        if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "link to %s: operation not permitted", path);
        return find(rootfs, &rootfs->targets, path, false, ret_place, error);
}

char *rootfs_place_path(const struct rootfs_place *place)
{
        return *place->directory == '\0' ? g_strdup(place->name)
                                         : g_strdup_printf("%s/%s", place->directory, place->name);
}

// ---- removing

struct visit {
        rootfs_keep_fn keep;
        void *data;
        unsigned depth;
};

// Removes what is in the directory behind fd (taken), except what is kept.
static bool clear_directory(int fd, const char *path, const struct visit *visit, GError **error);

static bool clear_entry(int fd, const char *path, const char *name, const struct visit *visit, GError **error)
{
        g_autofree char *full = *path == '\0' ? g_strdup(name) : g_strdup_printf("%s/%s", path, name);
        if (!visit->keep(visit->data, full))
                return tree_remove_at(fd, name, error);
        int child = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct visit deeper = {visit->keep, visit->data, visit->depth + 1};
        return child < 0 || clear_directory(child, full, &deeper, error);
}

static bool clear_directory(int fd, const char *path, const struct visit *visit, GError **error)
{
        DIR *directory = fdopendir(fd);
        if (directory == NULL || visit->depth > MAX_DEPTH) {
                int errnum = directory == NULL ? errno : ELOOP;
                if (directory != NULL)
                        closedir(directory);
                else
                        close(fd);
                return error_fail_errno(error, errnum, "read directory");
        }
        bool good = true;
        struct dirent *entry;
        while (good && (errno = 0, entry = readdir(directory)) != NULL) {
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        good = clear_entry(fd, path, entry->d_name, visit, error);
        }
        if (good && errno != 0)
                good = error_fail_errno(error, errno, "read directory");
        closedir(directory);
        return good;
}

bool rootfs_remove(struct rootfs *rootfs, const struct rootfs_place *place, GError **error)
{
        // The descriptors stay open: place is one of them.
        bool good = tree_remove_at(place->directory_fd, place->name, error);
        rootfs->places.stale = rootfs->targets.stale = true;
        return good;
}

bool rootfs_remove_others(
        struct rootfs *rootfs, const struct rootfs_place *place, rootfs_keep_fn keep, void *data, GError **error)
{
        int fd = openat(place->directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return error_fail_errno(error, errno, "open /%s", place->directory);
        struct visit visit = {.keep = keep, .data = data};
        bool good = clear_directory(fd, place->directory, &visit, error);
        rootfs->places.stale = rootfs->targets.stale = true;
        return good;
}
