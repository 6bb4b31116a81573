// SPDX-License-Identifier: Apache-2.0
//
//     upper, lower → tar → pump (hash) → deflate → pump → on_bytes
//
// or, for a plain layer, without the two in the middle, or with a file that is fed by a pump in place of upper, lower
// and tar. As in unpack.c, the operation is over when every part has ended, what a worker itself reports outweighs the
// broken pipes around it, and one strand holds it all.
#include "core/unpacker_private.h"

#include "base/fd.h"
#include "core/pump.h"
#include "sys/namespace.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

struct part {
        struct worker *worker;
        bool done;
        GError *failure;
};

struct pack {
        atomic_int references;
        struct unpacker *unpacker;
        struct strand *strand;
        struct cancel *cancel;
        struct pack_handler handler;
        void *data;
        char *lower, *upper, *compression;
        bool has_epoch;
        int64_t epoch_seconds;
        int file_fd; // -1: directories
        int64_t file_bytes;
        struct part tar, deflate;
        struct pump *feed;          // of the file
        struct pump *hash, *output; // the same one for a plain layer
        unsigned running;
        GError *reason, *other; // of the handler; the first one that no worker reported
};

void pack_unref(struct pack *pack)
{
        if (pack == NULL || atomic_fetch_sub(&pack->references, 1) != 1)
                return;
        worker_unref(pack->tar.worker);
        worker_unref(pack->deflate.worker);
        g_clear_error(&pack->tar.failure);
        g_clear_error(&pack->deflate.failure);
        pump_unref(pack->feed);
        pump_unref(pack->hash);
        pump_unref(pack->output);
        fd_close(&pack->file_fd);
        g_clear_error(&pack->reason);
        g_clear_error(&pack->other);
        strand_unref(pack->strand);
        cancel_unref(pack->cancel);
        unpacker_unref(pack->unpacker);
        g_free(pack->lower);
        g_free(pack->upper);
        g_free(pack->compression);
        g_free(pack);
}

static bool is_compressed(const struct pack *pack)
{
        return *pack->compression != '\0';
}

// ---- the end

static GError *final_error(const struct pack *pack)
{
        const GError *decisive = pack->reason != NULL            ? pack->reason
                                 : pack->tar.failure != NULL     ? pack->tar.failure
                                 : pack->deflate.failure != NULL ? pack->deflate.failure
                                                                 : pack->other;
        if (decisive != NULL)
                return g_error_copy(decisive);
        if ((pack->upper != NULL && !pack->tar.done) || (is_compressed(pack) && !pack->deflate.done))
                return g_error_new(SKIFF_ERROR, ERROR_UNAVAILABLE, "skiff-unpack ended without a result");
        return NULL;
}

static void end_part(struct pack *pack, const GError *error)
{
        if (error != NULL && pack->other == NULL)
                pack->other = g_error_copy(error);
        if (--pack->running > 0)
                return;
        g_autoptr(GError) final = final_error(pack);
        g_autofree char *diff_id = final == NULL ? pump_digest(pack->hash) : NULL;
        pack->handler.on_end(pack->data, diff_id, final);
        pack_unref(pack);
}

static void on_part_end(void *data, const GError *error)
{
        end_part(data, error);
}

static bool on_output(void *data, const void *bytes, size_t n_bytes, GError **error)
{
        struct pack *pack = data;
        if (pack->handler.on_bytes(pack->data, bytes, n_bytes, &pack->reason))
                return true;
        g_propagate_error(error, g_error_copy(pack->reason));
        return false;
}

// ---- answers

static bool take_answer(
        struct pack *pack, struct part *part, const Worker__Answer *answer, const char *name, GError **error)
{
        if (answer->answer_case == WORKER__ANSWER__ANSWER_FAILURE && part->failure == NULL)
                part->failure = unpacker_failure(answer->failure, name);
        else if (answer->answer_case == WORKER__ANSWER__ANSWER_WRITTEN)
                part->done = true;
        else
                return error_fail(error, ERROR_INTERNAL, "%s: unexpected answer", name);
        return true;
}

static bool on_tar_ready(struct pack *pack, const Worker__Ready *ready, GError **error)
{
        if (!unpacker_on_ready(pack->tar.worker, ready, error))
                return false;
        Worker__TarJob job = WORKER__TAR_JOB__INIT;
        job.has_lower = pack->lower != NULL;
        job.has_epoch = pack->has_epoch;
        job.epoch = pack->epoch_seconds;
        worker_send(pack->tar.worker, &job.base);
        return true;
}

static bool on_tar_record(void *data, const uint8_t *bytes, size_t n_bytes, GError **error)
{
        struct pack *pack = data;
        AUTO(arena) arena = arena_new();
        const Worker__Answer *answer = unpacker_decode(bytes, n_bytes, arena, error);
        if (answer == NULL)
                return false;
        if (answer->answer_case == WORKER__ANSWER__ANSWER_READY)
                return on_tar_ready(pack, answer->ready, error);
        return take_answer(pack, &pack->tar, answer, "tar", error);
}

static bool on_deflate_record(void *data, const uint8_t *bytes, size_t n_bytes, GError **error)
{
        struct pack *pack = data;
        AUTO(arena) arena = arena_new();
        const Worker__Answer *answer = unpacker_decode(bytes, n_bytes, arena, error);
        return answer != NULL && take_answer(pack, &pack->deflate, answer, "deflate", error);
}

// ---- the beginning

