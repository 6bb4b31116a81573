// SPDX-License-Identifier: Apache-2.0
//
// containerd.services.introspection.v1.Introspection: what runs here. The server's UUID is made once per root
// directory.
#include "base/filter.h"
#include "base/identifier.h"
#include "codec/platform.h"
#include "containerd/introspection.pb-c.h"
#include "core/convert.h"
#include "rpc/server.h"
#include "services/service.h"
#include "services/services.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct introspection {
        struct plugin_service service;
        struct plugin_host *host;
        char *uuid;
};

static char **strings_of(struct arena *arena, const char *const *strings, size_t *ret_n)
{
        size_t n = 0;
        while (strings != NULL && strings[n] != NULL)
                n++;
        char **list = arena_array(arena, char *, n);
        for (size_t i = 0; i < n; i++)
                list[i] = (char *)strings[i];
        *ret_n = n;
        return list;
}

static void add_requirements(struct arena *arena, const struct plugin *plugin, Introspection__Plugin *message)
{
        const struct plugin_requirement *needed = plugin->requires_;
        size_t n = 0;
        while (needed != NULL && needed[n].type != NULL)
                n++;
        message->requires = arena_array(arena, char *, n);
        for (size_t i = 0; i < n; i++) {
                bool seen = false; // the API names types, not single plugins
                for (size_t k = 0; k < message->n_requires && !seen; k++)
                        seen = strcmp(message->requires[k], needed[i].type) == 0;
                if (!seen)
                message->requires[message->n_requires++] = (char *)needed[i].type;
        }
}

static void add_exports(struct arena *arena, const char *const *exports, Introspection__Plugin *message)
{
        size_t n = 0;
        while (exports != NULL && exports[2 * n] != NULL)
                n++;
        message->n_exports = n;
        message->exports = arena_array(arena, Introspection__Plugin__ExportsEntry *, n);
        for (size_t i = 0; i < n; i++) {
                message->exports[i] = arena_new0(arena, Introspection__Plugin__ExportsEntry);
                introspection__plugin__exports_entry__init(message->exports[i]);
                message->exports[i]->key = (char *)exports[2 * i];
                message->exports[i]->value = (char *)exports[2 * i + 1];
        }
}

static void add_host_platform(struct arena *arena, Introspection__Plugin *message)
{
        struct platform host = platform_host();
        Types__Platform *platform = arena_new0(arena, Types__Platform);
        types__platform__init(platform);
        platform->os = (char *)host.os;
        platform->architecture = (char *)host.architecture;
        platform->variant = (char *)host.variant;
        message->n_platforms = 1;
        message->platforms = arena_new0(arena, Types__Platform *);
        message->platforms[0] = platform;
}

static Introspection__Plugin *describe(struct arena *arena, struct plugin_status status)
{
        const struct plugin *plugin = status.plugin;
        Introspection__Plugin *message = arena_new0(arena, Introspection__Plugin);
        introspection__plugin__init(message);
        message->type = (char *)plugin->type;
        message->id = (char *)plugin->id;
        add_requirements(arena, plugin, message);
        add_exports(arena, status.exports, message);
        message->capabilities = strings_of(arena, status.capabilities, &message->n_capabilities);
        if (plugin->platforms)
                add_host_platform(arena, message);
        if (status.error != NULL) {
                message->init_err = arena_new0(arena, GoogleRpc__Status);
                google_rpc__status__init(message->init_err);
                message->init_err->code = (int32_t)error_class(status.error);
                // ctr tells a plugin that was skipped by these words.
                message->init_err->message = error_is(status.error, ERROR_UNIMPLEMENTED) &&
                                                             strstr(status.error->message, "skip plugin") == NULL
                                                     ? arena_printf(arena, "%s: skip plugin", status.error->message)
                                                     : arena_strdup(arena, status.error->message);
        }
        return message;
}

static const char *plugin_field(void *object, const char *const *path, size_t n, bool *ret_present)
{
        const Introspection__Plugin *plugin = object;
        const char *value = NULL;
        if (n > 0 && strcmp(path[0], "type") == 0)
                value = plugin->type;
        else if (n > 0 && strcmp(path[0], "id") == 0)
                value = plugin->id;
        *ret_present = value != NULL && *value != 0;
        return value;
}

static void on_plugins(struct rpc_call *call, void *object)
{
        struct introspection *introspection = object;
        const Introspection__PluginsRequest *request = (const Introspection__PluginsRequest *)rpc_call_request(call);
        GError *error = NULL;
        AUTO(filter) filter = filter_parse(request->filters, request->n_filters, &error);
        if (filter == NULL) {
                rpc_call_fail(call, error);
                return;
        }
        struct arena *arena = rpc_call_arena(call);
        Introspection__PluginsResponse response = INTROSPECTION__PLUGINS_RESPONSE__INIT;
        size_t n = plugin_host_count(introspection->host);
        response.plugins = arena_array(arena, Introspection__Plugin *, n);
        for (size_t i = 0; i < n; i++) {
                Introspection__Plugin *plugin = describe(arena, plugin_host_status(introspection->host, i));
                if (filter_match(filter, plugin_field, plugin))
                        response.plugins[response.n_plugins++] = plugin;
        }
        rpc_call_reply(call, &response.base);
}

