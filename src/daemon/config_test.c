// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "daemon/config.h"
#include "daemon/plugin_set.h"
#include "io/lanes.h"
#include "io/loop.h"

#include <glib/gstdio.h>
#include <string.h>

struct fixture {
        char *dir;
        GPtrArray *files;
};

static void set_up(struct fixture *f, const void *unused)
{
        f->dir = g_dir_make_tmp("skiff-config-XXXXXX", NULL);
        f->files = g_ptr_array_new_with_free_func(g_free);
}

static void tear_down(struct fixture *f, const void *unused)
{
        for (guint i = 0; i < f->files->len; i++)
                g_unlink(f->files->pdata[i]);
        g_ptr_array_unref(f->files);
        g_rmdir(f->dir);
        g_free(f->dir);
}

static const char *write_file(struct fixture *f, const char *name, const char *text)
{
        char *path = g_build_filename(f->dir, name, NULL);
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
        g_ptr_array_add(f->files, path);
        return path;
}

static struct config *load(const char *path)
{
        struct config *config = config_new();
        g_autoptr(GError) error = NULL;
        g_assert_true(config_load(config, path, &error));
        g_assert_no_error(error);
        return config;
}

static void version_3_sockets_become_plugins(struct fixture *f, const void *unused)
{
        const char *path = write_file(f, "v3.toml",
                "version = 3\nroot = '/r'\n[grpc]\naddress = '/run/x.sock'\nuid = 7\n[debug]\nlevel = 'debug'\n");
        AUTO(config) config = load(path);
        g_assert_cmpstr(config_string(config, "root"), ==, "/r");
        g_assert_cmpstr(config_plugin_string(config, "io.containerd.server.v1.grpc", "address"), ==, "/run/x.sock");
        g_assert_cmpstr(config_string(config, "debug.level"), ==, "debug");
}

static void imports_are_merged(struct fixture *f, const void *unused)
{
        write_file(f, "10-a.toml", "version = 2\ndisabled_plugins = ['a']\n[plugins.'x.y']\nk = 1\n");
        write_file(f, "20-b.toml", "version = 2\ndisabled_plugins = ['b']\n[plugins.'x.y']\nm = 2\n");
        AUTO(config) config = load(write_file(f, "main.toml", "version = 2\nimports = ['*-?.toml']\n"));
        g_assert_true(config_list_has(config, "disabled_plugins", "a"));
        g_assert_true(config_list_has(config, "disabled_plugins", "b"));
        g_assert_cmpint(json_object_size(config_plugin(config, "x", "y")), ==, 2);
}

static void a_circle_of_imports_ends(struct fixture *f, const void *unused)
{
        const char *path = write_file(f, "self.toml", "version = 2\nimports = ['self.toml']\n");
        AUTO(config) config = config_new();
        g_autoptr(GError) error = NULL;
        g_assert_false(config_load(config, path, &error));
        g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
}

static void wrong_types_are_refused(struct fixture *f, const void *unused)
{
        static const struct {
                const char *text, *error;
        } cases[] = {
                {"root = 3\n", "root must be a string, not a number"},
                {"disabled_plugins = 'x'\n", "disabled_plugins must be a list, not a string"},
                {"oom_score = 'high'\n", "oom_score must be a number, not a string"},
                {"[debug]\nlevel = true\n", "debug.level must be a string, not true or false"},
                {"debug = 'x'\n", "debug must be a table, not a string"},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *text = g_strconcat("version = 4\n", cases[i].text, NULL);
                const char *path = write_file(f, "types.toml", text);
                AUTO(config) config = config_new();
                g_autoptr(GError) error = NULL;
                g_assert_false(config_load(config, path, &error));
                g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
                g_assert_true(g_str_has_suffix(error->message, cases[i].error));
        }
}

static void unknown_keys_are_named(struct fixture *f, const void *unused)
{
        if (g_test_subprocess()) {
                AUTO(config) config = load(write_file(f, "keys.toml",
                        "version = 4\ntemp = ''\nrooot = '/r'\n[cgroup]\npath = ''\n[debug]\nlevle = 'info'\n"
                        "[plugins.'t.empty']\n[plugins.'t.nothing']\nname = 'x'\n"));
                const struct plugin *const plugins[] = {NULL};
                config_warn_of_unknown_plugins(config, plugins);
                return;
        }
        g_test_trap_subprocess(NULL, 0, 0);
        g_test_trap_assert_passed();
        g_test_trap_assert_stderr("*key=rooot*");
        g_test_trap_assert_stderr("*key=debug.levle*");
        g_test_trap_assert_stderr("*plugin=t.nothing*");
        g_test_trap_assert_stderr_unmatched("*temp*");
        g_test_trap_assert_stderr_unmatched("*cgroup*");
        g_test_trap_assert_stderr_unmatched("*t.empty*");
}

static void unknown_versions_are_refused(struct fixture *f, const void *unused)
{
        static const char *const texts[] = {"", "version = 1\n", "version = 5\n", "version = 'x'\n", "root = '/r'\n"};
        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                AUTO(config) config = config_new();
                g_autoptr(GError) error = NULL;
                g_assert_false(config_load(config, write_file(f, "bad.toml", texts[i]), &error));
                g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
        }
}

// ---- plugins

static GString *started;

static void *init_named(struct plugin_host *host, GError **error)
{
        g_string_append(started, plugin_host_config_string(host, "name"));
        return (void *)"instance";
}

static void *init_broken(struct plugin_host *host, GError **error)
{
        error_fail(error, ERROR_INTERNAL, "broken");
        return NULL;
}

