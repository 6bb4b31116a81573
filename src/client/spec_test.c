// SPDX-License-Identifier: Apache-2.0
#include "client/event_json.h"
#include "client/spec_internal.h"

#include <stdlib.h>
#include <string.h>

#include "containerd/events.pb-c.h"

static const char *const none[] = {NULL};
static const char *const image_env[] = {"PATH=/bin", "A=image", NULL};
static const char *const entrypoint[] = {"/entry", "-x", NULL};
static const char *const cmd[] = {"cmd", NULL};
static const struct image_config image = {
        .env = image_env, .entrypoint = entrypoint, .cmd = cmd, .cwd = "/work", .user = "user", .chain_id = ""};

static char *make(const struct skiff_spec_options *options, const struct image_config *config, GError **error)
{
        struct user_ids user;
        g_assert_true(user_resolve(NULL, "1000:7", &user, NULL));
        struct spec_input input = {.name_space = "ns", .id = "id", .options = options, .image = config, .user = &user};
        char *text = spec_make(&input, error);
        user_ids_done(&user);
        return text;
}

static json_t *make_json(const struct skiff_spec_options *options, const struct image_config *config)
{
        GError *error = NULL;
        g_autofree char *text = make(options, config, &error);
        g_assert_no_error(error);
        json_t *spec = json_loads(text, 0, NULL);
        g_assert_nonnull(spec);
        return spec;
}

