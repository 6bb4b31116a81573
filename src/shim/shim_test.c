// SPDX-License-Identifier: Apache-2.0
//
// The parts of the shim that need no container: copying, the reaper, loggers' command lines by their effect, options.
#include "base/error.h"
#include "shim/options.h"
#include "shim/pump.h"
#include "shim/reaper.h"
#include "shim/streams.h"
#include "sys/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- pumps

struct fixture {
        struct loop *loop;
        int source[2], destination[2];
        bool ended;
};

static void set_up(struct fixture *f, gconstpointer data)
{
        signal(SIGPIPE, SIG_IGN);
        f->loop = loop_new(NULL);
        g_assert_cmpint(pipe2(f->source, O_CLOEXEC), ==, 0);
        g_assert_cmpint(pipe2(f->destination, O_CLOEXEC), ==, 0);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
        signal(SIGPIPE, SIG_DFL);
        if (f->source[1] >= 0)
                close(f->source[1]);
        if (f->destination[0] >= 0)
                close(f->destination[0]);
        loop_free(f->loop);
}

static void on_end(void *data)
{
        struct fixture *f = data;
        f->ended = true;
}

static struct pump *start(struct fixture *f, bool terminal)
{
        struct pump_options options = {
                .from = f->source[0], .to = f->destination[1], .terminal = terminal, .on_end = on_end, .data = f};
        return pump_start(f->loop, &options);
}

// More than two pipes hold, read slowly: waits for room on one side and for bytes on the other.
static void test_copies_all(struct fixture *f, gconstpointer terminal)
{
        enum { TOTAL = 1024 * 1024 };
        AUTO(pump) pump = start(f, terminal != NULL);
        fcntl(f->source[1], F_SETFL, O_NONBLOCK);
        fcntl(f->destination[0], F_SETFL, O_NONBLOCK);
        uint8_t buffer[3000];
        size_t n_written = 0, n_read = 0;
        while (!f->ended || n_read < n_written) {
                for (size_t i = 0; i < sizeof buffer; i++)
                        buffer[i] = (uint8_t)((n_written + i) % 251);
                size_t n_left = MIN(sizeof buffer, TOTAL - n_written);
                ssize_t n = n_left > 0 ? write(f->source[1], buffer, n_left) : -1;
                n_written += (size_t)MAX(n, 0);
                if (n_written == TOTAL && f->source[1] >= 0) {
                        close(f->source[1]);
                        f->source[1] = -1;
                }
                uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
                n = read(f->destination[0], buffer, sizeof buffer);
                for (ssize_t i = 0; i < n; i++)
                        g_assert_cmpuint(buffer[i], ==, (n_read + (size_t)i) % 251);
                n_read += (size_t)MAX(n, 0);
        }
        g_assert_cmpuint(n_read, ==, TOTAL);
}

static void test_finish_copies_what_is_there(struct fixture *f, gconstpointer terminal)
{
        AUTO(pump) pump = start(f, terminal != NULL);
        g_assert_cmpint(write(f->source[1], "last", 4), ==, 4);
        pump_finish(pump); // the source stays open
        while (!f->ended)
                uv_run(loop_uv(f->loop), UV_RUN_ONCE);
        char text[8];
        g_assert_cmpint(read(f->destination[0], text, sizeof text), ==, 4);
        g_assert_cmpint(read(f->destination[0], text, sizeof text), ==, 0);
}

static void test_ends_when_nobody_reads(struct fixture *f, gconstpointer data)
{
        AUTO(pump) pump = start(f, false);
        close(f->destination[0]);
        f->destination[0] = -1;
        g_assert_cmpint(write(f->source[1], "x", 1), ==, 1);
        while (!f->ended)
                uv_run(loop_uv(f->loop), UV_RUN_ONCE);
}

// ---- output FIFOs

struct fifo_fixture {
        struct loop *loop;
        char *directory, *path;
        bool ready, failed;
};

