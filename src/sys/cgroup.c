// SPDX-License-Identifier: Apache-2.0
//
// /proc/PID/cgroup names a path per hierarchy, /proc/self/mountinfo where each hierarchy is mounted and which part of
// it (inside a container that is a subtree, whose root must be taken off the path). Controllers that share a mount
// (cpu,cpuacct) are looked up by each of their names.
#include "sys/cgroup.h"

#include "base/error.h"
#include "base/fd.h"
#include "sys/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

enum { FILE_LIMIT_BYTES = 1024 * 1024, MAX_DEPTH = 16 };

#define UNIFIED_ROOT "/sys/fs/cgroup"

struct hierarchy {
        char *controllers; // "cpu,cpuacct", "name=systemd"; "" for v2
        char *directory;
        size_t n_mount_point; // how much of directory that is
        bool at_root;
};

struct cgroup {
        enum cgroup_mode mode;
        GArray *hierarchies;
};

enum cgroup_mode cgroup_host_mode(void)
{
        struct statfs st;
        return statfs(UNIFIED_ROOT, &st) == 0 && st.f_type == CGROUP2_SUPER_MAGIC ? CGROUP_UNIFIED : CGROUP_LEGACY;
}

static char *read_text(const char *path)
{
        fd_auto int fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd >= 0 ? file_read_some(fd, FILE_LIMIT_BYTES) : NULL;
}

static void clear_hierarchy(void *data)
{
        struct hierarchy *hierarchy = data;
        g_free(hierarchy->controllers);
        g_free(hierarchy->directory);
}

static bool has_word(const char *list, const char *word, size_t n_word)
{
        for (const char *at = list; at != NULL; at = strchr(at, ',') != NULL ? strchr(at, ',') + 1 : NULL) {
                if (strncmp(at, word, n_word) == 0 && (at[n_word] == ',' || at[n_word] == '\0'))
                        return true;
        }
        return false;
}

struct mount {
        char *root, *point, *options; // options: of the file system, the names of its controllers among them
        bool unified;
};

static void clear_mount(void *data)
{
        struct mount *mount = data;
        free(mount->root);
        free(mount->point);
        free(mount->options);
}

// Where hierarchies are mounted. Line by line: where many containers run, there are hundreds of other mounts. NULL: not
// readable.
static GArray *read_mounts(void)
{
        FILE *file = fopen("/proc/self/mountinfo", "re");
        if (file == NULL)
                return NULL;
        GArray *mounts = g_array_new(FALSE, FALSE, sizeof(struct mount));
        g_array_set_clear_func(mounts, clear_mount);
        char *line = NULL;
        size_t n_allocated = 0;
        while (getline(&line, &n_allocated, file) > 0) {
                const char *type = strstr(line, " - cgroup");
                if (type == NULL)
                        continue;
                struct mount mount = {.unified = g_str_has_prefix(type, " - cgroup2 ")};
                if (sscanf(line, "%*s %*s %*s %ms %ms", &mount.root, &mount.point) == 2 &&
                        sscanf(type, " - %*s %*s %ms", &mount.options) == 1)
                        g_array_append_val(mounts, mount);
                else
                        clear_mount(&mount);
        }
        free(line);
        fclose(file);
        return mounts;
}

// The directory of `path` in a hierarchy; NULL: not mounted, or outside of what is mounted.
static char *locate(const GArray *mounts, const char *controllers, const char *path, size_t *ret_n_mount_point)
{
        for (guint i = 0; i < mounts->len; i++) {
                const struct mount *mount = &g_array_index(mounts, struct mount, i);
                if (mount->unified != (*controllers == '\0') ||
                        (!mount->unified && !has_word(mount->options, controllers, strcspn(controllers, ","))))
                        continue;
                size_t n_root = strcmp(mount->root, "/") == 0 ? 0 : strlen(mount->root);
                *ret_n_mount_point = strlen(mount->point);
                if (strncmp(path, mount->root, n_root) == 0 && (path[n_root] == '/' || path[n_root] == '\0'))
                        return g_strdup_printf("%s%s", mount->point, path + n_root);
                if (n_root == 0 || g_str_has_prefix(mount->root, "/.."))
                        return g_strdup_printf("%s%s", mount->point, path);
        }
        return NULL;
}

