// SPDX-License-Identifier: Apache-2.0
//
// The shim's program is called as containerd 2.3.4 calls it: flags for old shims, environment, and BootstrapParams on
// standard input for new ones. Its start prints where the shim listens.
#include "plugins/runtime_v2/shim.h"

#include "base/fd.h"
#include "base/log.h"
#include "io/program.h"
#include "sys/sealed_program.h"
#include "sys/spawn.h"

#include "containerd/bootstrap.pb-c.h"
#include "containerd/shim_v3.pb-c.h"

#include <string.h>
#include <unistd.h>

enum { START_TIMEOUT_MS = 100 * 1000, DELETE_TIMEOUT_MS = 5 * 1000, CONNECT_TIMEOUT_MS = 10 * 1000 };

struct start {
        struct loop *loop;
        struct lanes *lanes;
        const struct bundle *bundle;
        char *binary;
        struct shim_started started;
        GError *error;
        shim_start_fn done;
        void *data;
};

struct cleanup {
        task_done_fn done;
        void *data;
};

static GPtrArray *command_line(
        const struct shim_program_options *options, const struct bundle *bundle, const char *action)
{
        GPtrArray *words = g_ptr_array_new_with_free_func(g_free);
        g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
        const char *fixed[] = {options->binary, "-namespace", bundle->namespace_, "-address", options->grpc_address,
                "-publish-binary", self != NULL ? self : "", "-id", bundle->id};
        for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++)
                g_ptr_array_add(words, g_strdup(fixed[i]));
        if (strcmp(action, "delete") == 0) {
                g_ptr_array_add(words, g_strdup("-bundle"));
                g_ptr_array_add(words, g_strdup(bundle->path));
        }
        if (log_enabled(LOG_LEVEL_DEBUG))
                g_ptr_array_add(words, g_strdup("-debug"));
        g_ptr_array_add(words, g_strdup(action));
        g_ptr_array_add(words, NULL);
        return words;
}

static char **environment_of(const struct shim_program_options *options, const struct bundle *bundle)
{
        char **environment = g_get_environ();
        environment = g_environ_setenv(environment, "GOMAXPROCS", "2", TRUE);
        environment = g_environ_setenv(environment, "MAX_SHIM_VERSION", "2", TRUE);
        environment = g_environ_setenv(environment, "TTRPC_ADDRESS", options->ttrpc_address, TRUE);
        environment = g_environ_setenv(environment, "GRPC_ADDRESS", options->grpc_address, TRUE);
        environment = g_environ_setenv(environment, "NAMESPACE", bundle->namespace_, TRUE);
        for (size_t i = 0; options->environment != NULL && options->environment[i] != NULL; i++) {
                g_auto(GStrv) pair = g_strsplit(options->environment[i], "=", 2);
                if (pair[0] != NULL && pair[1] != NULL)
                        environment = g_environ_setenv(environment, pair[0], pair[1], TRUE);
        }
        return environment;
}

static Bootstrap__LogLevel bootstrap_log_level(void)
{
        return log_enabled(LOG_LEVEL_DEBUG) ? BOOTSTRAP__LOG_LEVEL__LOG_LEVEL_DEBUG
                                            : BOOTSTRAP__LOG_LEVEL__LOG_LEVEL_INFO;
}

static GBytes *bootstrap_params(
        const struct shim_program_options *options, const struct bundle *bundle, const struct any *task_options)
{
        g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
        Bootstrap__BootstrapParams params = BOOTSTRAP__BOOTSTRAP_PARAMS__INIT;
        params.instance_id = bundle->id;
        params.namespace_ = bundle->namespace_;
        params.log_level = bootstrap_log_level();
        params.containerd_version = (char *)"v" CONTAINERD_API_VERSION;
        params.containerd_ttrpc_address = (char *)options->ttrpc_address;
        params.containerd_grpc_address = (char *)options->grpc_address;
        params.containerd_binary = self != NULL ? self : (char *)"";
        Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
        Bootstrap__Extension extension = BOOTSTRAP__EXTENSION__INIT;
        Bootstrap__Extension *extensions[] = {&extension};
        if (task_options->type_url != NULL && *task_options->type_url != 0) {
                any.type_url = (char *)task_options->type_url;
                any.value = (ProtobufCBinaryData){task_options->n_value, (uint8_t *)task_options->value};
                extension.value = &any;
                params.extensions = extensions;
                params.n_extensions = 1;
        }
        if (*options->socket_dir != 0) {
                params._socket_dir_case = BOOTSTRAP__BOOTSTRAP_PARAMS___SOCKET_DIR_SOCKET_DIR;
                params.socket_dir = (char *)options->socket_dir;
        }
        size_t size = bootstrap__bootstrap_params__get_packed_size(&params);
        uint8_t *packed = g_malloc(size + 1);
        bootstrap__bootstrap_params__pack(&params, packed);
        return g_bytes_new_take(packed, size);
}

