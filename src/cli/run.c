// SPDX-License-Identifier: Apache-2.0
//
// skiff run: attached (its exit code is ours) or detached (its output goes to a log).
#include "cli/attach.h"
#include "cli/cli.h"
#include "cli/flags.h"

#include "base/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ID_BYTES = 6 };

struct flags {
        gboolean rm, detach, terminal, interactive, read_only, privileged;
        char **env, **env_files, **volumes, **mounts, **cap_add, **cap_drop, **labels;
        char *name, *cwd, *user, *hostname, *net, *entrypoint, *memory, *runtime, *runtime_binary, *snapshotter,
                *seccomp;
        char *log_uri;
        double cpus;
        int64_t pids;
};

struct run {
        struct cli *cli;
        struct flags flags;
        struct skiff_spec_options spec;
        struct mount_list mounts;
        GPtrArray *env;
        GArray *labels; // struct skiff_pair
        char *seccomp, *image, *id, *log;
        bool created;
};

// ---- from flags to options

static bool read_env(struct run *run, GError **error)
{
        for (char **path = run->flags.env_files; path != NULL && *path != NULL; path++) {
                if (!read_env_file(*path, run->env, error))
                        return false;
        }
        for (char **text = run->flags.env; text != NULL && *text != NULL; text++) {
                if (!add_env(run->env, *text, error))
                        return false;
        }
        g_ptr_array_add(run->env, NULL);
        run->spec.env = (const char *const *)run->env->pdata;
        return true;
}

static bool read_mounts(struct run *run, GError **error)
{
        for (char **text = run->flags.volumes; text != NULL && *text != NULL; text++) {
                if (!mount_list_add_volume(&run->mounts, *text, error))
                        return false;
        }
        for (char **text = run->flags.mounts; text != NULL && *text != NULL; text++) {
                if (!mount_list_add_mount(&run->mounts, *text, error))
                        return false;
        }
        run->spec.mounts = (const struct skiff_mount *)(void *)run->mounts.mounts->data;
        run->spec.n_mounts = run->mounts.mounts->len;
        return true;
}

static void add_label(struct run *run, const char *key, const char *value)
{
        struct skiff_pair pair = {key, value};
        g_array_append_val(run->labels, pair);
}

static void read_labels(struct run *run)
{
        for (char **text = run->flags.labels; text != NULL && *text != NULL; text++) {
                char *equals = strchr(*text, '=');
                if (equals != NULL)
                        *equals = '\0';
                add_label(run, *text, equals != NULL ? equals + 1 : "");
        }
}

static bool fill_spec(struct run *run, GError **error)
{
        const struct flags *flags = &run->flags;
        struct skiff_spec_options *spec = &run->spec;
        spec->entrypoint = flags->entrypoint;
        spec->cwd = flags->cwd;
        spec->user = flags->user;
        spec->hostname = flags->hostname != NULL ? flags->hostname : run->id;
        spec->terminal = flags->terminal;
        attach_size(&spec->columns, &spec->rows);
        spec->read_only = flags->read_only;
        spec->privileged = flags->privileged;
        spec->cap_add = (const char *const *)flags->cap_add;
        spec->cap_drop = (const char *const *)flags->cap_drop;
        spec->cpus = flags->cpus;
        spec->pids = flags->pids;
        if (flags->memory != NULL && !parse_size(flags->memory, &spec->memory_bytes, error))
                return false;
        if (flags->seccomp != NULL && !g_file_get_contents(flags->seccomp, &run->seccomp, NULL, error))
                return false;
        spec->seccomp = run->seccomp;
        spec->host_network = g_strcmp0(flags->net, "host") == 0;
        read_labels(run);
        return read_env(run, error) && read_mounts(run, error);
}

static bool check(const struct flags *flags)
{
        const char *conflict = NULL;
        if (flags->rm && flags->detach)
                conflict = "--rm needs somebody who waits: with -d, remove the container by skiff rm";
        else if (flags->detach && flags->interactive)
                conflict = "-i needs somebody who types: leave out -d or -i";
        else if (flags->log_uri != NULL && !flags->detach)
                conflict = "--log-uri is for detached runs: add -d";
        else if (flags->net != NULL && strcmp(flags->net, "host") != 0 && strcmp(flags->net, "none") != 0)
                conflict = "--net is none (a loopback device alone, the default) or host";
        if (conflict != NULL)
                cli_fail_text("%s", conflict);
        return conflict == NULL;
}