static const struct plugin_setting first_settings[] = {{"name", "'first '"}, {"many", "3"}, {NULL, NULL}};
static const struct plugin first = {.type = "t", .id = "first", .settings = first_settings, .init = init_named};
static const struct plugin second = {
        .type = "t",
        .id = "second",
        .settings = (const struct plugin_setting[]){{"name", "'second '"}, {NULL, NULL}},
        .requires_ = (const struct plugin_requirement[]){{"t", "first"}, {NULL, NULL}},
        .init = init_named,
};
static const struct plugin broken = {.type = "t", .id = "broken", .init = init_broken};

static struct plugin_set *start_plugins(struct config *config, const struct plugin *const *plugins, GError **error)
{
        started = g_string_new(NULL);
        return plugin_set_start(&(struct plugin_set_options){.config = config, .plugins = plugins}, error);
}

static void plugins_start_after_what_they_need(struct fixture *f, const void *unused)
{
        AUTO(config) config = config_new();
        const struct plugin *const plugins[] = {&second, &broken, &first, NULL};
        struct plugin_set *set = start_plugins(config, plugins, NULL);
        g_assert_nonnull(set);
        g_assert_cmpstr(started->str, ==, "first second ");
        plugin_set_stop(set);
        g_string_free(started, TRUE);
}

static void settings_are_read_and_checked(struct fixture *f, const void *unused)
{
        const struct plugin *const plugins[] = {&first, NULL};
        AUTO(config) good = load(write_file(f, "good.toml", "version = 4\n[plugins.'t.first']\nname = 'other'\n"));
        struct plugin_set *set = start_plugins(good, plugins, NULL);
        g_assert_cmpstr(started->str, ==, "other");
        plugin_set_stop(set);
        g_string_free(started, TRUE);
        AUTO(config) bad = load(write_file(f, "bad.toml", "version = 4\n[plugins.'t.first']\nmany = 'x'\n"));
        g_autoptr(GError) error = NULL;
        g_assert_null(start_plugins(bad, plugins, &error));
        g_assert_cmpstr(error->message, ==, "configuration: plugins.'t.first'.many must be a number, not a string");
        g_string_free(started, TRUE);
}

static void a_required_plugin_that_fails_stops_the_start(struct fixture *f, const void *unused)
{
        const struct plugin *const plugins[] = {&broken, &first, NULL};
        AUTO(config) config = load(write_file(f, "c.toml", "version = 4\nrequired_plugins = ['t.broken']\n"));
        g_autoptr(GError) error = NULL;
        g_assert_null(start_plugins(config, plugins, &error));
        g_assert_cmpstr(error->message, ==, "load required plugin t.broken: broken");
        g_string_free(started, TRUE);
}

static void a_required_plugin_that_is_not_there_stops_the_start(struct fixture *f, const void *unused)
{
        const struct plugin *const plugins[] = {&first, NULL};
        static const char *const texts[] = {"version = 4\nrequired_plugins = ['t.none']\n",
                "version = 4\nrequired_plugins = ['t.first']\ndisabled_plugins = ['t.first']\n"};
        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                AUTO(config) config = load(write_file(f, "c.toml", texts[i]));
                g_autoptr(GError) error = NULL;
                g_assert_null(start_plugins(config, plugins, &error));
                g_assert_true(error_is(error, ERROR_NOT_FOUND));
                g_string_free(started, TRUE);
        }
}

static void *fail_to_listen(struct plugin_host *host, GError **error)
{
        error_fail(error, ERROR_FAILED_PRECONDITION, "in use");
        return NULL;
}

static void a_daemon_without_its_socket_does_not_start(struct fixture *f, const void *unused)
{
        static const struct plugin server = {.type = PLUGIN_SERVER, .id = "grpc", .init = fail_to_listen};
        const struct plugin *const plugins[] = {&server, NULL};
        AUTO(config) config = load(write_file(f, "c.toml", "version = 4\n"));
        g_autoptr(GError) error = NULL;
        g_assert_null(start_plugins(config, plugins, &error));
        g_assert_cmpstr(error->message, ==, "load required plugin io.containerd.server.v1.grpc: in use");
        g_string_free(started, TRUE);
}

static void a_disabled_plugin_does_not_start(struct fixture *f, const void *unused)
{
        const struct plugin *const plugins[] = {&first, &second, NULL};
        AUTO(config) config = load(write_file(f, "c.toml", "version = 4\ndisabled_plugins = ['t.second']\n"));
        struct plugin_set *set = start_plugins(config, plugins, NULL);
        g_assert_cmpstr(started->str, ==, "first ");
        plugin_set_stop(set);
        g_string_free(started, TRUE);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(path, name) g_test_add(path #name, struct fixture, NULL, set_up, name, tear_down)
        ADD("/config/", version_3_sockets_become_plugins);
        ADD("/config/", imports_are_merged);
        ADD("/config/", a_circle_of_imports_ends);
        ADD("/config/", unknown_versions_are_refused);
        ADD("/config/", wrong_types_are_refused);
        ADD("/config/", unknown_keys_are_named);
        ADD("/plugins/", plugins_start_after_what_they_need);
        ADD("/plugins/", settings_are_read_and_checked);
        ADD("/plugins/", a_required_plugin_that_fails_stops_the_start);
        ADD("/plugins/", a_required_plugin_that_is_not_there_stops_the_start);
        ADD("/plugins/", a_daemon_without_its_socket_does_not_start);
        ADD("/plugins/", a_disabled_plugin_does_not_start);
        return g_test_run();
}