struct cgroup *cgroup_of_process(pid_t pid, GError **error)
{
        g_autofree char *path = g_strdup_printf("/proc/%d/cgroup", (int)pid);
        g_autofree char *text = read_text(path);
        g_autoptr(GArray) mounts = read_mounts();
        if (text == NULL || *text == '\0' || mounts == NULL) {
                error_fail(error, ERROR_NOT_FOUND, "process %d: no cgroup", (int)pid);
                return NULL;
        }
        struct cgroup *cgroup = g_new0(struct cgroup, 1);
        cgroup->mode = cgroup_host_mode();
        cgroup->hierarchies = g_array_new(FALSE, TRUE, sizeof(struct hierarchy));
        g_array_set_clear_func(cgroup->hierarchies, clear_hierarchy);
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; *line != NULL; line++) {
                g_auto(GStrv) parts = g_strsplit(*line, ":", 3);
                if (g_strv_length(parts) != 3 || (cgroup->mode == CGROUP_UNIFIED && *parts[1] != '\0'))
                        continue;
                size_t n_mount_point;
                char *directory = locate(mounts, parts[1], parts[2], &n_mount_point);
                if (directory == NULL)
                        continue;
                struct hierarchy hierarchy = {
                        .controllers = g_strdup(parts[1]),
                        .directory = directory,
                        .n_mount_point = n_mount_point,
                        .at_root = strcmp(parts[2], "/") == 0,
                };
                g_array_append_val(cgroup->hierarchies, hierarchy);
        }
        return cgroup;
}

struct cgroup *cgroup_at(const char *directory)
{
        struct cgroup *cgroup = g_new0(struct cgroup, 1);
        cgroup->mode = CGROUP_UNIFIED;
        cgroup->hierarchies = g_array_new(FALSE, TRUE, sizeof(struct hierarchy));
        g_array_set_clear_func(cgroup->hierarchies, clear_hierarchy);
        struct hierarchy hierarchy = {.controllers = g_strdup(""), .directory = g_strdup(directory)};
        g_array_append_val(cgroup->hierarchies, hierarchy);
        return cgroup;
}

void cgroup_free(struct cgroup *cgroup)
{
        if (cgroup == NULL)
                return;
        g_array_unref(cgroup->hierarchies);
        g_free(cgroup);
}

enum cgroup_mode cgroup_mode(const struct cgroup *cgroup)
{
        return cgroup->mode;
}

static const struct hierarchy *find(const struct cgroup *cgroup, const char *controller)
{
        for (guint i = 0; i < cgroup->hierarchies->len; i++) {
                const struct hierarchy *hierarchy = &g_array_index(cgroup->hierarchies, struct hierarchy, i);
                if (cgroup->mode == CGROUP_UNIFIED || has_word(hierarchy->controllers, controller, strlen(controller)))
                        return hierarchy;
        }
        return NULL;
}

const char *cgroup_directory(const struct cgroup *cgroup, const char *controller)
{
        const struct hierarchy *hierarchy = find(cgroup, controller);
        return hierarchy != NULL ? hierarchy->directory : NULL;
}

bool cgroup_is_own(const struct cgroup *cgroup)
{
        for (guint i = 0; i < cgroup->hierarchies->len; i++) {
                const struct hierarchy *hierarchy = &g_array_index(cgroup->hierarchies, struct hierarchy, i);
                if (!hierarchy->at_root && (cgroup->mode == CGROUP_UNIFIED || *hierarchy->controllers != '\0'))
                        return true;
        }
        return false;
}

char *cgroup_read(const struct cgroup *cgroup, const char *controller, const char *file)
{
        const char *directory = cgroup_directory(cgroup, controller);
        if (directory == NULL)
                return NULL;
        g_autofree char *path = g_strdup_printf("%s/%s", directory, file);
        return read_text(path);
}

bool cgroup_read_number(const struct cgroup *cgroup, const char *controller, const char *file, uint64_t *ret_value)
{
        g_autofree char *text = cgroup_read(cgroup, controller, file);
        if (text == NULL || *text == '\0')
                return false;
        *ret_value = g_str_has_prefix(text, "max") ? UINT64_MAX : g_ascii_strtoull(text, NULL, 10);
        return true;
}

