// SPDX-License-Identifier: Apache-2.0
//
// Both trees are walked side by side, names in order of their bytes. Directories that did not change themselves are
// written only when something below them is, right before it. A file with several names is written under the first one
// that is met; an unchanged name joins as a link once another one of the same file has changed.
#include "unpack/changes.h"

#include "base/fd.h"
#include "unpack/layer_writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 1000, COMPARE_BYTES = 32 * 1024 };

struct walk {
        struct layer_writer *writer;
        GHashTable *sources; // inode number → path under which it was written
        GHashTable *waiting; // inode number → GPtrArray of unchanged paths
};

// A directory on the way down.
struct level {
        struct level *above;
        int lower_fd, upper_fd; // -1: not there
        const char *name, *path;
        struct stat status; // of the upper one
        bool written;
        unsigned depth;
};

// ---- comparing

static bool same_bytes(int a_fd, int b_fd, bool *ret_same, GError **error)
{
        g_autofree char *a = g_malloc(COMPARE_BYTES), *b = g_malloc(COMPARE_BYTES);
        for (;;) {
                ssize_t n = read(a_fd, a, COMPARE_BYTES), m = read(b_fd, b, COMPARE_BYTES);
                if (n < 0 || m < 0)
                        return error_fail_errno(error, errno, "compare files");
                *ret_same = n == m && memcmp(a, b, (size_t)n) == 0;
                if (!*ret_same || n == 0)
                        return true;
        }
}