// ---- errors

static int fail(struct run *run, struct skiff_error *error)
{
        g_autofree char *advice = NULL;
        const char *text = skiff_error_text(error);
        g_autofree char *of_image = g_strdup_printf("image \"%s\"", run->image);
        if (skiff_error_code(error) == SKIFF_NOT_FOUND && strstr(text, "not unpacked") != NULL)
                advice = g_strdup_printf("Unpack it there: skiff pull%s%s %s",
                        run->flags.snapshotter != NULL ? " --snapshotter " : "",
                        run->flags.snapshotter != NULL ? run->flags.snapshotter : "", run->image);
        else if (skiff_error_code(error) == SKIFF_NOT_FOUND && strstr(text, of_image) != NULL)
                advice = g_strdup_printf("Pull it first: skiff pull %s", run->image);
        else if (skiff_error_code(error) == SKIFF_ALREADY_EXISTS)
                advice = g_strdup_printf("Choose another --name, or remove the old one: skiff rm %s", run->id);
        else if (skiff_error_code(error) == SKIFF_UNAVAILABLE && run->created)
                advice = g_strdup_printf(
                        "Container %s may go on without its daemon: skiff ps -a shows it once that runs again,"
                        " skiff rm -f %s removes it.",
                        run->id, run->id);
        return cli_fail_advice(run->cli, error, advice);
}

// ---- running

static bool create_container(struct run *run, struct skiff_error **error)
{
        struct skiff_container_options options = {
                .id = run->id,
                .image = run->image,
                .snapshotter = run->flags.snapshotter,
                .runtime = run->flags.runtime,
                .runtime_binary = run->flags.runtime_binary,
                .labels = (const struct skiff_pair *)(void *)run->labels->data,
                .n_labels = run->labels->len,
                .spec = &run->spec,
        };
        return skiff_container_create(run->cli->client, &options, error);
}

// Takes away a container that never ran, or was to be removed.
static void remove_container(struct run *run)
{
        struct skiff_process *task = skiff_process_attach(run->cli->client, run->id, NULL);
        skiff_process_kill(task, 9, true, NULL);
        skiff_process_delete(task, NULL, NULL);
        skiff_process_free(task);
        skiff_container_remove(run->cli->client, run->id, NULL);
}

static int run_attached(struct run *run)
{
        struct attach_options options = {.terminal = run->flags.terminal, .interactive = run->flags.interactive};
        struct attach *attach = attach_new(run->cli, &options);
        if (attach == NULL)
                return EXIT_OWN_FAILURE;
        struct skiff_error *error = NULL;
        int code = EXIT_OWN_FAILURE;
        run->created = create_container(run, &error);
        struct skiff_process *task =
                run->created ? skiff_task_create(run->cli->client, run->id, attach_stdio(attach), &error) : NULL;
        bool ran = task != NULL && attach_run(attach, task, &code, &error);
        if (ran && run->flags.rm) {
                if (!skiff_container_remove(run->cli->client, run->id, &error))
                        ran = false;
        } else if (ran) {
                char status[16];
                g_snprintf(status, sizeof(status), "%d", code);
                skiff_container_label(run->cli->client, run->id, EXIT_LABEL, status, NULL);
        } else if (run->created && skiff_error_code(error) != SKIFF_UNAVAILABLE) {
                remove_container(run);
        }
        attach_free(attach); // before the error, so that a raw terminal does not garble it
        skiff_process_free(task);
        return ran ? code : fail(run, error);
}

// The shim makes it, and its directory: whoever may use the daemon need not have the right to write there.
static void choose_log(struct run *run)
{
        if (run->flags.log_uri != NULL)
                return;
        g_autofree char *path = log_path(run->cli, run->id);
        g_autofree char *escaped = g_uri_escape_string(path, "/", TRUE);
        run->log = g_strconcat("file://", escaped, NULL);
}