static void set_up_fifo(struct fifo_fixture *f, gconstpointer data)
{
        f->loop = loop_new(NULL);
        f->directory = g_dir_make_tmp("skiff-shim-XXXXXX", NULL);
        f->path = g_build_filename(f->directory, "out", NULL);
        g_assert_cmpint(mkfifo(f->path, 0600), ==, 0);
}

static void tear_down_fifo(struct fifo_fixture *f, gconstpointer data)
{
        loop_free(f->loop);
        unlink(f->path);
        rmdir(f->directory);
        g_free(f->path);
        g_free(f->directory);
}

static void on_streams_ready(void *data, const GError *error)
{
        struct fifo_fixture *f = data;
        f->ready = true;
        f->failed = error != NULL;
}

static void run_some_turns(struct fifo_fixture *f)
{
        for (int i = 0; i < 5; i++)
                uv_run(loop_uv(f->loop), UV_RUN_ONCE);
}

static struct streams *open_streams(struct fifo_fixture *f, struct cancel *cancel)
{
        struct streams_options options = {.in = "", .out = f->path, .err = "", .id = "c", .namespace_ = "n"};
        struct streams *streams = streams_new(f->loop, NULL, &options);
        streams_open(streams, cancel, on_streams_ready, f);
        run_some_turns(f); // looks for a reader several times
        g_assert_false(f->ready);
        return streams;
}

static void on_told(void *data)
{
        *(bool *)data = true;
}

// The client opens late, reads late, and the process is over at once: the end is told when all of its output is read.
static void test_end_is_told_when_its_output_is_read(struct fifo_fixture *f, gconstpointer data)
{
        AUTO(cancel) cancel = cancel_new();
        AUTO(streams) streams = open_streams(f, cancel);
        int reader = open(f->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        while (!f->ready)
                uv_run(loop_uv(f->loop), UV_RUN_ONCE);
        g_assert_false(f->failed);
        struct spawn_fd fds[3];
        g_assert_cmpuint(streams_child_fds(streams, fds), ==, 1);
        g_assert_cmpint(write(fds[0].from, "all", 3), ==, 3);
        g_assert_true(streams_start(streams, -1, NULL));
        bool told = false;
        streams_process_ended(streams, on_told, &told);
        run_some_turns(f);
        g_assert_false(told);
        char text[8];
        g_assert_cmpint(read(reader, text, sizeof text), ==, 3);
        while (!told)
                uv_run(loop_uv(f->loop), UV_RUN_ONCE);
        g_assert_cmpint(read(reader, text, sizeof text), ==, 0);
        close(reader);
}

static void test_wait_for_a_reader_ends_with_its_call(struct fifo_fixture *f, gconstpointer data)
{
        AUTO(cancel) cancel = cancel_new();
        AUTO(streams) streams = open_streams(f, cancel);
        cancel_trigger(cancel, ERROR_CANCELED, "context canceled");
        while (!f->ready)
                uv_run(loop_uv(f->loop), UV_RUN_ONCE);
        g_assert_true(f->failed);
}

// ---- the reaper

static void on_reaped(void *data, int status, int64_t ended_ns)
{
        g_assert_cmpint(ended_ns, >, 0);
        *(int *)data = status;
}

static pid_t run_shell(const char *script)
{
        const char *argv[] = {"sh", "-c", script, NULL};
        struct spawn_options options = {.path = "sh", .argv = argv};
        struct child child;
        g_assert_true(spawn(&options, &child, NULL));
        close(child.pidfd);
        return child.pid;
}

static void test_reaps_what_is_watched_and_strangers(void)
{
        struct loop *loop = loop_new(NULL);
        struct reaper *reaper = reaper_new(loop, NULL);
        g_assert_nonnull(reaper);
        int status = -2;
        // The grandchild loses its parent and comes to us.
        reaper_watch(reaper, run_shell("sleep 0 & exit 5"), on_reaped, &status);
        while (status == -2 || waitpid(-1, NULL, WNOHANG) == 0)
                uv_run(loop_uv(loop), UV_RUN_ONCE);
        g_assert_cmpint(child_exit_code(status), ==, 5);
        reaper_free(reaper);
        loop_free(loop);
}

static void test_keeps_early_ends_while_held(void)
{
        struct loop *loop = loop_new(NULL);
        struct reaper *reaper = reaper_new(loop, NULL);
        reaper_hold(reaper);
        pid_t pid = run_shell("exit 3");
        siginfo_t info;
        g_assert_cmpint(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), ==, 0);
        for (int i = 0; i < 3; i++)
                uv_run(loop_uv(loop), UV_RUN_NOWAIT);
        int status = -2;
        reaper_watch(reaper, pid, on_reaped, &status); // only now its id is known
        reaper_release(reaper);
        while (status == -2)
                uv_run(loop_uv(loop), UV_RUN_ONCE);
        g_assert_cmpint(child_exit_code(status), ==, 3);
        reaper_free(reaper);
        loop_free(loop);
}