static void on_server(struct rpc_call *call, void *object)
{
        const struct introspection *introspection = object;
        Introspection__ServerResponse response = INTROSPECTION__SERVER_RESPONSE__INIT;
        struct stat pid_namespace;
        if (stat("/proc/self/ns/pid", &pid_namespace) < 0) {
                GError *error = NULL;
                error_fail_errno(&error, errno, "stat /proc/self/ns/pid");
                rpc_call_fail(call, error);
                return;
        }
        response.uuid = introspection->uuid;
        response.pid = (uint64_t)getpid();
        response.pidns = pid_namespace.st_ino;
        rpc_call_reply(call, &response.base);
}

static bool find_plugin(
        struct introspection *introspection, const char *type, const char *id, struct plugin_status *ret_status)
{
        size_t n = plugin_host_count(introspection->host);
        for (size_t i = 0; i < n; i++) {
                struct plugin_status status = plugin_host_status(introspection->host, i);
                if (strcmp(status.plugin->type, type) == 0 && strcmp(status.plugin->id, id) == 0) {
                        *ret_status = status;
                        return true;
                }
        }
        return false;
}

struct asking {
        struct rpc_call *call;
        struct plugin_status status;
};

static void on_info(void *data, const ProtobufCMessage *info, const GError *error)
{
        g_autofree struct asking *asking = data;
        if (error != NULL) {
                rpc_call_fail(asking->call, g_error_copy(error));
                return;
        }
        struct arena *arena = rpc_call_arena(asking->call);
        Google__Protobuf__Any extra = GOOGLE__PROTOBUF__ANY__INIT;
        extra.type_url = (char *)info->descriptor->name;
        extra.value.len = protobuf_c_message_get_packed_size(info);
        extra.value.data = arena_array(arena, uint8_t, extra.value.len);
        protobuf_c_message_pack(info, extra.value.data);
        Introspection__PluginInfoResponse response = INTROSPECTION__PLUGIN_INFO_RESPONSE__INIT;
        response.plugin = describe(arena, asking->status);
        response.extra = &extra;
        rpc_call_reply(asking->call, &response.base);
}

static void on_plugin_info(struct rpc_call *call, void *object)
{
        struct introspection *introspection = object;
        const Introspection__PluginInfoRequest *request =
                (const Introspection__PluginInfoRequest *)rpc_call_request(call);
        GError *error = NULL;
        struct plugin_status status;
        if (!find_plugin(introspection, request->type, request->id, &status))
                error_fail(&error, ERROR_NOT_FOUND, "plugin %s.%s not found: not found", request->type, request->id);
        else if (request->options != NULL && status.instance == NULL)
                error_fail(&error, ERROR_FAILED_PRECONDITION,
                        "cannot get extra info, plugin not successfully loaded: failed precondition");
        else if (request->options != NULL && status.plugin->info == NULL)
                error_fail(&error, ERROR_UNIMPLEMENTED, "plugin does not provided extra information: not implemented");
        if (error != NULL) {
                rpc_call_fail(call, error);
        } else if (request->options != NULL) {
                struct asking *asking = g_new(struct asking, 1);
                *asking = (struct asking){call, status};
                struct any question = any_from_proto(request->options);
                status.plugin->info(status.instance, &question, on_info, asking);
        } else {
                Introspection__PluginInfoResponse response = INTROSPECTION__PLUGIN_INFO_RESPONSE__INIT;
                response.plugin = describe(rpc_call_arena(call), status);
                rpc_call_reply(call, &response.base);
        }
}

static const struct rpc_method methods[] = {
        RPC_METHOD_UNARY("Plugins", LANE_FAST, introspection__plugins_request, introspection__plugins_response,
                on_plugins, .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("Server", LANE_FAST, google__protobuf__empty, introspection__server_response, on_server,
                .limit_ms = SERVICE_LIMIT_RECORD_MS),
        RPC_METHOD_UNARY("PluginInfo", LANE_FAST, introspection__plugin_info_request,
                introspection__plugin_info_response, on_plugin_info, .limit_ms = SERVICE_LIMIT_RUNTIME_MS),
};

static const struct rpc_service service = {
        .name = "containerd.services.introspection.v1.Introspection",
        .methods = methods,
        .n_methods = G_N_ELEMENTS(methods),
};

static char *load_uuid(struct plugin_host *host, GError **error)
{
        g_autofree char *path = g_build_filename(plugin_host_root_dir(host), "uuid", NULL);
        g_autofree char *text = NULL;
        if (g_file_get_contents(path, &text, NULL, NULL) && g_uuid_string_is_valid(g_strstrip(text)))
                return g_steal_pointer(&text);
        g_autofree char *uuid = identifier_random_uuid();
        g_autoptr(GError) failed = NULL;
        if (!g_file_set_contents_full(
                    path, uuid, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600, &failed)) {
                error_fail(error, ERROR_UNKNOWN, "store the server's UUID: %s", failed->message);
                return NULL;
        }
        return g_steal_pointer(&uuid);
}

static void *init(struct plugin_host *host, GError **error)
{
        g_autofree char *uuid = load_uuid(host, error);
        if (uuid == NULL)
                return NULL;
        struct introspection *introspection = g_new0(struct introspection, 1);
        introspection->service = (struct plugin_service){&service, introspection, RPC_GRPC};
        introspection->host = host;
        introspection->uuid = g_steal_pointer(&uuid);
        return &introspection->service;
}

static void stop(void *instance)
{
        struct introspection *introspection = instance; // its first member is the service
        g_free(introspection->uuid);
        g_free(introspection);
}

const struct plugin introspection_service_plugin = {
        .type = PLUGIN_GRPC, .id = "introspection", .init = init, .stop = stop};
