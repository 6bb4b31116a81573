// SPDX-License-Identifier: Apache-2.0
//
// Mounts, namespaces, devices, limits and paths (runtime-spec config-linux.md). The defaults are containerd's.
#include "client/spec_internal.h"

#include <string.h>

enum { CPU_PERIOD_US = 100000 };

static const char *const masked_paths[] = {
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
        "/proc/scsi",
        NULL,
};
static const char *const read_only_paths[] = {
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
        NULL,
};

// ---- mounts

#define OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const struct skiff_mount default_mounts[] = {
        {"proc", "proc", "/proc", OPTIONS("nosuid", "noexec", "nodev")},
        {"tmpfs", "tmpfs", "/dev", OPTIONS("nosuid", "strictatime", "mode=755", "size=65536k")},
        {"devpts", "devpts", "/dev/pts",
                OPTIONS("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")},
        {"tmpfs", "shm", "/dev/shm", OPTIONS("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")},
        {"mqueue", "mqueue", "/dev/mqueue", OPTIONS("nosuid", "noexec", "nodev")},
        {"sysfs", "sysfs", "/sys", OPTIONS("nosuid", "noexec", "nodev", "ro")},
        {"tmpfs", "tmpfs", "/run", OPTIONS("nosuid", "strictatime", "mode=755", "size=65536k")},
};

static const struct skiff_mount host_network_mounts[] = {
        {"bind", "/etc/hosts", "/etc/hosts", OPTIONS("rbind", "ro")},
        {"bind", "/etc/resolv.conf", "/etc/resolv.conf", OPTIONS("rbind", "ro")},
};

static void append_mount(json_t *list, const struct skiff_mount *mount)
{
        json_array_append_new(list,
                json_pack("{s:s, s:s, s:s, s:o}", "destination", mount->destination, "type", mount->type, "source",
                        mount->source != NULL ? mount->source : mount->type, "options", spec_texts(mount->options)));
}

static bool is_replaced(const struct skiff_spec_options *options, const char *destination)
{
        for (size_t i = 0; i < options->n_mounts; i++) {
                if (strcmp(options->mounts[i].destination, destination) == 0)
                        return true;
        }
        return false;
}

// A privileged container may write to /sys.
static void append_default(json_t *list, const struct skiff_spec_options *options, const struct skiff_mount *mount)
{
        static const char *const writable[] = {"nosuid", "noexec", "nodev", "rw", NULL};
        struct skiff_mount copy = *mount;
        if (is_replaced(options, mount->destination))
                return;
        if (options->privileged && strcmp(mount->type, "sysfs") == 0)
                copy.options = writable;
        append_mount(list, &copy);
}

json_t *spec_mounts(const struct skiff_spec_options *options, GError **error)
{
        for (size_t i = 0; i < options->n_mounts; i++) {
                const struct skiff_mount *mount = &options->mounts[i];
                if (mount->destination == NULL || *mount->destination != '/') {
                        error_fail(error, ERROR_INVALID_ARGUMENT, "mount destination \"%s\" is not absolute",
                                mount->destination != NULL ? mount->destination : "");
                        return NULL;
                }
        }
        json_t *list = json_array();
        for (size_t i = 0; i < G_N_ELEMENTS(default_mounts); i++)
                append_default(list, options, &default_mounts[i]);
        for (size_t i = 0; options->host_network && i < G_N_ELEMENTS(host_network_mounts); i++)
                append_default(list, options, &host_network_mounts[i]);
        for (size_t i = 0; i < options->n_mounts; i++)
                append_mount(list, &options->mounts[i]);
        return list;
}

// ---- devices and limits

struct device {
        int major, minor; // minor -1: all of them
};
static const struct device usual_devices[] = {
        {1, 3},
        {1, 8},
        {1, 7},
        {5, 0},
        {1, 5},
        {1, 9},
        {5, 1},
        {136, -1},
        {5, 2},
}; // null, random, full, tty, zero, urandom, console, pts/*, ptmx

static json_t *device_rules(bool privileged)
{
        json_t *rules = json_array();
        json_array_append_new(rules, json_pack("{s:b, s:s}", "allow", privileged, "access", "rwm"));
        for (size_t i = 0; !privileged && i < G_N_ELEMENTS(usual_devices); i++) {
                json_t *rule = json_pack("{s:b, s:s, s:i, s:s}", "allow", 1, "type", "c", "major",
                        usual_devices[i].major, "access", "rwm");
                if (usual_devices[i].minor >= 0)
                        json_object_set_new(rule, "minor", json_integer(usual_devices[i].minor));
                json_array_append_new(rules, rule);
        }
        return rules;
}

static json_t *resources(const struct skiff_spec_options *options)
{
        json_t *object = json_pack("{s:o}", "devices", device_rules(options->privileged));
        if (options->memory_bytes > 0)
                json_object_set_new(object, "memory", json_pack("{s:I}", "limit", (json_int_t)options->memory_bytes));
        if (options->cpus > 0)
                json_object_set_new(object, "cpu",
                        json_pack("{s:I, s:i}", "quota", (json_int_t)(options->cpus * CPU_PERIOD_US), "period",
                                CPU_PERIOD_US));
        if (options->pids > 0)
                json_object_set_new(object, "pids", json_pack("{s:I}", "limit", (json_int_t)options->pids));
        return object;
}

static bool check_limits(const struct skiff_spec_options *options, GError **error)
{
        if (options->memory_bytes < 0 || options->cpus < 0 || options->cpus > 1000000 || options->pids < 0)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "a limit is negative or too large");
        if (options->cpus > 0 && options->cpus < 0.01)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "cpus must be 0.01 at least");
        return true;
}

// ---- the whole

static json_t *namespaces(const struct skiff_spec_options *options)
{
        static const char *const types[] = {"pid", "ipc", "uts", "mount", "network"};
        json_t *list = json_array();
        for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
                if (!options->host_network || strcmp(types[i], "network") != 0)
                        json_array_append_new(list, json_pack("{s:s}", "type", types[i]));
        }
        return list;
}

json_t *spec_linux(const struct spec_input *input, GError **error)
{
        const struct skiff_spec_options *options = input->options;
        if (!check_limits(options, error))
                return NULL;
        json_t *seccomp = NULL;
        if (options->seccomp != NULL && !options->privileged) {
                seccomp = json_loads(options->seccomp, 0, NULL);
                if (!json_is_object(seccomp)) {
                        json_decref(seccomp);
                        error_fail(error, ERROR_INVALID_ARGUMENT, "the seccomp profile is not a JSON object");
                        return NULL;
                }
        }
        g_autofree char *cgroup = g_strdup_printf("/%s/%s", input->name_space, input->id);
        json_t *object = json_pack("{s:o, s:s, s:o}", "resources", resources(options), "cgroupsPath", cgroup,
                "namespaces", namespaces(options));
        if (!options->privileged) {
                json_object_set_new(object, "maskedPaths", spec_texts(masked_paths));
                json_object_set_new(object, "readonlyPaths", spec_texts(read_only_paths));
        }
        if (seccomp != NULL)
                json_object_set_new(object, "seccomp", seccomp);
        return object;
}