static bool same_content(const struct level *level, const char *name, mode_t mode, bool *ret_same, GError **error)
{
        if (S_ISLNK(mode)) {
                char a[PATH_MAX], b[PATH_MAX];
                ssize_t n = readlinkat(level->lower_fd, name, a, sizeof(a));
                ssize_t m = readlinkat(level->upper_fd, name, b, sizeof(b));
                *ret_same = n >= 0 && n == m && memcmp(a, b, (size_t)n) == 0;
                return true;
        }
        *ret_same = true;
        if (!S_ISREG(mode))
                return true;
        fd_auto int lower = openat(level->lower_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        fd_auto int upper = openat(level->upper_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (lower < 0 || upper < 0)
                return error_fail_errno(error, errno, "open %s", name);
        return same_bytes(lower, upper, ret_same, error);
}

static bool same_capabilities(const struct level *level, const char *name)
{
        size_t n, m;
        g_autofree void *lower = layer_writer_capabilities(level->lower_fd, name, &n);
        g_autofree void *upper = layer_writer_capabilities(level->upper_fd, name, &m);
        return n == m && (n == 0 || memcmp(lower, upper, n) == 0);
}

static bool same_file(const struct level *level, const char *name, const struct stat *lower, const struct stat *upper,
        bool *ret_same, GError **error)
{
        *ret_same = lower->st_dev == upper->st_dev && lower->st_ino == upper->st_ino;
        if (*ret_same)
                return true;
        if (lower->st_mode != upper->st_mode || lower->st_uid != upper->st_uid || lower->st_gid != upper->st_gid ||
                lower->st_rdev != upper->st_rdev)
                return true;
        if (S_ISREG(upper->st_mode) && !same_capabilities(level, name))
                return true;
        if (S_ISDIR(upper->st_mode)) {
                *ret_same = true;
                return true;
        }
        if (lower->st_size != upper->st_size || lower->st_mtim.tv_sec != upper->st_mtim.tv_sec ||
                lower->st_mtim.tv_nsec != upper->st_mtim.tv_nsec)
                return true;
        // Times without a fraction may have lost it, on both sides.
        *ret_same = true;
        return upper->st_mtim.tv_nsec != 0 || same_content(level, name, upper->st_mode, ret_same, error);
}

// ---- writing

static bool write_parents(struct walk *walk, struct level *level, GError **error)
{
        if (level->above == NULL || level->written)
                return true;
        level->written = true;
        return write_parents(walk, level->above, error) &&
               layer_writer_add(
                       walk->writer, level->above->upper_fd, level->name, level->path, &level->status, NULL, error);
}

static bool write_waiting(struct walk *walk, const struct level *level, const char *name, const char *path,
        const struct stat *status, GError **error)
{
        GPtrArray *others = g_hash_table_lookup(walk->waiting, &status->st_ino);
        bool good = true;
        for (guint i = 0; good && others != NULL && i < others->len; i++)
                good = layer_writer_add(
                        walk->writer, level->upper_fd, name, g_ptr_array_index(others, i), status, path, error);
        g_hash_table_remove(walk->waiting, &status->st_ino);
        return good;
}

static void wait_for_change(struct walk *walk, const struct stat *status, const char *path)
{
        GPtrArray *others = g_hash_table_lookup(walk->waiting, &status->st_ino);
        if (others == NULL) {
                others = g_ptr_array_new_with_free_func(g_free);
                g_hash_table_insert(walk->waiting, g_memdup2(&status->st_ino, sizeof(status->st_ino)), others);
        }
        g_ptr_array_add(others, g_strdup(path));
}

static bool write_entry(struct walk *walk, struct level *level, const char *name, const char *path,
        const struct stat *status, bool changed, GError **error)
{
        if (S_ISSOCK(status->st_mode))
                return true;
        bool linked = !S_ISDIR(status->st_mode) && status->st_nlink > 1;
        const char *source = linked ? g_hash_table_lookup(walk->sources, &status->st_ino) : NULL;
        if (!changed && source == NULL) {
                if (linked)
                        wait_for_change(walk, status, path);
                return true;
        }
        if (!write_parents(walk, level, error) ||
                !layer_writer_add(walk->writer, level->upper_fd, name, path, status, source, error))
                return false;
        if (!linked || source != NULL)
                return true;
        g_hash_table_insert(walk->sources, g_memdup2(&status->st_ino, sizeof(status->st_ino)), g_strdup(path));
        return write_waiting(walk, level, name, path, status, error);
}

// ---- walking

static int compare_names(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static GPtrArray *list(int fd, const char *path, GError **error)
{
        GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
        if (fd < 0)
                return names;
        int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *directory = copy < 0 ? NULL : fdopendir(copy);
        if (directory == NULL) {
                error_fail_errno(error, errno, "read directory /%s", path);
                fd_close(&copy);
                g_ptr_array_unref(names);
                return NULL;
        }
        struct dirent *entry;
        while ((entry = readdir(directory)) != NULL) {
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        g_ptr_array_add(names, g_strdup(entry->d_name));
        }
        closedir(directory);
        g_ptr_array_sort(names, compare_names);
        return names;
}

static bool walk_level(struct walk *walk, struct level *level, GError **error);

static bool descend(struct walk *walk, struct level *above, const char *name, const char *path,
        const struct stat *status, bool in_both, bool written, GError **error)
{
        if (above->depth >= MAX_DEPTH)
                return error_fail(error, ERROR_RESOURCE_EXHAUSTED, "/%s: too deep", path);
        const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
        fd_auto int upper = openat(above->upper_fd, name, flags);
        fd_auto int lower = in_both ? openat(above->lower_fd, name, flags) : -1;
        if (upper < 0 || (in_both && lower < 0))
                return error_fail_errno(error, errno, "open /%s", path);
        struct level level = {above, lower, upper, name, path, *status, written, above->depth + 1};
        return walk_level(walk, &level, error);
}

static bool visit(struct walk *walk, struct level *level, const char *name, bool in_lower, GError **error)
{
        g_autofree char *path = *level->path == '\0' ? g_strdup(name) : g_strdup_printf("%s/%s", level->path, name);
        struct stat lower = {0}, upper;
        if (fstatat(level->upper_fd, name, &upper, AT_SYMLINK_NOFOLLOW) < 0 ||
                (in_lower && fstatat(level->lower_fd, name, &lower, AT_SYMLINK_NOFOLLOW) < 0))
                return error_fail_errno(error, errno, "stat /%s", path);
        bool same = false;
        if (in_lower && !same_file(level, name, &lower, &upper, &same, error))
                return false;
        if (!write_entry(walk, level, name, path, &upper, !same, error))
                return false;
        bool in_both = in_lower && S_ISDIR(lower.st_mode);
        return !S_ISDIR(upper.st_mode) || descend(walk, level, name, path, &upper, in_both, !same, error);
}

static bool write_whiteout(struct walk *walk, struct level *level, const char *name, GError **error)
{
        g_autofree char *path = *level->path == '\0' ? g_strdup(name) : g_strdup_printf("%s/%s", level->path, name);
        return write_parents(walk, level, error) && layer_writer_whiteout(walk->writer, path, error);
}

static bool walk_level(struct walk *walk, struct level *level, GError **error)
{
        g_autoptr(GPtrArray) lower = list(level->lower_fd, level->path, error);
        g_autoptr(GPtrArray) upper = lower == NULL ? NULL : list(level->upper_fd, level->path, error);
        if (upper == NULL)
                return false;
        bool good = true;
        guint i = 0, j = 0;
        while (good && (i < lower->len || j < upper->len)) {
                const char *a = i < lower->len ? g_ptr_array_index(lower, i) : NULL;
                const char *b = j < upper->len ? g_ptr_array_index(upper, j) : NULL;
                int order = a == NULL ? 1 : b == NULL ? -1 : strcmp(a, b);
                if (order < 0)
                        good = write_whiteout(walk, level, a, error);
                else
                        good = visit(walk, level, b, order == 0, error);
                i += order <= 0;
                j += order >= 0;
        }
        return good;
}

bool changes_write(const struct changes_options *options, GError **error)
{
        AUTO(layer_writer) writer = layer_writer_new(options, error);
        if (writer == NULL)
                return false;
        struct walk walk = {
                .writer = writer,
                .sources = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free),
                .waiting =
                        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, (GDestroyNotify)g_ptr_array_unref),
        };
        struct level root = {.lower_fd = options->lower_fd, .upper_fd = options->upper_fd, .name = "", .path = ""};
        bool good = walk_level(&walk, &root, error) && layer_writer_finish(writer, error);
        g_hash_table_unref(walk.sources);
        g_hash_table_unref(walk.waiting);
        return good;
}
