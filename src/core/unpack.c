// SPDX-License-Identifier: Apache-2.0
//
//     file → pump → inflate → pump (hash) → untar → directory
//
// Four parts, each with its own end; the operation is over when all four have ended. What goes wrong in one ends the
// others through the pipes, and those then complain as well: an error that a worker itself reported outweighs the
// broken pipes around it. Everything happens on one strand, so nothing here needs a lock.
#include "core/unpacker_private.h"

#include "base/fd.h"
#include "core/pump.h"
#include "sys/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

struct part {
        struct worker *worker;
        bool done; // its last answer has come
        GError *failure;
};

struct unpack {
        atomic_int references;
        struct unpacker *unpacker;
        struct strand *strand;
        struct cancel *cancel;
        unsigned long cancel_watch;
        struct cancel_note note;
        bool (*locate)(void *data, struct unpack_place *ret_place, GError **error);
        unpack_done_fn done;
        void *data;
        int file_fd;
        bool compressed, sync_fs, settle_later;
        struct unpack_place place;
        int64_t available;
        bool complete;
        struct part inflate, untar;
        struct pump *feed, *hash;
        unsigned running; // parts that have not ended
        GError *reason;   // of unpack_abort
        GError *other;    // the first one that no worker reported
        struct unpack_report *report;
        struct unpack_result result;
        char *diff_id;
};

static void unpack_ref(struct unpack *unpack)
{
        atomic_fetch_add(&unpack->references, 1);
}

void unpack_unref(struct unpack *unpack)
{
        if (unpack == NULL || atomic_fetch_sub(&unpack->references, 1) != 1)
                return;
        worker_unref(unpack->inflate.worker);
        worker_unref(unpack->untar.worker);
        g_clear_error(&unpack->inflate.failure);
        g_clear_error(&unpack->untar.failure);
        pump_unref(unpack->feed);
        pump_unref(unpack->hash);
        g_clear_error(&unpack->reason);
        g_clear_error(&unpack->other);
        unpack_report_free(unpack->report);
        fd_close(&unpack->file_fd);
        strand_unref(unpack->strand);
        cancel_unref(unpack->cancel);
        unpacker_unref(unpack->unpacker);
        g_strfreev(unpack->place.parents);
        g_free(unpack->place.directory);
        g_free(unpack->diff_id);
        g_free(unpack);
}

// ---- the end

static bool blames_the_stream(const GError *error)
{
        return error_is(error, ERROR_DATA_LOSS) || error_is(error, ERROR_RESOURCE_EXHAUSTED);
}

static const GError *decisive_error(const struct unpack *unpack)
{
        if (unpack->reason != NULL)
                return unpack->reason;
        if (unpack->inflate.failure != NULL && blames_the_stream(unpack->inflate.failure))
                return unpack->inflate.failure;
        if (unpack->untar.failure != NULL)
                return unpack->untar.failure;
        if (unpack->inflate.failure != NULL)
                return unpack->inflate.failure;
        return unpack->other;
}

static bool finish(struct unpack *unpack, GError **error)
{
        const GError *decisive = decisive_error(unpack);
        if (decisive != NULL) {
                g_propagate_error(error, g_error_copy(decisive));
                return false;
        }
        if (!unpack->inflate.done || !unpack->untar.done)
                return error_fail(error, ERROR_UNAVAILABLE, "skiff-unpack ended without a result");
        const struct unpack_place *place = &unpack->place;
        if (!unpack->settle_later &&
                !unpack_report_apply(unpack->report, place->directory, (const char *const *)place->parents, error))
                return false;
        if (!unpack->sync_fs)
                return true;
        fd_auto int fd = open(place->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || syncfs(fd) < 0)
                return error_fail_errno(error, errno, "failed to syncfs for %s", place->directory);
        return true;
}

static void end_part(struct unpack *unpack, const GError *error)
{
        if (error != NULL && unpack->other == NULL)
                unpack->other = g_error_copy(error);
        if (--unpack->running > 0)
                return;
        if (unpack->cancel != NULL && cancel_unwatch(unpack->cancel, unpack->cancel_watch))
                unpack_unref(unpack);
        g_autoptr(GError) final = NULL;
        bool good = finish(unpack, &final);
        cancel_note_clear(&unpack->note);
        if (good) {
                unpack->diff_id = pump_digest(unpack->hash);
                unpack->result.diff_id = unpack->diff_id;
                unpack->result.size = pump_bytes(unpack->hash);
        }
        unpack->done(unpack->data, good ? &unpack->result : NULL, final);
        unpack_unref(unpack);
}

static void on_feed_end(void *data, const GError *error)
{
        end_part(data, error);
}

static void on_hash_end(void *data, const GError *error)
{
        end_part(data, error);
}

// Where nobody takes the stream any more, there is no use in waiting for the rest of a download.
static void end_worker(struct unpack *unpack, const struct part *part, const GError *error)
{
        if ((error != NULL || !part->done) && unpack->feed != NULL) {
                g_autoptr(GError) gone = g_error_new(SKIFF_ERROR, ERROR_UNAVAILABLE, "skiff-unpack has ended");
                pump_stop(unpack->feed, gone);
        }
        end_part(unpack, error);
}