// The log that we keep, not one that was named.
static void remove_log(const struct run *run)
{
        g_autofree char *path = log_path_of_uri(run->log);
        if (path != NULL)
                unlink(path);
}

static int run_detached(struct run *run)
{
        choose_log(run);
        const char *uri = run->log != NULL ? run->log : run->flags.log_uri;
        add_label(run, LOG_LABEL, uri);
        struct skiff_error *error = NULL;
        run->created = create_container(run, &error);
        if (!run->created)
                return fail(run, error);
        remove_log(run); // of one that had this name and was removed by another client
        struct skiff_stdio *stdio = skiff_stdio_log(uri, run->flags.terminal);
        struct skiff_process *task = skiff_task_create(run->cli->client, run->id, stdio, &error);
        bool started = task != NULL && skiff_process_start(task, &error);
        if (started) {
                puts(run->id);
        } else if (skiff_error_code(error) != SKIFF_UNAVAILABLE) {
                remove_container(run);
                remove_log(run);
        }
        skiff_process_free(task);
        skiff_stdio_free(stdio);
        return started ? 0 : fail(run, error);
}

static int run_all(struct run *run, char **argv)
{
        GError *bad = NULL;
        run->spec.args = (const char *const *)(argv + 2);
        run->image = cli_image_name(run->cli, argv[1]);
        if (run->image == NULL)
                return EXIT_OWN_FAILURE;
        if (!fill_spec(run, &bad)) {
                cli_fail_text("%s", bad->message);
                g_error_free(bad);
                return EXIT_OWN_FAILURE;
        }
        if (!cli_connect(run->cli))
                return EXIT_OWN_FAILURE;
        return run->flags.detach ? run_detached(run) : run_attached(run);
}

// ---- the command

static char *new_id(void)
{
        g_autofree char *uuid = g_uuid_string_random(); // its first part is random throughout
        GString *id = g_string_new(NULL);
        for (const char *c = uuid; id->len < ID_BYTES * 2; c++) {
                if (*c != '-')
                        g_string_append_c(id, *c);
        }
        return g_string_free(id, FALSE);
}

static void flags_done(struct flags *flags)
{
        char **lists[] = {flags->env, flags->env_files, flags->volumes, flags->mounts, flags->cap_add, flags->cap_drop,
                flags->labels};
        char *texts[] = {flags->name, flags->cwd, flags->user, flags->hostname, flags->net, flags->entrypoint,
                flags->memory, flags->runtime, flags->runtime_binary, flags->snapshotter, flags->seccomp,
                flags->log_uri};
        for (size_t i = 0; i < G_N_ELEMENTS(lists); i++)
                g_strfreev(lists[i]);
        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
                g_free(texts[i]);
}

static const char details[] =
        "The image must have been pulled or imported. Attached, skiff stays until the command has ended\n"
        "and exits with its code; SIGINT, SIGTERM and others are passed on to it, and ^C typed three\n"
        "times kills it. Detached (-d), what it writes is kept in /var/log/skiff/NAMESPACE/NAME.log\n"
        "(or below SKIFF_LOG_DIR), which skiff logs shows and skiff rm removes.\n\n"
        "Exit codes of skiff's own: 125 it failed, 126 the command cannot be executed, 127 there is\n"
        "no such command.\n\n"
        "  skiff run --rm -it alpine sh\n"
        "  skiff run -d --name web -v ./site:/www:ro --memory 64m busybox httpd -f -h /www\n";

