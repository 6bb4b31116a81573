// SPDX-License-Identifier: Apache-2.0
//
// `start` makes the socket, hands it to a new process of this program, and answers: the daemon can connect at once. One
// shim serves all containers of a group, so the socket's name is made of the group: whoever finds it taken and
// answering just names it. An Any and a BootstrapParams are the same bytes to a parser; the instance id tells them
// apart.
#include "shim/bootstrap.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "codec/json_scan.h"
#include "containerd/bootstrap.pb-c.h"
#include "containerd/shim_v3.pb-c.h"
#include "containerd/types.pb-c.h"
#include "rpc/client.h"
#include "shim/group.h"
#include "shim/oci.h"
#include "shim/oci_choice.h"
#include "shim/options.h"
#include "shim/server.h"
#include "sys/cgroup.h"
#include "sys/mounts.h"
#include "sys/sealed_program.h"
#include "sys/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum {
        INPUT_LIMIT_BYTES = 10 * 1024 * 1024,
        BACKLOG = 128,
        RUNTIME_TIMEOUT_MS = 60000,
        OUTPUT_LIMIT_BYTES = 16 * 1024,
        KILLED = 128 + SIGKILL
};

struct start {
        const struct shim_flags *flags;
        GByteArray *input;
        Bootstrap__BootstrapParams *params; // NULL: an older daemon
        Runc__Options *options;
        char *address, *path;
        int fd; // -1: another process listens
};

static void start_done(struct start *start)
{
        if (start->input != NULL)
                g_byte_array_unref(start->input);
        if (start->params != NULL)
                bootstrap__bootstrap_params__free_unpacked(start->params, NULL);
        if (start->options != NULL)
                runc__options__free_unpacked(start->options, NULL);
        g_free(start->address);
        g_free(start->path);
        fd_close(&start->fd);
}

static bool read_input(GByteArray **ret_input, GError **error)
{
        g_autoptr(GByteArray) input = g_byte_array_new();
        uint8_t buffer[4096];
        ssize_t n;
        while ((n = read(STDIN_FILENO, buffer, sizeof buffer)) != 0) {
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_fail_errno(error, errno, "failed to read stdin");
                g_byte_array_append(input, buffer, (guint)n);
                if (input->len > INPUT_LIMIT_BYTES)
                        return error_fail(error, ERROR_RESOURCE_EXHAUSTED, "too much on stdin");
        }
        *ret_input = g_steal_pointer(&input);
        return true;
}

static bool write_answer(const ProtobufCMessage *message, GError **error)
{
        size_t n = protobuf_c_message_get_packed_size(message);
        g_autofree uint8_t *bytes = g_malloc(n + 1);
        protobuf_c_message_pack(message, bytes);
        if (n > 0 && write(STDOUT_FILENO, bytes, n) != (ssize_t)n)
                return error_fail_errno(error, errno, "write answer");
        return true;
}

// ---- what the daemon says

static const Google__Protobuf__Any *find_options(const Bootstrap__BootstrapParams *params)
{
        for (size_t i = 0; i < params->n_extensions; i++) {
                if (any_is(params->extensions[i]->value, &runc__options__descriptor))
                        return params->extensions[i]->value;
        }
        return NULL;
}

static bool understand(struct start *start, GError **error)
{
        Bootstrap__BootstrapParams *params =
                start->input->len > 0 ? bootstrap__bootstrap_params__unpack(NULL, start->input->len, start->input->data)
                                      : NULL;
        if (params != NULL && strcmp(params->instance_id, start->flags->id) == 0) {
                start->params = params;
                start->options = options_from_any(find_options(params), error);
                if (*params->containerd_ttrpc_address != '\0')
                        g_setenv("TTRPC_ADDRESS", params->containerd_ttrpc_address, true);
                return start->options != NULL;
        }
        if (params != NULL)
                bootstrap__bootstrap_params__free_unpacked(params, NULL);
        Google__Protobuf__Any *any = google__protobuf__any__unpack(NULL, start->input->len, start->input->data);
        start->options = options_from_any(any, error);
        if (any != NULL)
                google__protobuf__any__free_unpacked(any, NULL);
        return start->options != NULL;
}