static void on_inflate_end(void *data, const GError *error)
{
        struct unpack *unpack = data;
        end_worker(unpack, &unpack->inflate, error);
}

static void on_untar_end(void *data, const GError *error)
{
        struct unpack *unpack = data;
        end_worker(unpack, &unpack->untar, error);
}

// ---- answers

static bool on_inflate_record(void *data, const uint8_t *bytes, size_t n_bytes, GError **error)
{
        struct unpack *unpack = data;
        AUTO(arena) arena = arena_new();
        const Worker__Answer *answer = unpacker_decode(bytes, n_bytes, arena, error);
        if (answer == NULL)
                return false;
        if (answer->answer_case == WORKER__ANSWER__ANSWER_FAILURE && unpack->inflate.failure == NULL)
                unpack->inflate.failure = unpacker_failure(answer->failure, "inflate");
        else if (answer->answer_case == WORKER__ANSWER__ANSWER_INFLATED)
                unpack->inflate.done = true;
        else
                return error_fail(error, ERROR_INTERNAL, "inflate: unexpected answer");
        return true;
}

static bool on_untar_ready(struct unpack *unpack, const Worker__Ready *ready, GError **error)
{
        if (!unpacker_on_ready(unpack->untar.worker, ready, error))
                return false;
        Worker__UntarJob job = WORKER__UNTAR_JOB__INIT;
        job.overlay = unpack->place.overlay;
        job.max_entries = unpack->unpacker->options.max_entries;
        worker_send(unpack->untar.worker, &job.base);
        return true;
}

static bool on_untar_record(void *data, const uint8_t *bytes, size_t n_bytes, GError **error)
{
        struct unpack *unpack = data;
        AUTO(arena) arena = arena_new();
        const Worker__Answer *answer = unpacker_decode(bytes, n_bytes, arena, error);
        if (answer == NULL)
                return false;
        switch (answer->answer_case) {
        case WORKER__ANSWER__ANSWER_READY:
                return on_untar_ready(unpack, answer->ready, error);
        case WORKER__ANSWER__ANSWER_REPORTED:
                return unpack_report_add(unpack->report, answer->reported, error);
        case WORKER__ANSWER__ANSWER_FAILURE:
                if (unpack->untar.failure == NULL)
                        unpack->untar.failure = unpacker_failure(answer->failure, "untar");
                return true;
        case WORKER__ANSWER__ANSWER_UNTARRED:
                unpack->untar.done = true;
                unpack->result.entries = answer->untarred->entries;
                return true;
        default:
                return error_fail(error, ERROR_INTERNAL, "untar: unexpected answer");
        }
}

// ---- the beginning

static bool start_inflate(struct unpack *unpack, int input, int output, GError **error)
{
        static const struct worker_handler handler = {on_inflate_record, on_inflate_end};
        const struct spawn_fd fds[] = {{input, WORKER_FIRST_FD}, {output, WORKER_FIRST_FD + 1}};
        const struct unpacker_job launched = {.name = "inflate", .fds = fds, .n_fds = 2, .strand = unpack->strand};
        unpack->inflate.worker = unpacker_launch(unpack->unpacker, &launched, &handler, unpack, error);
        if (unpack->inflate.worker == NULL)
                return false;
        unpack->running++;
        Worker__InflateJob job = WORKER__INFLATE_JOB__INIT;
        job.max_ratio = unpack->unpacker->options.max_ratio;
        job.free_bytes = UNPACKER_FREE_BYTES;
        job.plain = !unpack->compressed;
        worker_send(unpack->inflate.worker, &job.base);
        return true;
}

static bool start_untar(struct unpack *unpack, int input, GError **error)
{
        static const struct worker_handler handler = {on_untar_record, on_untar_end};
        fd_auto int mount_fd = namespace_clone_mount(unpack->place.directory, 0, error);
        if (mount_fd < 0)
                return false;
        const struct spawn_fd fds[] = {{input, WORKER_FIRST_FD}, {mount_fd, WORKER_FIRST_FD + 1}};
        const struct unpacker_job launched = {
                .name = "untar", .fds = fds, .n_fds = 2, .in_namespaces = true, .strand = unpack->strand};
        unpack->untar.worker = unpacker_launch(unpack->unpacker, &launched, &handler, unpack, error);
        if (unpack->untar.worker == NULL)
                return false;
        unpack->running++;
        return true;
}

static struct pump *start_pump(struct unpack *unpack, const struct pump_options *template)
{
        struct pump_options options = *template;
        options.loop = unpack->unpacker->options.loop;
        options.strand = unpack->strand;
        options.data = unpack;
        unpack->running++;
        return pump_start(&options);
}