int command_run(struct cli *cli, const struct command *command, int argc, char **argv)
{
        struct run run = {.cli = cli};
        struct flags *f = &run.flags;
        const GOptionEntry options[] = {
                {"rm", 0, 0, G_OPTION_ARG_NONE, &f->rm, "remove the container when it has ended", NULL},
                {"detach", 'd', 0, G_OPTION_ARG_NONE, &f->detach, "leave it running, print its name", NULL},
                {"tty", 't', 0, G_OPTION_ARG_NONE, &f->terminal, "give it a terminal", NULL},
                {"interactive", 'i', 0, G_OPTION_ARG_NONE, &f->interactive, "pass standard input to it", NULL},
                {"name", 0, 0, G_OPTION_ARG_FILENAME, &f->name, "its name; default: twelve random digits", "NAME"},
                {"env", 'e', 0, G_OPTION_ARG_FILENAME_ARRAY, &f->env, "set a variable (alone: as it is here)",
                        "NAME[=VALUE]"},
                {"env-file", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &f->env_files, "the same, one a line of a file",
                        "FILE"},
                {"volume", 'v', 0, G_OPTION_ARG_FILENAME_ARRAY, &f->volumes, "mount a path of this machine",
                        "PATH:DEST[:ro]"},
                {"mount", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &f->mounts, "the same at length, or a tmpfs",
                        "type=T,source=S,destination=D"},
                {"workdir", 'w', 0, G_OPTION_ARG_FILENAME, &f->cwd, "directory to start in", "PATH"},
                {"user", 'u', 0, G_OPTION_ARG_FILENAME, &f->user, "run as, by name or number", "USER[:GROUP]"},
                {"entrypoint", 0, 0, G_OPTION_ARG_FILENAME, &f->entrypoint, "in place of the image's", "PROGRAM"},
                {"hostname", 0, 0, G_OPTION_ARG_FILENAME, &f->hostname, "default: the container's name", "NAME"},
                {"net", 0, 0, G_OPTION_ARG_FILENAME, &f->net, "none (default) or host", "NETWORK"},
                {"read-only", 0, 0, G_OPTION_ARG_NONE, &f->read_only, "no writing to the root file system", NULL},
                {"memory", 'm', 0, G_OPTION_ARG_FILENAME, &f->memory, "limit, such as 64m", "SIZE"},
                {"cpus", 0, 0, G_OPTION_ARG_DOUBLE, &f->cpus, "limit, such as 1.5", "NUMBER"},
                {"pids-limit", 0, 0, G_OPTION_ARG_INT64, &f->pids, "limit of processes", "NUMBER"},
                {"cap-add", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &f->cap_add, "add a capability", "NAME"},
                {"cap-drop", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &f->cap_drop, "take one away, or ALL", "NAME"},
                {"privileged", 0, 0, G_OPTION_ARG_NONE, &f->privileged, "all capabilities, nothing hidden", NULL},
                {"seccomp", 0, 0, G_OPTION_ARG_FILENAME, &f->seccomp, "profile in the OCI's JSON; default: none",
                        "FILE"},
                {"label", 'l', 0, G_OPTION_ARG_FILENAME_ARRAY, &f->labels, "label the container", "KEY=VALUE"},
                {"runtime", 0, 0, G_OPTION_ARG_FILENAME, &f->runtime,
                        "default: "
                        "io.containerd.runc.v2",
                        "SHIM"},
                {"oci-runtime", 0, 0, G_OPTION_ARG_FILENAME, &f->runtime_binary,
                        "crun, runc or a path; default: the daemon's choice", "PROGRAM"},
                {"snapshotter", 0, 0, G_OPTION_ARG_FILENAME, &f->snapshotter, "default: overlayfs", "NAME"},
                {"log-uri", 0, 0, G_OPTION_ARG_FILENAME, &f->log_uri, "with -d: file:///PATH or binary:///PROGRAM",
                        "URI"},
                {NULL, 0, 0, 0, NULL, NULL, NULL},
        };
        const struct cli_usage usage = {.options = options, .details = details, .min = 1, .max = -1};
        int code = EXIT_OWN_FAILURE;
        if (cli_parse(cli, command, &usage, &argc, &argv) && check(f)) {
                run.id = f->name != NULL ? g_strdup(f->name) : new_id();
                run.env = g_ptr_array_new_with_free_func(g_free);
                run.labels = g_array_new(FALSE, FALSE, sizeof(struct skiff_pair));
                mount_list_init(&run.mounts);
                code = run_all(&run, argv);
                mount_list_done(&run.mounts);
                g_array_free(run.labels, TRUE);
                g_ptr_array_free(run.env, TRUE);
        }
        g_free(run.id);
        g_free(run.image);
        g_free(run.log);
        g_free(run.seccomp);
        flags_done(f);
        return code;
}