static const char *grpc_address(const struct start *start)
{
        if (start->params != NULL && *start->params->containerd_grpc_address != '\0')
                return start->params->containerd_grpc_address;
        if (start->flags->address != NULL)
                return start->flags->address;
        const char *address = g_getenv("GRPC_ADDRESS");
        return address != NULL ? address : "";
}

static bool wants_debug(const struct start *start)
{
        return start->flags->debug ||
               (start->params != NULL && start->params->log_level <= BOOTSTRAP__LOG_LEVEL__LOG_LEVEL_DEBUG);
}

// ---- the socket

// Named after the group. A directory of the daemon's choice is left in the bundle as the link "s".
static bool name_socket(struct start *start, GError **error)
{
        const char *directory = NULL;
        if (start->params != NULL && start->params->socket_dir != NULL && *start->params->socket_dir != '\0')
                directory = start->params->socket_dir;
        unlink("s");
        if (directory != NULL && symlink(directory, "s") < 0)
                return error_fail_errno(error, errno, "failed to write socket-dir");
        struct group_member member = {
                .bundle = ".",
                .id = start->flags->id,
                .namespace_ = start->flags->namespace_,
                .address = grpc_address(start),
        };
        start->path = group_socket_path(&member, directory, error);
        if (start->path == NULL)
                return false;
        start->address = g_strdup_printf("unix://%s", start->path);
        return true;
}

static int bind_socket(const struct start *start)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        if (strlen(start->path) >= sizeof address.sun_path) {
                errno = ENAMETOOLONG;
                return -1;
        }
        memcpy(address.sun_path, start->path, strlen(start->path));
        fd_auto int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
                return -1;
        // In this order nobody can connect to it before it is ours alone.
        if (chmod(start->path, 0600) < 0 || listen(fd, BACKLOG) < 0) {
                unlink(start->path);
                return -1;
        }
        return fd_take(&fd);
}

static bool open_socket(struct start *start, GError **error)
{
        g_autofree char *directory = g_path_get_dirname(start->path);
        if (g_mkdir_with_parents(directory, 0700) < 0)
                return error_fail_errno(error, errno, "mkdir failed for %s", start->path);
        start->fd = bind_socket(start);
        if (start->fd < 0 && errno == EADDRINUSE) {
                fd_auto int probe = rpc_connect_unix(start->address, GROUP_PROBE_TIMEOUT_MS, NULL);
                if (probe >= 0)
                        return true; // the group's shim is there
                unlink(start->path); // left by one that is dead
                start->fd = bind_socket(start);
        }
        return start->fd >= 0 || error_fail_errno(error, errno, "create new shim socket %s", start->path);
}

// ---- the process

// One more than the daemon's, so that memory is taken from the shim before it. Without the right to lower it, what the
// kernel gives a child is good enough.
static void adjust_oom_score(pid_t pid)
{
        g_autofree char *parent = g_strdup_printf("/proc/%d/oom_score_adj", (int)getppid());
        g_autofree char *child = g_strdup_printf("/proc/%d/oom_score_adj", (int)pid), *text = NULL;
        if (!g_file_get_contents(parent, &text, NULL, NULL))
                return;
        int score = MIN(atoi(text) + 1, 1000);
        fd_auto int fd = open(child, O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
                dprintf(fd, "%d", score);
}

static void share_core(void)
{
#ifdef PR_SCHED_CORE
        const char *wanted = g_getenv("SCHED_CORE");
        if (wanted != NULL && *wanted != '\0')
                prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE_PROCESS_GROUP, 0);
#endif
}