static bool start_parts(struct unpack *unpack, GError **error)
{
        fd_auto int inflate_in = -1, fed = -1, inflated = -1, inflate_out = -1, untar_in = -1, hashed = -1;
        if (!pump_pipe(&inflate_in, &fed, error) || !pump_pipe(&inflated, &inflate_out, error) ||
                !pump_pipe(&untar_in, &hashed, error))
                return false;
        if (!start_untar(unpack, untar_in, error) || !start_inflate(unpack, inflate_in, inflate_out, error))
                return false;
        unpack->feed = start_pump(unpack, &(struct pump_options){
                                                  .source_fd = fd_take(&unpack->file_fd),
                                                  .source_is_file = true,
                                                  .sink_fd = fd_take(&fed),
                                                  .on_end = on_feed_end,
                                          });
        pump_advance(unpack->feed, unpack->available, unpack->complete);
        unpack->hash = start_pump(unpack, &(struct pump_options){
                                                  .source_fd = fd_take(&inflated),
                                                  .sink_fd = fd_take(&hashed),
                                                  .hash = true,
                                                  .on_end = on_hash_end,
                                          });
        return true;
}

static void kill_parts(struct unpack *unpack, const GError *reason)
{
        if (unpack->inflate.worker != NULL)
                worker_kill(unpack->inflate.worker, reason);
        if (unpack->untar.worker != NULL)
                worker_kill(unpack->untar.worker, reason);
        if (unpack->feed != NULL)
                pump_stop(unpack->feed, reason);
        if (unpack->hash != NULL)
                pump_stop(unpack->hash, reason);
}

static void on_cancel(void *data);

static void begin(void *data)
{
        struct unpack *unpack = data;
        unpack->running = 1; // this function
        GError *error = NULL;
        bool good = unpack->reason == NULL && unpack->locate(unpack->data, &unpack->place, &error);
        if (good)
                cancel_note_set(&unpack->note, unpack->cancel, "a layer unpacked to %s", unpack->place.directory);
        if (good && !start_parts(unpack, &error))
                kill_parts(unpack, error);
        if (unpack->cancel != NULL) {
                unpack_ref(unpack);
                unpack->cancel_watch = cancel_watch(unpack->cancel, on_cancel, unpack);
        }
        end_part(unpack, error);
        g_clear_error(&error);
}

struct unpack *unpack_start(
        struct unpacker *unpacker, const struct unpack_request *request, unpack_done_fn done, void *data)
{
        struct unpack *unpack = g_new0(struct unpack, 1);
        unpack->references = 2; // the caller's and the operation's
        unpack->unpacker = unpacker_ref(unpacker);
        unpack->strand = strand_new(unpacker->options.lanes, LANE_SLOW);
        unpack->cancel = request->cancel != NULL ? cancel_ref(request->cancel) : NULL;
        unpack->done = done;
        unpack->data = data;
        unpack->file_fd = fcntl(request->fd, F_DUPFD_CLOEXEC, 0);
        unpack->available = request->available_bytes;
        unpack->complete = request->complete;
        unpack->compressed = request->compressed;
        unpack->sync_fs = request->sync_fs;
        unpack->settle_later = request->settle_later;
        unpack->locate = request->locate;
        unpack->report = unpack_report_new();
        strand_submit(unpack->strand, begin, unpack);
        return unpack;
}

// ---- from outside

bool unpack_settle(struct unpack *unpack, const char *const *parents, GError **error)
{
        return unpack_report_apply(unpack->report, unpack->place.directory, parents, error);
}

struct notice {
        struct unpack *unpack;
        int64_t available;
        bool complete;
        GError *reason;
};

static void take_notice(void *data)
{
        struct notice *notice = data;
        struct unpack *unpack = notice->unpack;
        if (notice->reason != NULL && unpack->reason == NULL) {
                unpack->reason = g_steal_pointer(&notice->reason);
                kill_parts(unpack, unpack->reason);
        } else if (notice->reason == NULL) {
                unpack->available = notice->available;
                unpack->complete = notice->complete;
                if (unpack->feed != NULL)
                        pump_advance(unpack->feed, notice->available, notice->complete);
        }
        g_clear_error(&notice->reason);
        unpack_unref(unpack);
        g_free(notice);
}

static void submit_notice(struct unpack *unpack, const struct notice *template)
{
        struct notice *notice = g_new(struct notice, 1);
        *notice = *template;
        notice->unpack = unpack;
        unpack_ref(unpack);
        strand_submit(unpack->strand, take_notice, notice);
}

void unpack_advance(struct unpack *unpack, int64_t available_bytes, bool complete)
{
        submit_notice(unpack, &(struct notice){.available = available_bytes, .complete = complete});
}

void unpack_abort(struct unpack *unpack, const GError *reason)
{
        GError *error = reason != NULL ? g_error_copy(reason) : g_error_new(SKIFF_ERROR, ERROR_CANCELED, "canceled");
        submit_notice(unpack, &(struct notice){.reason = error});
}

static void on_cancel(void *data)
{
        struct unpack *unpack = data;
        g_autoptr(GError) reason = NULL;
        cancel_check(unpack->cancel, &reason);
        unpack_abort(unpack, reason);
        unpack_unref(unpack);
}
