// SPDX-License-Identifier: Apache-2.0
//
// What the commands share: the settings before the command, the connection, options, errors with advice, tables.
// Threads: the main one.
#pragma once

#include <glib.h>
#include <skiff/skiff.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

// Failures of skiff itself, as docker counts them; other codes are those of the container's process.
enum { EXIT_OWN_FAILURE = 125, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

struct cli {
        char *address, *name_space;  // of the options, the environment, or the defaults
        struct skiff_client *client; // made by cli_connect
};

struct command {
        const char *name;
        const char *arguments; // for the help: "IMAGE [COMMAND [ARGUMENT…]]"
        const char *summary;   // one line
        // argv[0] is the command's name. Returns the program's exit code.
        int (*run)(struct cli *cli, const struct command *command, int argc, char **argv);
        bool hidden; // another name of a command that is listed
};

int command_debug(struct cli *cli, const struct command *command, int argc, char **argv);
int command_events(struct cli *cli, const struct command *command, int argc, char **argv);
int command_exec(struct cli *cli, const struct command *command, int argc, char **argv);
int command_export(struct cli *cli, const struct command *command, int argc, char **argv);
int command_images(struct cli *cli, const struct command *command, int argc, char **argv);
int command_import(struct cli *cli, const struct command *command, int argc, char **argv);
int command_kill(struct cli *cli, const struct command *command, int argc, char **argv);
int command_logs(struct cli *cli, const struct command *command, int argc, char **argv);
int command_namespaces(struct cli *cli, const struct command *command, int argc, char **argv);
int command_ps(struct cli *cli, const struct command *command, int argc, char **argv);
int command_pull(struct cli *cli, const struct command *command, int argc, char **argv);
int command_rm(struct cli *cli, const struct command *command, int argc, char **argv);
int command_rmi(struct cli *cli, const struct command *command, int argc, char **argv);
int command_run(struct cli *cli, const struct command *command, int argc, char **argv);
int command_tag(struct cli *cli, const struct command *command, int argc, char **argv);
int command_version(struct cli *cli, const struct command *command, int argc, char **argv);

struct cli_usage {
        const GOptionEntry *options;
        const char *details; // more help; NULL: none
        int min, max;        // number of arguments; max -1: any
};
// Parses the command's options (and --address, --namespace) up to the first argument. *argc and *argv are left with the
// command's name and its arguments. False: an error was printed; exit with EXIT_OWN_FAILURE. --help prints and exits.
bool cli_parse(struct cli *cli, const struct command *command, const struct cli_usage *usage, int *argc, char ***argv);
// False: it failed, and was printed.
bool cli_connect(struct cli *cli);

// Like docker and shells: EXIT_NOT_FOUND or EXIT_NOT_EXECUTABLE where an OCI runtime says this of the command itself,
// else EXIT_OWN_FAILURE.
int cli_exit_code(const char *text);
// Prints "skiff: TEXT" and, below, what can be done about it; frees the error; returns the exit code.
int cli_fail(struct cli *cli, struct skiff_error *error);
// The same with advice of the caller's; NULL: none.
int cli_fail_advice(struct cli *cli, struct skiff_error *error, const char *advice);
int cli_fail_text(const char *format, ...) G_GNUC_PRINTF(1, 2);
// For commands on containers: NOT_FOUND is answered by how to list them.
int cli_fail_container(struct cli *cli, struct skiff_error *error);

// "docker.io/library/alpine:latest" of "alpine"; NULL: not a reference, which was printed. The caller frees.
char *cli_image_name(struct cli *cli, const char *text);

// ---- tables: columns as wide as their widest cell, two blanks between

struct table;
struct table *table_new(void);
// Cells up to NULL; copied.
void table_row(struct table *table, ...) G_GNUC_NULL_TERMINATED;
// Prints and frees.
void table_print(struct table *table);

// "3 minutes ago"; "0.4s", "12m05s"; "4.1MB". The caller frees.
char *format_age(int64_t at_ns);
char *format_duration(int64_t duration_ns);
char *format_size(int64_t bytes);

// ---- where the output of detached runs is kept

#define LOG_LABEL "skiff.dev/log"
#define EXIT_LABEL "skiff.dev/exit-status"
// $SKIFF_LOG_DIR or /var/log/skiff, then NAMESPACE/ID.log. The caller frees.
char *log_path(const struct cli *cli, const char *id);
// The path of a "file://" URI; NULL: another kind. The caller frees.
char *log_path_of_uri(const char *uri);
