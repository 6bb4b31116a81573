// SPDX-License-Identifier: Apache-2.0
//
// crun starts in a third of runc's time, so it comes first, but 1.x on cgroup v1 opens one directory per controller,
// and fails where the host has not mounted it. Newer runtimes tell the versions that they take by `features`; crun 1.8
// and runc 1.1 do not have it and print a `spec:` line with `--version`.
#include "shim/oci_choice.h"

#include "base/error.h"
#include "base/fd.h"
#include "codec/json_scan.h"
#include "codec/runtime_spec.h"
#include "sys/cgroup.h"
#include "sys/sealed_program.h"
#include "sys/spawn.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { ANSWER_LIMIT_BYTES = 256 * 1024, ANSWER_TIMEOUT_MS = 10000, OLDER_THAN_ALL = 0 };

// What crun needs of a cgroup v1 host. NULL: all there.
static const char *missing_controller(void)
{
        static const char *const needed[] = {
                "blkio", "cpu", "cpuset", "devices", "freezer", "hugetlb", "memory", "pids"};
        if (cgroup_host_mode() == CGROUP_UNIFIED)
                return NULL;
        for (size_t i = 0; i < G_N_ELEMENTS(needed); i++) {
                g_autofree char *path = g_strdup_printf("/sys/fs/cgroup/%s", needed[i]);
                if (access(path, F_OK) < 0)
                        return needed[i];
        }
        return NULL;
}

char *oci_choose(char **ret_reason)
{
        g_autofree char *crun = g_find_program_in_path("crun");
        const char *missing = missing_controller();
        if (crun != NULL && missing == NULL) {
                *ret_reason = g_strdup("crun is installed and can serve this host's cgroups");
                return g_strdup("crun");
        }
        *ret_reason =
                crun == NULL ? g_strdup("crun is not installed")
                             : g_strdup_printf("crun needs the cgroup v1 controller %s, which is not mounted", missing);
        return g_strdup("runc");
}

// ---- how new

static bool ask(const char *binary, const char *question, char **ret_answer)
{
        const char *argv[] = {binary, question, NULL};
        struct spawn_options options = {.path = binary, .argv = argv};
        struct spawn_output output;
        if (!spawn_collect(&options, ANSWER_LIMIT_BYTES, ANSWER_TIMEOUT_MS, &output, NULL))
                return false;
        bool answered = output.status == 0;
        if (answered)
                *ret_answer = g_string_free(g_steal_pointer(&output.out), FALSE);
        spawn_output_done(&output);
        return answered;
}

// Versions as major * 1000 + minor.
static unsigned parse_version(const char *text)
{
        unsigned major, minor;
        return sscanf(text, "%u.%u", &major, &minor) == 2 ? major * 1000 + minor : OLDER_THAN_ALL;
}

static unsigned ask_newest_version(const char *binary)
{
        g_autofree char *features = NULL, *version = NULL;
        struct json_span document;
        if (ask(binary, "features", &features) && json_scan_document(features, strlen(features), &document)) {
                g_autofree char *max = json_span_string(json_member(document, "ociVersionMax"));
                if (max != NULL)
                        return parse_version(max);
        }
        if (!ask(binary, "--version", &version))
                return OLDER_THAN_ALL;
        const char *line = strstr(version, "spec: ");
        return line != NULL ? parse_version(line + strlen("spec: ")) : OLDER_THAN_ALL;
}

static char *cache_path(const char *binary, const char *cache_dir)
{
        g_autofree char *identity = cache_dir != NULL ? sealed_program_identity(binary) : NULL;
        return identity != NULL ? g_strdup_printf("%s/oci-%s", cache_dir, identity) : NULL;
}

static bool read_cached(const char *path, unsigned *ret_version)
{
        char text[16];
        fd_auto int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
        if (n <= 0)
                return false;
        text[n] = '\0';
        return sscanf(text, "%u", ret_version) == 1;
}

// Lost or half-written, it is only asked again.
static void write_cached(const char *path, unsigned version)
{
        g_autofree char *temporary = g_strdup_printf("%s.%d", path, (int)getpid());
        fd_auto int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0 && (dprintf(fd, "%u\n", version) < 0 || rename(temporary, path) < 0))
                unlink(temporary);
}

static unsigned newest_version(const char *binary, const char *cache_dir)
{
        unsigned version;
        g_autofree char *path = cache_path(binary, cache_dir);
        if (path != NULL && read_cached(path, &version))
                return version;
        version = ask_newest_version(binary);
        if (path != NULL)
                write_cached(path, version);
        return version;
}

static bool replace_file(const char *path, const char *text, GError **error)
{
        g_autofree char *temporary = g_strdup_printf("%s.new", path);
        fd_auto int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        size_t n = strlen(text);
        if (fd < 0 || write(fd, text, n) != (ssize_t)n || rename(temporary, path) < 0)
                return error_fail_errno(error, errno, "write %s", path);
        return true;
}

bool oci_adapt_spec(const char *binary, const char *bundle, const char *cache_dir, GError **error)
{
        g_autofree char *path = g_strdup_printf("%s/config.json", bundle), *text = NULL;
        gsize n;
        g_autoptr(GError) failed = NULL;
        if (!g_file_get_contents(path, &text, &n, &failed))
                return error_fail(error, ERROR_UNKNOWN, "read spec: %s", failed->message);
        unsigned major, minor;
        // 1.0 and older is what every runtime takes.
        if (!runtime_spec_version(text, n, &major, &minor) || major * 1000 + minor <= 1000)
                return true;
        if (major * 1000 + minor <= newest_version(binary, cache_dir))
                return true;
        g_autofree char *changed = runtime_spec_with_version(text, n, "1.0.2");
        return changed == NULL || replace_file(path, changed, error);
}