bool cgroup_find_number(const char *text, const char *key, uint64_t *ret_value)
{
        size_t n_key = strlen(key);
        for (const char *line = text; line != NULL && *line != '\0';) {
                if (strncmp(line, key, n_key) == 0 && line[n_key] == ' ') {
                        *ret_value = g_ascii_strtoull(line + n_key + 1, NULL, 10);
                        return true;
                }
                line = strchr(line, '\n');
                if (line != NULL)
                        line++;
        }
        return false;
}

static void add_processes(GArray *pids, const char *directory, unsigned depth)
{
        g_autofree char *path = g_strdup_printf("%s/cgroup.procs", directory);
        g_autofree char *text = read_text(path);
        for (char *at = text, *end; at != NULL && *at != '\0'; at = *end == '\n' ? end + 1 : end) {
                pid_t pid = (pid_t)strtol(at, &end, 10);
                if (end == at)
                        break;
                if (pid > 0)
                        g_array_append_val(pids, pid);
        }
        DIR *dir = depth < MAX_DEPTH ? opendir(directory) : NULL;
        if (dir == NULL)
                return;
        for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
                if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                        continue;
                g_autofree char *child = g_strdup_printf("%s/%s", directory, entry->d_name);
                add_processes(pids, child, depth + 1);
        }
        closedir(dir);
}

GArray *cgroup_processes(const struct cgroup *cgroup)
{
        static const char *const controllers[] = {"devices", "pids", "memory", "freezer", "name=systemd"};
        GArray *pids = g_array_new(FALSE, FALSE, sizeof(pid_t));
        for (size_t i = 0; i < G_N_ELEMENTS(controllers); i++) {
                const struct hierarchy *hierarchy = find(cgroup, controllers[i]);
                if (hierarchy == NULL || hierarchy->at_root)
                        continue;
                add_processes(pids, hierarchy->directory, 0);
                break;
        }
        return pids;
}

// crun 1.8 makes directories also for controllers that are not mounted, as plain ones below /sys/fs/cgroup, each with a
// plain file cgroup.procs. (A real one cannot be unlinked.)
static void remove_plain(const char *relative)
{
        DIR *dir = opendir(UNIFIED_ROOT);
        if (dir == NULL)
                return;
        for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
                if (entry->d_name[0] == '.')
                        continue;
                g_autofree char *path = g_strdup_printf(UNIFIED_ROOT "/%s%s", entry->d_name, relative);
                g_autofree char *procs = g_strdup_printf("%s/cgroup.procs", path);
                unlink(procs);
                rmdir(path);
        }
        closedir(dir);
}

void cgroup_remove(const struct cgroup *cgroup)
{
        const char *relative = NULL;
        for (guint i = 0; i < cgroup->hierarchies->len; i++) {
                const struct hierarchy *hierarchy = &g_array_index(cgroup->hierarchies, struct hierarchy, i);
                if (hierarchy->at_root)
                        continue;
                rmdir(hierarchy->directory);
                if (g_str_has_prefix(hierarchy->directory, UNIFIED_ROOT "/"))
                        relative = hierarchy->directory + hierarchy->n_mount_point;
        }
        if (cgroup->mode == CGROUP_LEGACY && relative != NULL && strlen(relative) > 1)
                remove_plain(relative);
}

static bool write_pid(const char *directory, pid_t pid)
{
        g_autofree char *path = g_strdup_printf("%s/cgroup.procs", directory);
        fd_auto int fd = open(path, O_WRONLY | O_CLOEXEC);
        return fd >= 0 && dprintf(fd, "%d", (int)pid) > 0;
}

bool cgroup_join(const char *path, pid_t pid, GError **error)
{
        bool joined = false;
        if (cgroup_host_mode() == CGROUP_UNIFIED) {
                g_autofree char *directory = g_strdup_printf(UNIFIED_ROOT "%s%s", *path == '/' ? "" : "/", path);
                joined = write_pid(directory, pid);
        } else {
                g_autoptr(GArray) mounts = read_mounts();
                for (guint i = 0; mounts != NULL && i < mounts->len; i++) {
                        const struct mount *mount = &g_array_index(mounts, struct mount, i);
                        g_autofree char *directory =
                                g_strdup_printf("%s%s%s", mount->point, *path == '/' ? "" : "/", path);
                        joined |= !mount->unified && write_pid(directory, pid);
                }
        }
        return joined || error_fail(error, ERROR_NOT_FOUND, "cgroup %s: not found", path);
}
