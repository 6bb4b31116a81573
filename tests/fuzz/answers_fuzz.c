// SPDX-License-Identifier: Apache-2.0
// What a worker that hostile bytes have taken over may answer to the daemon: to inspect, split and untar of
// skiff-unpack, and to skiff-fetch. The first byte chooses which. No program is started: the functions of core/worker.h
// are those below, and the worker's records are the rest of the input, each behind its length in two bytes; for split,
// what follows its first record is the stream of files.
#include "base/fd.h"
#include "core/fetcher.h"
#include "core/unpacker_private.h"
#include "fuzz.h"
#include "io/loop.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { MAX_INPUT_BYTES = 32 * 1024 }; // the stream has to fit into a pipe

struct worker {
        struct worker_handler handler;
        void *data;
        int stream_fd; // split's
};

struct input {
        const uint8_t *bytes;
        size_t n_bytes;
};

static struct worker *started; // by the operation under test; worker_start has no other way to tell

// ---- core/worker.h

struct worker *worker_start(
        const struct worker_options *options, const struct worker_handler *handler, void *data, GError **error)
{
        g_assert_null(started);
        started = g_new(struct worker, 1);
        *started = (struct worker){*handler, data, -1};
        if (options->n_fds > 1)
                started->stream_fd = fcntl(options->fds[1].from, F_DUPFD_CLOEXEC, 0);
        return started;
}

struct worker *worker_ref(struct worker *worker)
{
        return worker;
}

void worker_unref(struct worker *worker)
{
}

uint32_t worker_user(uint32_t configured)
{
        return configured;
}

pid_t worker_pid(const struct worker *worker)
{
        return 0;
}

void worker_send(struct worker *worker, const ProtobufCMessage *message)
{
}

void worker_send_with(struct worker *worker, const ProtobufCMessage *message, int fd)
{
        close(fd);
}

void worker_half_close(struct worker *worker)
{
}

void worker_kill(struct worker *worker, const GError *reason)
{
}

// ---- its records

static struct input next_record(struct input *input)
{
        struct input record = {NULL, 0};
        if (input->n_bytes >= 2) {
                record.n_bytes = MIN(input->bytes[0] | (size_t)input->bytes[1] << 8, input->n_bytes - 2);
                record.bytes = input->bytes + 2;
                input->bytes += 2 + record.n_bytes;
                input->n_bytes -= 2 + record.n_bytes;
        }
        return record;
}

static void run(struct loop *loop)
{
        for (int i = 0; i < 8; i++)
                uv_run(loop_uv(loop), UV_RUN_NOWAIT);
}

// Hands all records to the operation, then the end.
static void answer(struct worker *worker, struct input *input, unsigned max_records)
{
        g_autoptr(GError) error = NULL;
        while (error == NULL && input->n_bytes >= 2 && max_records-- > 0) {
                struct input record = next_record(input);
                bool good = worker->handler.on_record(worker->data, record.bytes, record.n_bytes, &error);
                g_assert_true(good == (error == NULL));
        }
        worker->handler.on_end(worker->data, error);
}

// ---- the operations

static void check_error(const void *result, const GError *error)
{
        g_assert_true((result == NULL) == (error != NULL));
        g_assert_true(error == NULL || g_utf8_validate(error->message, -1, NULL));
}

static void on_document(void *data, const Worker__Document *document, const GError *error)
{
        unsigned *left = data;
        check_error(document, error);
        for (size_t i = 0; document != NULL && i < document->n_layers; i++)
                g_assert_true(document->layers[i]->size >= 0 && *document->layers[i]->digest != '\0');
        --*left;
}

static void inspect(struct unpacker *unpacker, struct input *input)
{
        unsigned left = 3;
        struct inspector *inspector = inspector_new(unpacker, NULL, NULL);
        for (unsigned i = 0; i < 3; i++)
                inspector_inspect(inspector, "", "{}", 2, on_document, &left);
        run(unpacker->options.loop);
        answer(started, input, G_MAXUINT);
        inspector_free(inspector);
        run(unpacker->options.loop);
        g_assert_cmpuint(left, ==, 0);
}

struct files {
        uint64_t left;
        bool in_file, ended;
};

static bool on_file(void *data, const char *name, uint64_t size, const char *compression, GError **error)
{
        struct files *files = data;
        g_assert_true(!files->in_file && *name != '\0');
        *files = (struct files){.left = size, .in_file = true};
        return true;
}