static bool start_server(const struct start *start, GError **error)
{
        const struct shim_flags *flags = start->flags;
        g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
        if (self == NULL)
                return error_fail(error, ERROR_UNKNOWN, "read /proc/self/exe");
        const char *argv[] = {self, "-namespace", flags->namespace_, "-id", flags->id, "-address", grpc_address(start),
                wants_debug(start) ? "-debug" : NULL, NULL};
        struct spawn_fd fds[] = {{start->fd, SERVER_SOCKET_FD}, {SEALED_PROGRAM_FD, SEALED_PROGRAM_FD}};
        struct spawn_options options = {
                .path = self,
                .argv = argv,
                .fds = fds,
                .n_fds = g_getenv(SEALED_PROGRAM_VARIABLE) != NULL ? 2 : 1,
                .new_process_group = true,
        };
        share_core();
        g_setenv("GLIBC_TUNABLES", SERVER_TUNABLES, false); // an administrator's own come first
        struct child child;
        if (!spawn(&options, &child, error))
                return false;
        const char *cgroup = start->options->shim_cgroup;
        if (*cgroup != '\0' && !cgroup_join(cgroup, child.pid, error)) {
                child_kill(&child, SIGKILL);
                g_prefix_error(error, "failed to join cgroup %s: ", cgroup);
                return false;
        }
        adjust_oom_score(child.pid);
        fd_close(&child.pidfd);
        return true;
}

// ---- the answer

static bool answer(const struct start *start, GError **error)
{
        const char *newest = g_getenv("MAX_SHIM_VERSION");
        if (start->params != NULL) {
                Bootstrap__BootstrapResult result = BOOTSTRAP__BOOTSTRAP_RESULT__INIT;
                result.version = 3;
                result.address = start->address;
                result.protocol = (char *)"ttrpc";
                return write_answer(&result.base, error);
        }
        g_autoptr(GString) text = g_string_new(NULL);
        if (newest != NULL && atoi(newest) >= 2) {
                g_string_append_printf(text, "{\"version\":%d,\"address\":", MIN(atoi(newest), 3));
                json_append_string(text, start->address);
                g_string_append(text, ",\"protocol\":\"ttrpc\"}");
        } else {
                // The oldest form of daemon finds its shims again by this file.
                if (!g_file_set_contents("address", start->address, -1, NULL))
                        return error_fail_errno(error, errno, "write address");
                g_string_append(text, start->address);
        }
        if (write(STDOUT_FILENO, text->str, text->len) != (ssize_t)text->len)
                return error_fail_errno(error, errno, "write answer");
        return true;
}

bool bootstrap_start(const struct shim_flags *flags, GError **error)
{
        __attribute__((cleanup(start_done))) struct start start = {.flags = flags, .fd = -1};
        if (!read_input(&start.input, error) || !understand(&start, error) || !name_socket(&start, error) ||
                !open_socket(&start, error))
                return false;
        bool made = start.fd >= 0;
        if ((!made || start_server(&start, error)) && answer(&start, error))
                return true;
        if (made)
                unlink(start.path);
        return false;
}

// ---- delete

static char *read_file_of(const char *bundle, const char *name)
{
        g_autofree char *path = g_build_filename(bundle, name, NULL);
        char *text = NULL;
        return g_file_get_contents(path, &text, NULL, NULL) ? text : NULL;
}

static void delete_by_runtime(const struct shim_flags *flags, const char *bundle)
{
        g_autofree char *runtime = read_file_of(bundle, "runtime");
        g_autofree char *json = read_file_of(bundle, "options.json"), *reason = NULL;
        struct options_kept options;
        options_from_json(json, &options);
        g_autofree char *given = options.root, *root = options_runtime_root(given, flags->namespace_);
        if (runtime == NULL || *runtime == '\0') {
                g_free(runtime);
                runtime = oci_choose(&reason);
        }
        g_autofree char *log = g_build_filename(bundle, "log.json", NULL);
        const char *argv[] = {
                runtime, "--root", root, "--log", log, "--log-format", "json", "delete", "--force", flags->id, NULL};
        const char *systemd_argv[] = {runtime, "--root", root, "--log", log, "--log-format", "json", "--systemd-cgroup",
                "delete", "--force", flags->id, NULL};
        struct spawn_options spawn_options = {.path = runtime, .argv = options.systemd_cgroup ? systemd_argv : argv};
        struct spawn_output output;
        g_autoptr(GError) error = NULL;
        if (!spawn_collect(&spawn_options, OUTPUT_LIMIT_BYTES, RUNTIME_TIMEOUT_MS, &output, &error)) {
                fprintf(stderr, "failed to remove container: %s\n", error->message);
                return;
        }
        if (output.status != 0)
                fprintf(stderr, "failed to remove container: %s%s\n", output.out->str, output.err->str);
        spawn_output_done(&output);
}

