// SPDX-License-Identifier: Apache-2.0
//
// containerd-shim-skiff-v2: flags as Go's flag package reads them, then one of the short commands, or serving.
#include "base/error.h"
#include "shim/bootstrap.h"
#include "shim/server.h"

#include <stdio.h>
#include <string.h>

struct flag {
        const char *name;
        char **text; // one of the two
        bool *set;
};

static bool parse_bool(const char *text, bool *ret_value)
{
        static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True", NULL};
        static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False", NULL};
        if (!g_strv_contains(yes, text) && !g_strv_contains(no, text))
                return false;
        *ret_value = g_strv_contains(yes, text);
        return true;
}

// "-name value", "-name=value", with one dash or two; a bool takes a value only after "=". The rest is the action.
static bool parse_flags(int argc, char **argv, struct shim_flags *flags, GError **error)
{
        char *unused = NULL;
        const struct flag known[] = {
                {"namespace", &flags->namespace_, NULL},
                {"id", &flags->id, NULL},
                {"address", &flags->address, NULL},
                {"publish-binary", &flags->publish_binary, NULL},
                {"bundle", &flags->bundle, NULL},
                {"socket", &flags->socket, NULL},
                {"debug-socket", &unused, NULL},
                {"debug", NULL, &flags->debug},
                {"info", NULL, &flags->info},
                {"v", NULL, &flags->version},
                {"version", NULL, &flags->version},
        };
        int i = 1;
        for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0' && strcmp(argv[i], "--") != 0; i++) {
                const char *name = argv[i] + (argv[i][1] == '-' ? 2 : 1), *equals = strchr(name, '=');
                size_t n_name = equals != NULL ? (size_t)(equals - name) : strlen(name), k = 0;
                while (k < G_N_ELEMENTS(known) &&
                        (strlen(known[k].name) != n_name || strncmp(known[k].name, name, n_name) != 0))
                        k++;
                if (k == G_N_ELEMENTS(known))
                        return error_fail(error, ERROR_INVALID_ARGUMENT, "flag provided but not defined: -%s", name);
                if (known[k].set != NULL) {
                        *known[k].set = true;
                        if (equals != NULL && !parse_bool(equals + 1, known[k].set))
                                return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid boolean value \"%s\" for -%s",
                                        equals + 1, known[k].name);
                } else if (equals == NULL && i + 1 == argc) {
                        return error_fail(error, ERROR_INVALID_ARGUMENT, "flag needs an argument: -%s", name);
                } else {
                        *known[k].text = (char *)(equals != NULL ? equals + 1 : argv[++i]);
                }
        }
        if (i < argc && strcmp(argv[i], "--") == 0)
                i++;
        flags->action = i < argc ? argv[i] : NULL;
        return true;
}

static bool run(const struct shim_flags *flags, GError **error)
{
        if (flags->version) {
                printf("containerd-shim-skiff-v2:\n  Version:  %s\n\n", SKIFF_VERSION);
                return true;
        }
        if (flags->info)
                return bootstrap_info(error);
        if (flags->namespace_ == NULL || *flags->namespace_ == '\0')
                return error_fail(error, ERROR_INVALID_ARGUMENT, "shim namespace cannot be empty");
        if (flags->action == NULL)
                return server_run(flags, error);
        if (flags->id == NULL || *flags->id == '\0' || strchr(flags->id, '/') != NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "shim id cannot be empty or a path");
        if (strcmp(flags->action, "start") == 0)
                return bootstrap_start(flags, error);
        if (strcmp(flags->action, "delete") == 0)
                return bootstrap_delete(flags, error);
        return error_fail(error, ERROR_INVALID_ARGUMENT, "unknown action \"%s\"", flags->action);
}

int main(int argc, char **argv)
{
        struct shim_flags flags = {0};
        g_autoptr(GError) error = NULL;
        if (parse_flags(argc, argv, &flags, &error) && run(&flags, &error))
                return 0;
        fprintf(stderr, "io.containerd.skiff.v2: %s\n", error->message);
        return 1;
}