static void run_action(const struct shim_program_options *options, const struct bundle *bundle, const char *action,
        GBytes *input, program_fn done, void *data)
{
        bool start = strcmp(action, "start") == 0;
        g_autoptr(GPtrArray) words = command_line(options, bundle, action);
        g_auto(GStrv) environment = environment_of(options, bundle);
        g_autofree char *identity = NULL;
        fd_auto int copy = start && options->copy != NULL ? runtime_copy_open(options->copy, &identity) : -1;
        if (copy >= 0)
                environment = g_environ_setenv(environment, SEALED_PROGRAM_VARIABLE, identity, TRUE);
        struct spawn_fd fds[] = {{copy, SEALED_PROGRAM_FD}};
        struct spawn_options spawn_options = {
                .path = options->binary,
                .argv = (const char *const *)words->pdata,
                .fds = fds,
                .n_fds = copy >= 0 ? 1 : 0,
                .environ = (const char *const *)environment,
                .cwd = bundle->path,
                .new_process_group = true,
        };
        program_run(options->loop, &spawn_options, input, start ? START_TIMEOUT_MS : DELETE_TIMEOUT_MS, done, data);
}

static GError *program_error(const struct program_result *result)
{
        GError *error = NULL;
        g_autoptr(GString) text = g_string_new(NULL);
        g_string_append_len(text, g_bytes_get_data(result->out, NULL), (gssize)g_bytes_get_size(result->out));
        g_string_append_len(text, g_bytes_get_data(result->err, NULL), (gssize)g_bytes_get_size(result->err));
        g_autofree char *valid = g_utf8_make_valid(g_strstrip(text->str), -1);
        error_fail(&error, ERROR_UNKNOWN, "%s: exit status %d", valid, child_exit_code(result->status));
        return error;
}

static void start_finish(void *data)
{
        struct start *start = data;
        start->done(start->data, start->error == NULL ? &start->started : NULL, start->error);
        if (start->started.fd >= 0)
                close(start->started.fd);
        bundle_address_done(&start->started.address);
        g_clear_error(&start->error);
        g_free(start->binary);
        g_free(start);
}

static void start_connect(void *data)
{
        struct start *start = data;
        if (bundle_save_shim(start->bundle, start->binary, &start->started.address, &start->error))
                start->started.fd = rpc_connect_unix(start->started.address.address, CONNECT_TIMEOUT_MS, &start->error);
        loop_post(start->loop, start_finish, start);
}

static void on_start_end(void *data, const struct program_result *result, const GError *error)
{
        struct start *start = data;
        gsize n_bytes = 0;
        const void *bytes = result != NULL ? g_bytes_get_data(result->out, &n_bytes) : NULL;
        if (error != NULL)
                start->error = g_error_copy(error);
        else if (result->status != 0)
                start->error = program_error(result);
        else if (bundle_parse_address(bytes, n_bytes, &start->started.address, &start->error)) {
                lanes_submit(start->lanes, LANE_SLOW, start_connect, start);
                return;
        }
        start_finish(start);
}

void shim_start(const struct shim_program_options *options, const struct bundle *bundle, const struct any *task_options,
        struct lanes *lanes, shim_start_fn done, void *data)
{
        struct start *start = g_new0(struct start, 1);
        start->loop = options->loop;
        start->lanes = lanes;
        start->bundle = bundle;
        start->binary = g_strdup(options->binary);
        start->started.fd = -1;
        start->done = done;
        start->data = data;
        g_autoptr(GBytes) input = bootstrap_params(options, bundle, task_options);
        run_action(options, bundle, "start", input, on_start_end, start);
}

static void on_delete_end(void *data, const struct program_result *result, const GError *error)
{
        struct cleanup *cleanup = data;
        g_autoptr(GError) failed = error != NULL ? g_error_copy(error) : NULL;
        ShimV3__DeleteResponse *response = NULL;
        if (failed == NULL && result->status != 0) {
                failed = program_error(result);
        } else if (failed == NULL) {
                gsize n_bytes;
                const void *bytes = g_bytes_get_data(result->out, &n_bytes);
                response = shim_v3__delete_response__unpack(NULL, n_bytes, bytes);
                if (response == NULL)
                        error_fail(&failed, ERROR_UNKNOWN, "shim delete printed no DeleteResponse");
        }
        cleanup->done(cleanup->data, response != NULL ? &response->base : NULL, failed);
        shim_v3__delete_response__free_unpacked(response, NULL);
        g_free(cleanup);
}

void shim_delete(const struct shim_program_options *options, const struct bundle *bundle, task_done_fn done, void *data)
{
        struct cleanup *cleanup = g_new(struct cleanup, 1);
        *cleanup = (struct cleanup){done, data};
        run_action(options, bundle, "delete", NULL, on_delete_end, cleanup);
}