bool bootstrap_delete(const struct shim_flags *flags, GError **error)
{
        g_autofree char *cwd = g_get_current_dir(), *parent = g_path_get_dirname(cwd);
        // The dead shim may have served a group: the bundle is the container's, not the working directory.
        g_autofree char *bundle =
                flags->bundle != NULL ? g_strdup(flags->bundle) : g_build_filename(parent, flags->id, NULL);
        g_autofree char *rootfs = g_build_filename(bundle, "rootfs", NULL);
        g_autofree char *pid_file = g_build_filename(bundle, "init.pid", NULL);
        g_autoptr(GError) failed = NULL;
        pid_t pid = 0;
        AUTO(cgroup) cgroup = oci_read_pid(pid_file, &pid, NULL) ? cgroup_of_process(pid, NULL) : NULL;
        delete_by_runtime(flags, bundle);
        if (cgroup != NULL)
                cgroup_remove(cgroup);
        struct group_member member = {
                .bundle = bundle,
                .id = flags->id,
                .namespace_ = flags->namespace_,
                .address = flags->address != NULL ? flags->address : "",
        };
        g_autofree char *socket_path = group_socket_path(&member, NULL, NULL);
        if (socket_path != NULL)
                group_remove_dead_socket(socket_path);
        if (!unmount_below(rootfs, &failed))
                fprintf(stderr, "failed to cleanup rootfs mount: %s\n", failed->message);
        int64_t now_ns = clock_now_ns();
        Google__Protobuf__Timestamp exited_at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
        clock_split(now_ns, &exited_at.seconds, &exited_at.nanos);
        ShimV3__DeleteResponse response = SHIM_V3__DELETE_RESPONSE__INIT;
        response.pid = (uint32_t)pid;
        response.exit_status = KILLED;
        response.exited_at = &exited_at;
        return write_answer(&response.base, error);
}

// ---- info

bool bootstrap_info(GError **error)
{
        g_autoptr(GByteArray) input = NULL;
        if (!read_input(&input, error))
                return false;
        Google__Protobuf__Any *any =
                input->len > 0 ? google__protobuf__any__unpack(NULL, input->len, input->data) : NULL;
        Runc__Options *options = options_from_any(any, error);
        if (options == NULL)
                return false;
        g_autofree char *reason = NULL;
        g_autofree char *binary = *options->binary_name != '\0' ? g_strdup(options->binary_name) : oci_choose(&reason);
        g_autofree char *found = g_find_program_in_path(binary);
        if (found == NULL)
                return error_fail(error, ERROR_NOT_FOUND,
                        "failed to look up the path of \"%s\": executable file not found in $PATH", binary);
        Types__RuntimeVersion version = TYPES__RUNTIME_VERSION__INIT;
        version.version = (char *)SKIFF_VERSION;
        Types__RuntimeInfo info = TYPES__RUNTIME_INFO__INIT;
        info.name = (char *)"io.containerd.skiff.v2";
        info.version = &version;
        info.options = any_is(any, &runc__options__descriptor) ? any : NULL;
        // What the OCI runtime says of itself, where it does; crun 1.8 does not.
        Google__Protobuf__Any features = GOOGLE__PROTOBUF__ANY__INIT;
        struct spawn_output output = {0};
        const char *argv[] = {found, "features", NULL};
        struct spawn_options spawn_options = {.path = found, .argv = argv};
        if (spawn_collect(&spawn_options, INPUT_LIMIT_BYTES, RUNTIME_TIMEOUT_MS, &output, NULL) && output.status == 0) {
                features.type_url = (char *)"types.containerd.io/opencontainers/runtime-spec/1/features/Features";
                features.value = (ProtobufCBinaryData){output.out->len, (uint8_t *)output.out->str};
                info.features = &features;
        }
        bool written = write_answer(&info.base, error);
        spawn_output_done(&output);
        runc__options__free_unpacked(options, NULL);
        if (any != NULL)
                google__protobuf__any__free_unpacked(any, NULL);
        return written;
}