static bool on_bytes(void *data, const void *bytes, size_t n_bytes, GError **error)
{
        struct files *files = data;
        g_assert_true(files->in_file && n_bytes <= files->left);
        files->left -= n_bytes;
        return true;
}

static bool on_file_end(void *data, GError **error)
{
        struct files *files = data;
        g_assert_true(files->in_file && files->left == 0);
        files->in_file = false;
        return true;
}

static void on_split_end(void *data, const Worker__ArchiveEnd *end, const GError *error)
{
        struct files *files = data;
        check_error(end, error);
        g_assert_true(error != NULL || !files->in_file);
        files->ended = true;
}

static void split(struct unpacker *unpacker, struct input *input)
{
        static const struct split_handler handler = {on_file, on_bytes, on_file_end, on_split_end};
        struct files files = {0};
        fd_auto int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        split_unref(split_start(unpacker, null_fd, NULL, &handler, &files));
        run(unpacker->options.loop);
        struct input record = next_record(input);
        g_assert_true(write(started->stream_fd, input->bytes, input->n_bytes) == (ssize_t)input->n_bytes);
        fd_close(&started->stream_fd);
        g_autoptr(GError) error = NULL;
        started->handler.on_record(started->data, record.bytes, record.n_bytes, &error);
        started->handler.on_end(started->data, error);
        while (!files.ended)
                uv_run(loop_uv(unpacker->options.loop), UV_RUN_ONCE);
}

static void untar(struct unpacker *unpacker, struct input *input)
{
        struct unpack_report *report = unpack_report_new();
        while (input->n_bytes >= 2) {
                struct input record = next_record(input);
                AUTO(arena) arena = arena_new();
                g_autoptr(GError) error = NULL;
                const Worker__Answer *part = unpacker_decode(record.bytes, record.n_bytes, arena, &error);
                check_error(part, error);
                if (part != NULL && part->answer_case == WORKER__ANSWER__ANSWER_REPORTED)
                        unpack_report_add(report, part->reported, NULL);
        }
        unpack_report_free(report);
}

struct fetching {
        struct fetcher *fetcher;
        unsigned left;
};

static void on_resolved(void *data, const Fetch__Resolved *resolved, const GError *error)
{
        struct fetching *fetching = data;
        check_error(resolved, error);
        g_assert_true(resolved == NULL || (resolved->size >= 0 && *resolved->digest != '\0'));
        fetching->left--;
}

static void on_got(void *data, const Fetch__Done *done, const GError *error)
{
        struct fetching *fetching = data;
        check_error(done, error);
        fetching->left--;
}

static void on_credentials(void *data, const char *host, const char *const *challenges)
{
        struct fetching *fetching = data;
        Fetch__Credentials credentials = FETCH__CREDENTIALS__INIT;
        credentials.host = (char *)host;
        fetcher_credentials(fetching->fetcher, &credentials);
}

static void on_fetcher_end(void *data)
{
        struct fetching *fetching = data;
        g_assert_cmpuint(fetching->left, ==, 0);
}

static void fetch(struct unpacker *unpacker, struct input *input)
{
        static const struct fetcher_handler handler = {on_credentials, on_fetcher_end};
        struct fetching fetching = {.left = 2};
        Fetch__Setup setup = FETCH__SETUP__INIT;
        Fetch__Get get = FETCH__GET__INIT;
        fetching.fetcher = fetcher_start(
                &(struct fetcher_options){
                        .loop = unpacker->options.loop,
                        .lanes = unpacker->options.lanes,
                        .setup = &setup,
                        .handler = &handler,
                        .data = &fetching,
                },
                NULL);
        fetcher_resolve(fetching.fetcher, on_resolved, &fetching);
        fetcher_get(fetching.fetcher, &get, open("/dev/null", O_WRONLY | O_CLOEXEC), on_got, &fetching);
        answer(started, input, G_MAXUINT);
        fetcher_free(fetching.fetcher);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static void (*const operations[])(struct unpacker * unpacker, struct input * input) = {
                inspect, split, untar, fetch};
        if (size < 1 || size > MAX_INPUT_BYTES)
                return 0;
        struct input input = {data + 1, size - 1};
        struct loop *loop = loop_new(NULL);
        struct unpacker_options options = {.loop = loop, .lanes = lanes_new_inline(loop), .program = "none"};
        struct unpacker *unpacker = unpacker_new(&options);
        operations[data[0] % G_N_ELEMENTS(operations)](unpacker, &input);
        run(loop);
        unpacker_unref(unpacker);
        lanes_free(options.lanes);
        loop_free(loop);
        g_clear_pointer(&started, g_free);
        return 0;
}