static bool start_tar(struct pack *pack, int output, GError **error)
{
        static const struct worker_handler handler = {on_tar_record, on_part_end};
        fd_auto int upper = namespace_clone_mount(pack->upper, CLONE_MOUNT_READ_ONLY, error);
        fd_auto int lower = upper >= 0 && pack->lower != NULL
                                    ? namespace_clone_mount(pack->lower, CLONE_MOUNT_READ_ONLY, error)
                                    : -1;
        if (upper < 0 || (pack->lower != NULL && lower < 0))
                return false;
        const struct spawn_fd fds[] = {
                {output, WORKER_FIRST_FD}, {upper, WORKER_FIRST_FD + 1}, {lower, WORKER_FIRST_FD + 2}};
        const struct unpacker_job launched = {
                .name = "tar",
                .fds = fds,
                .n_fds = pack->lower != NULL ? 3 : 2,
                .in_namespaces = true,
                .strand = pack->strand,
                .cancel = pack->cancel,
        };
        pack->tar.worker = unpacker_launch(pack->unpacker, &launched, &handler, pack, error);
        if (pack->tar.worker == NULL)
                return false;
        pack->running++;
        return true;
}

static bool start_deflate(struct pack *pack, int input, int output, GError **error)
{
        static const struct worker_handler handler = {on_deflate_record, on_part_end};
        const struct spawn_fd fds[] = {{input, WORKER_FIRST_FD}, {output, WORKER_FIRST_FD + 1}};
        const struct unpacker_job launched = {
                .name = "deflate", .fds = fds, .n_fds = 2, .strand = pack->strand, .cancel = pack->cancel};
        pack->deflate.worker = unpacker_launch(pack->unpacker, &launched, &handler, pack, error);
        if (pack->deflate.worker == NULL)
                return false;
        pack->running++;
        Worker__DeflateJob job = WORKER__DEFLATE_JOB__INIT;
        if (strcmp(pack->compression, "zstd") == 0)
                job.format = WORKER__DEFLATE_JOB__FORMAT__FORMAT_ZSTD;
        worker_send(pack->deflate.worker, &job.base);
        return true;
}

static struct pump *start_pump(struct pack *pack, int source_fd, int sink_fd, bool hash)
{
        const struct pump_options options = {
                .loop = pack->unpacker->options.loop,
                .strand = pack->strand,
                .source_fd = source_fd,
                .sink_fd = sink_fd,
                .hash = hash,
                .on_bytes = sink_fd < 0 ? on_output : NULL,
                .on_end = on_part_end,
                .data = pack,
        };
        pack->running++;
        return pump_start(&options);
}

static void start_feed(struct pack *pack, int sink_fd)
{
        const struct pump_options options = {
                .loop = pack->unpacker->options.loop,
                .strand = pack->strand,
                .source_fd = fd_take(&pack->file_fd),
                .source_is_file = true,
                .sink_fd = sink_fd,
                .on_end = on_part_end,
                .data = pack,
        };
        pack->running++;
        pack->feed = pump_start(&options);
        pump_advance(pack->feed, pack->file_bytes, true);
}

static bool start_parts(struct pack *pack, GError **error)
{
        fd_auto int tarred = -1, tar_out = -1, deflate_in = -1, hashed = -1, deflated = -1, deflate_out = -1;
        if (!pump_pipe(&tarred, &tar_out, error) || (pack->upper != NULL && !start_tar(pack, tar_out, error)))
                return false;
        if (pack->upper == NULL)
                start_feed(pack, fd_take(&tar_out));
        if (!is_compressed(pack)) {
                pack->hash = start_pump(pack, fd_take(&tarred), -1, true);
                pack->output = pump_ref(pack->hash);
                return true;
        }
        if (!pump_pipe(&deflate_in, &hashed, error) || !pump_pipe(&deflated, &deflate_out, error) ||
                !start_deflate(pack, deflate_in, deflate_out, error))
                return false;
        pack->hash = start_pump(pack, fd_take(&tarred), fd_take(&hashed), true);
        pack->output = start_pump(pack, fd_take(&deflated), -1, false);
        return true;
}

static void begin(void *data)
{
        struct pack *pack = data;
        pack->running = 1; // this function
        g_autoptr(GError) error = NULL;
        if (!start_parts(pack, &error)) {
                if (pack->tar.worker != NULL)
                        worker_kill(pack->tar.worker, error);
                if (pack->feed != NULL)
                        pump_stop(pack->feed, error);
        }
        end_part(pack, error);
}

struct pack *pack_start(
        struct unpacker *unpacker, const struct pack_request *request, const struct pack_handler *handler, void *data)
{
        struct pack *pack = g_new0(struct pack, 1);
        pack->references = 2; // the caller's and the operation's
        pack->unpacker = unpacker_ref(unpacker);
        pack->strand = strand_new(unpacker->options.lanes, LANE_SLOW);
        pack->cancel = request->cancel != NULL ? cancel_ref(request->cancel) : NULL;
        pack->handler = *handler;
        pack->data = data;
        pack->lower = g_strdup(request->lower);
        pack->upper = g_strdup(request->upper);
        pack->file_fd = request->upper == NULL ? fcntl(request->fd, F_DUPFD_CLOEXEC, 0) : -1;
        pack->file_bytes = request->n_bytes;
        pack->compression = g_strdup(request->compression);
        pack->has_epoch = request->has_epoch;
        pack->epoch_seconds = request->epoch_seconds;
        strand_submit(pack->strand, begin, pack);
        return pack;
}