// ---- options

static void test_options_are_kept_as_json(void)
{
        Runc__Options options = RUNC__OPTIONS__INIT;
        options.root = (char *)"/r\"x";
        options.systemd_cgroup = true;
        options.io_uid = 7;
        g_autofree char *json = options_to_json(&options);
        g_assert_cmpstr(json, ==, "{\"io_uid\":7,\"root\":\"/r\\\"x\",\"systemd_cgroup\":true}");
        struct options_kept kept;
        options_from_json(json, &kept);
        g_autofree char *root = kept.root;
        g_assert_cmpstr(root, ==, "/r\"x");
        g_assert_true(kept.systemd_cgroup);
        options_from_json("not JSON", &kept);
        g_assert_null(kept.root);
}

static void test_options_of_another_type_are_defaults(void)
{
        Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
        any.type_url = (char *)"x/containerd.runc.v1.Options";
        any.value = (ProtobufCBinaryData){3, (uint8_t *)"\x3a\x01r"};
        g_autoptr(GError) error = NULL;
        Runc__Options *options = options_from_any(&any, &error);
        g_assert_cmpstr(options->root, ==, "r");
        runc__options__free_unpacked(options, NULL);
        any.type_url = (char *)"runtimeoptions.v1.Options";
        options = options_from_any(&any, &error);
        g_assert_cmpstr(options->root, ==, "");
        runc__options__free_unpacked(options, NULL);
        any.type_url = (char *)"containerd.runc.v1.Options";
        any.value.len = 2;
        g_assert_null(options_from_any(&any, &error));
        g_assert_true(error_is(error, ERROR_INVALID_ARGUMENT));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(name, fn, data) g_test_add("/pump/" name, struct fixture, data, set_up, fn, tear_down)
        ADD("splices_all", test_copies_all, NULL);
        ADD("copies_all_of_a_terminal", test_copies_all, "terminal");
        ADD("finish_splices_what_is_there", test_finish_copies_what_is_there, NULL);
        ADD("finish_copies_what_is_there", test_finish_copies_what_is_there, "terminal");
        ADD("ends_when_nobody_reads", test_ends_when_nobody_reads, NULL);
#define ADD_FIFO(name, fn) g_test_add("/streams/" name, struct fifo_fixture, NULL, set_up_fifo, fn, tear_down_fifo)
        ADD_FIFO("end_is_told_when_its_output_is_read", test_end_is_told_when_its_output_is_read);
        ADD_FIFO("wait_for_a_reader_ends_with_its_call", test_wait_for_a_reader_ends_with_its_call);
        g_test_add_func("/reaper/reaps_what_is_watched_and_strangers", test_reaps_what_is_watched_and_strangers);
        g_test_add_func("/reaper/keeps_early_ends_while_held", test_keeps_early_ends_while_held);
        g_test_add_func("/options/kept_as_json", test_options_are_kept_as_json);
        g_test_add_func("/options/of_another_type_are_defaults", test_options_of_another_type_are_defaults);
        return g_test_run();
}
