// SPDX-License-Identifier: Apache-2.0
//
// A program that uses libskiff as others will: public headers and pkg-config alone. Says what the daemon is; with an
// image's name and a command, runs that and exits with its code.
//     cc example.c $(pkg-config --cflags --libs skiff) && ./a.out /run/skiff/skiff.sock alpine echo hello
#include <skiff/skiff.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(struct skiff_error *error)
{
        fprintf(stderr, "error %d: %s\n", (int)skiff_error_code(error), skiff_error_text(error));
        skiff_error_free(error);
        return 1;
}

static int run(struct skiff_client *client, const char *text, char **args)
{
        struct skiff_error *error = NULL;
        struct skiff_spec_options spec = {.args = (const char *const *)args};
        struct skiff_container_options options = {.id = "example", .spec = &spec};
        struct skiff_stdio_options streams = {.use_stdout = true, .use_stderr = true, .stdout_fd = 1, .stderr_fd = 2};

        char *image = skiff_image_name(text, &error);
        if (image == NULL)
                return fail(error);
        options.image = image;
        bool created = skiff_container_create(client, &options, &error);
        free(image);
        if (!created)
                return fail(error);

        uint32_t status = 1;
        struct skiff_stdio *stdio = skiff_stdio_attached(&streams, &error);
        struct skiff_process *task = stdio != NULL ? skiff_task_create(client, options.id, stdio, &error) : NULL;
        bool ended = task != NULL && skiff_process_start(task, &error) && skiff_stdio_start(stdio, task, &error) &&
                     skiff_process_wait(task, &status, &error) && skiff_process_delete(task, NULL, &error);
        if (ended)
                skiff_stdio_wait(stdio, -1);
        skiff_stdio_free(stdio);
        skiff_process_free(task);
        skiff_container_remove(client, options.id, NULL);
        return ended ? (int)status : fail(error);
}

int main(int argc, char **argv)
{
        struct skiff_error *error = NULL;
        struct skiff_daemon_version version;
        struct skiff_client_options options = {.address = argc > 1 ? argv[1] : NULL, .name_space = "example"};
        struct skiff_client *client = skiff_client_connect(&options, &error);
        if (client == NULL)
                return fail(error);
        int code = 0;
        if (!skiff_daemon_version(client, &version, &error))
                code = fail(error);
        else if (argc > 3)
                code = run(client, argv[2], argv + 3);
        else
                printf("library %s, daemon %s\n", skiff_version(), version.version);
        skiff_client_free(client);
        return code;
}