// The value at "process.args.0" and the like, as JSON text; "" where there is none.
static char *at(json_t *spec, const char *path)
{
        g_auto(GStrv) names = g_strsplit(path, ".", -1);
        for (size_t i = 0; names[i] != NULL; i++) {
                if (json_is_array(spec))
                        spec = json_array_get(spec, (size_t)g_ascii_strtoull(names[i], NULL, 10));
                else
                        spec = json_object_get(spec, names[i]);
        }
        char *text = spec == NULL ? NULL : json_dumps(spec, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
        char *copy = g_strdup(text != NULL ? text : "");
        free(text);
        return copy;
}

static void check_at(json_t *spec, const char *path, const char *wanted)
{
        g_autofree char *found = at(spec, path);
        g_assert_cmpstr(found, ==, wanted);
}

static void test_image(void)
{
        struct skiff_spec_options options = {0};
        json_t *spec = make_json(&options, &image);
        check_at(spec, "process.args", "[\"/entry\",\"-x\",\"cmd\"]");
        check_at(spec, "process.env", "[\"PATH=/bin\",\"A=image\"]");
        check_at(spec, "process.cwd", "\"/work\"");
        check_at(spec, "process.user", "{\"additionalGids\":[7],\"gid\":7,\"uid\":1000}");
        check_at(spec, "process.noNewPrivileges", "true");
        check_at(spec, "root", "{\"path\":\"rootfs\",\"readonly\":false}");
        check_at(spec, "linux.cgroupsPath", "\"/ns/id\"");
        check_at(spec, "linux.resources.devices.0", "{\"access\":\"rwm\",\"allow\":false}");
        check_at(spec, "linux.namespaces.4", "{\"type\":\"network\"}");
        check_at(spec, "mounts.0.destination", "\"/proc\"");
        check_at(spec, "ociVersion", "\"1.0.2\"");
        check_at(spec, "linux.seccomp", "");
        json_decref(spec);
}

static void test_options(void)
{
        static const char *const args[] = {"other", "arg", NULL};
        static const char *const env[] = {"A=mine", "B=new", "PATH", NULL};
        static const struct skiff_mount mounts[] = {{.type = "tmpfs", .destination = "/run"}};
        struct skiff_spec_options options = {
                .args = args,
                .env = env,
                .cwd = "/c",
                .terminal = true,
                .read_only = true,
                .mounts = mounts,
                .n_mounts = 1,
                .memory_bytes = INT64_C(5000000000),
                .cpus = 1.5,
                .pids = 9,
                .host_network = true,
                .hostname = "h",
        };
        json_t *spec = make_json(&options, &image);
        check_at(spec, "process.args", "[\"/entry\",\"-x\",\"other\",\"arg\"]");
        check_at(spec, "process.env", "[\"A=mine\",\"B=new\",\"TERM=xterm\"]");
        check_at(spec, "process.terminal", "true");
        check_at(spec, "root.readonly", "true");
        check_at(spec, "hostname", "\"h\"");
        check_at(spec, "linux.resources.memory", "{\"limit\":5000000000}");
        check_at(spec, "linux.resources.cpu", "{\"period\":100000,\"quota\":150000}");
        check_at(spec, "linux.resources.pids", "{\"limit\":9}");
        check_at(spec, "linux.namespaces.4", "");
        // The default mount of the same place made way.
        unsigned on_run = 0;
        size_t i;
        json_t *mount;
        json_array_foreach (json_object_get(spec, "mounts"), i, mount)
                on_run += strcmp(json_string_value(json_object_get(mount, "destination")), "/run") == 0;
        g_assert_cmpuint(on_run, ==, 1);
        json_decref(spec);

        options.entrypoint = "";
        spec = make_json(&options, &image);
        check_at(spec, "process.args", "[\"other\",\"arg\"]");
        json_decref(spec);
}

static void test_capabilities(void)
{
        static const char *const add[] = {"net_admin", "CAP_SYS_TIME", NULL}, *const drop[] = {"ALL", NULL};
        struct skiff_spec_options options = {.cap_add = add, .cap_drop = drop};
        json_t *spec = make_json(&options, &image);
        check_at(spec, "process.capabilities.bounding", "[\"CAP_NET_ADMIN\",\"CAP_SYS_TIME\"]");
        json_decref(spec);

        // "ALL" is where one starts from, whichever option it stands in.
        static const char *const all[] = {"ALL", NULL}, *const some[] = {"chown", "kill", NULL};
        struct skiff_spec_options all_but_some = {.cap_add = all, .cap_drop = some};
        spec = make_json(&all_but_some, &image);
        g_autofree char *text = json_dumps(spec, 0);
        g_assert_null(strstr(text, "CAP_CHOWN"));
        g_assert_null(strstr(text, "CAP_KILL"));
        g_assert_nonnull(strstr(text, "CAP_FOWNER"));
        json_decref(spec);

        struct skiff_spec_options privileged = {.privileged = true, .seccomp = "{}"};
        spec = make_json(&privileged, &image);
        check_at(spec, "linux.maskedPaths", "");
        check_at(spec, "linux.seccomp", "");
        check_at(spec, "linux.resources.devices", "[{\"access\":\"rwm\",\"allow\":true}]");
        check_at(spec, "process.noNewPrivileges", "false");
        json_decref(spec);
}

static void test_refusals(void)
{
        static const char *const bad_cap[] = {"FLY", NULL}, *const not_utf8[] = {"\xff", NULL};
        static const struct skiff_mount relative[] = {{.type = "bind", .source = "/a", .destination = "b"}};
        const struct skiff_spec_options bad[] = {
                {.cwd = "relative"},
                {.cap_add = bad_cap},
                {.mounts = relative, .n_mounts = 1},
                {.seccomp = "no json"},
                {.memory_bytes = -1},
                {.cpus = 0.0001},
                {.args = not_utf8},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_autoptr(GError) error = NULL;
                g_assert_null(make(&bad[i], &image, &error));
                g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        }
        static const struct image_config empty = {.env = none, .entrypoint = none, .cmd = none};
        static const struct skiff_spec_options nothing;
        g_autoptr(GError) error = NULL;
        g_assert_null(make(&nothing, &empty, &error));
        g_assert_nonnull(strstr(error->message, "no command"));
}

static void test_event_json(void)
{
        Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
        time.seconds = 1;
        Events__TaskExit exit = EVENTS__TASK_EXIT__INIT;
        exit.container_id = (char *)"c";
        exit.id = (char *)"e";
        exit.exit_status = 137;
        exit.exited_at = &time;
        uint8_t bytes[256];
        Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
        any.type_url = (char *)"containerd.events.TaskExit";
        any.value = (ProtobufCBinaryData){.data = bytes, .len = events__task_exit__pack(&exit, bytes)};
        g_autofree char *json = event_to_json(&any);
        g_assert_cmpstr(json, ==,
                "{\"container_id\":\"c\",\"id\":\"e\",\"exit_status\":137,\"exited_at\":\"1970-01-01T00:00:01Z\"}");

        Events__ContainerUpdate__LabelsEntry label = EVENTS__CONTAINER_UPDATE__LABELS_ENTRY__INIT;
        Events__ContainerUpdate__LabelsEntry *labels[] = {&label};
        label.key = (char *)"k";
        label.value = (char *)"v";
        Events__ContainerUpdate update = EVENTS__CONTAINER_UPDATE__INIT;
        update.id = (char *)"c";
        update.labels = labels;
        update.n_labels = 1;
        any.type_url = (char *)"types.example/containerd.events.ContainerUpdate";
        any.value.len = events__container_update__pack(&update, bytes);
        g_autofree char *with_map = event_to_json(&any);
        g_assert_cmpstr(with_map, ==, "{\"id\":\"c\",\"labels\":{\"k\":\"v\"}}");

        any.type_url = (char *)"of.another.Kind";
        g_autofree char *unknown = event_to_json(&any);
        g_assert_cmpstr(unknown, ==, "{}");
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/spec/image_config_and_defaults", test_image);
        g_test_add_func("/spec/options_come_over_the_image", test_options);
        g_test_add_func("/spec/capabilities_and_privileged", test_capabilities);
        g_test_add_func("/spec/bad_options_are_refused", test_refusals);
        g_test_add_func("/event/json_of_events", test_event_json);
        return g_test_run();
}
