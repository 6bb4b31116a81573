// SPDX-License-Identifier: Apache-2.0
//
// The socket, the pidfd and the timer belong to the loop's thread; what comes in is carried over to the strand, where
// the handler runs. The end is reached when the process was reaped and its socket has been read empty: on_end is then
// the strand's last job, and the loop's reference goes with it. While much waits for the handler, the socket is not
// read.
#include "core/worker.h"

#include "base/fd.h"
#include "io/cancel.h"
#include "io/loop.h"
#include "sys/records.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum {
        MAX_RECORD_BYTES = 1024 * 1024,
        MAX_WAITING_RECORDS = 64,
        MAX_WAITING_BYTES = 4 * 1024 * 1024, // and one record more
        NOBODYS_UID = 64000
};

struct worker {
        atomic_int references;
        struct loop *loop;
        struct strand *strand;
        struct worker_handler handler;
        void *data;
        char *name;
        struct cancel *cancel;
        unsigned long cancel_watch;
        struct cancel_note note;
        int64_t timeout_ms;
        pid_t pid;
        // The loop's thread:
        struct child child;
        struct records *records; // NULL: closed
        struct loop_watch *socket_watch, *exit_watch;
        struct loop_timer *timer;
        bool reaped, half_closed, half_close_wanted;
        int status;
        GError *reason; // why it was killed
        // The strand:
        GError *refusal; // on_record's; the worker may have ended by itself since
        // Both:
        atomic_uint waiting_records;
        atomic_size_t waiting_bytes;
        atomic_bool choked; // not read until some of them are handled
        atomic_bool doomed; // no record is handled any more
};

struct worker *worker_ref(struct worker *worker)
{
        atomic_fetch_add(&worker->references, 1);
        return worker;
}

void worker_unref(struct worker *worker)
{
        if (worker == NULL || atomic_fetch_sub(&worker->references, 1) != 1)
                return;
        strand_unref(worker->strand);
        cancel_unref(worker->cancel);
        g_clear_error(&worker->reason);
        g_clear_error(&worker->refusal);
        g_free(worker->name);
        g_free(worker);
}

uint32_t worker_user(uint32_t configured)
{
        char buffer[4096];
        struct passwd entry, *found = NULL;
        if (configured == 0 && getpwnam_r("_skiff", &entry, buffer, sizeof(buffer), &found) == 0 && found != NULL)
                configured = entry.pw_uid;
        return configured != 0 ? configured : NOBODYS_UID;
}

pid_t worker_pid(const struct worker *worker)
{
        return worker->pid;
}

// ---- killing

struct doom {
        struct worker *worker;
        GError *reason;
};

static void doom_on_loop(void *data)
{
        struct doom *doom = data;
        struct worker *worker = doom->worker;
        if (!worker->reaped && worker->reason == NULL) {
                worker->reason = g_steal_pointer(&doom->reason);
                child_kill(&worker->child, SIGKILL);
        }
        g_clear_error(&doom->reason);
        worker_unref(worker);
        g_free(doom);
}

static void doom_take(struct worker *worker, GError *reason)
{
        atomic_store(&worker->doomed, true);
        struct doom *doom = g_new(struct doom, 1);
        *doom = (struct doom){worker_ref(worker), reason};
        loop_post(worker->loop, doom_on_loop, doom);
}

void worker_kill(struct worker *worker, const GError *reason)
{
        doom_take(worker, reason != NULL ? g_error_copy(reason)
                                         : g_error_new(SKIFF_ERROR, ERROR_CANCELED, "%s: canceled", worker->name));
}

static void on_cancel(void *data)
{
        struct worker *worker = data;
        GError *reason = NULL;
        cancel_check(worker->cancel, &reason);
        doom_take(worker, reason);
        worker_unref(worker);
}

static void on_timeout(void *data)
{
        struct worker *worker = data;
        worker->timer = NULL;
        doom_take(worker, g_error_new(SKIFF_ERROR, ERROR_DEADLINE_EXCEEDED, "%s: took too long", worker->name));
}

// ---- records and the end, on the strand

struct delivery {
        struct worker *worker;
        GBytes *bytes;
        int fd; // to be sent beside; -1: none
};

static void read_on(void *data);

static bool has_room(struct worker *worker)
{
        return atomic_load(&worker->waiting_records) < MAX_WAITING_RECORDS &&
               atomic_load(&worker->waiting_bytes) < MAX_WAITING_BYTES;
}

static void deliver(void *data)
{
        struct delivery *delivery = data;
        struct worker *worker = delivery->worker;
        size_t n_bytes;
        const uint8_t *bytes = g_bytes_get_data(delivery->bytes, &n_bytes);
        if (!atomic_load(&worker->doomed) && !worker->handler.on_record(worker->data, bytes, n_bytes, &worker->refusal))
                doom_take(worker, g_error_copy(worker->refusal));
        g_bytes_unref(delivery->bytes);
        g_free(delivery);
        atomic_fetch_sub(&worker->waiting_records, 1);
        atomic_fetch_sub(&worker->waiting_bytes, n_bytes);
        if (has_room(worker) && atomic_exchange(&worker->choked, false))
                loop_post(worker->loop, read_on, worker_ref(worker));
        worker_unref(worker);
}

static GError *final_error(const struct worker *worker)
{
        if (worker->refusal != NULL)
                return g_error_copy(worker->refusal);
        if (worker->reason != NULL)
                return g_error_copy(worker->reason);
        if (WIFSIGNALED(worker->status))
                return g_error_new(SKIFF_ERROR, ERROR_UNAVAILABLE, "%s: killed by signal %d", worker->name,
                        WTERMSIG(worker->status));
        if (worker->status != 0)
                return g_error_new(SKIFF_ERROR, ERROR_UNAVAILABLE, "%s: exited with status %d", worker->name,
                        child_exit_code(worker->status));
        return NULL;
}

static void end(void *data)
{
        struct worker *worker = data;
        g_autoptr(GError) error = final_error(worker);
        worker->handler.on_end(worker->data, error);
        worker_unref(worker);
}

// ---- the loop's thread

static void end_if_over(struct worker *worker)
{
        if (!worker->reaped || worker->records != NULL)
                return;
        if (worker->timer != NULL)
                loop_timer_stop(g_steal_pointer(&worker->timer));
        cancel_note_clear(&worker->note);
        if (worker->cancel != NULL && cancel_unwatch(worker->cancel, worker->cancel_watch))
                worker_unref(worker);
        strand_submit(worker->strand, end, worker); // with the loop's reference
}

static void close_socket(struct worker *worker)
{
        loop_watch_stop(g_steal_pointer(&worker->socket_watch));
        records_free(g_steal_pointer(&worker->records));
}

static void update_watch(struct worker *worker)
{
        // Marked first and looked at again, so that the strand cannot make room in between unseen.
        atomic_store(&worker->choked, true);
        bool room = has_room(worker);
        if (room)
                atomic_store(&worker->choked, false);
        int events = room ? UV_READABLE : 0;
        if (records_has_unsent(worker->records))
                events |= UV_WRITABLE;
        loop_watch_change(worker->socket_watch, events);
}

static void flush(struct worker *worker)
{
        // A send that fails says nothing that the end of file does not say after what is still to be read.
        records_flush(worker->records, NULL);
        if (worker->half_close_wanted && !worker->half_closed && !records_has_unsent(worker->records)) {
                shutdown(records_fd(worker->records), SHUT_WR);
                worker->half_closed = true;
        }
}

// Takes error. The records that came before it still count.
static void fail_reading(struct worker *worker, GError *error)
{
        if (!worker->reaped)
                child_kill(&worker->child, SIGKILL);
        if (worker->reason == NULL)
                worker->reason = g_steal_pointer(&error);
        g_clear_error(&error);
}

static void receive(struct worker *worker)
{
        while (has_room(worker)) {
                const uint8_t *bytes;
                size_t n_bytes;
                fd_auto int fd = -1;
                GError *error = NULL;
                enum records_result result = records_receive(worker->records, &bytes, &n_bytes, &fd, &error);
                if (result == RECORDS_AGAIN)
                        break;
                if (result != RECORDS_GOT) {
                        if (error != NULL)
                                fail_reading(worker, error);
                        close_socket(worker);
                        return;
                }
                struct delivery *delivery = g_new(struct delivery, 1);
                *delivery = (struct delivery){worker_ref(worker), g_bytes_new(bytes, n_bytes), -1};
                atomic_fetch_add(&worker->waiting_records, 1);
                atomic_fetch_add(&worker->waiting_bytes, n_bytes);
                strand_submit(worker->strand, deliver, delivery);
        }
}

static void on_socket(void *data, int events)
{
        struct worker *worker = data;
        flush(worker);
        receive(worker);
        if (worker->records != NULL)
                update_watch(worker);
        end_if_over(worker);
}

static void read_on(void *data)
{
        struct worker *worker = data;
        if (worker->records != NULL)
                update_watch(worker);
        worker_unref(worker);
}

static void on_exit_event(void *data, int events)
{
        struct worker *worker = data;
        if (!child_try_wait(&worker->child, &worker->status))
                return;
        loop_watch_stop(g_steal_pointer(&worker->exit_watch));
        fd_close(&worker->child.pidfd);
        worker->reaped = true;
        end_if_over(worker);
}

static void start_on_loop(void *data)
{
        struct worker *worker = data;
        worker->socket_watch =
                loop_watch_start(worker->loop, records_fd(worker->records), UV_READABLE, on_socket, worker);
        worker->exit_watch = loop_watch_start(worker->loop, worker->child.pidfd, UV_READABLE, on_exit_event, worker);
        if (worker->timeout_ms > 0)
                worker->timer = loop_timer_start(worker->loop, (uint64_t)worker->timeout_ms, on_timeout, worker);
        cancel_note_set(&worker->note, worker->cancel, "the worker %s (pid %d)", worker->name, (int)worker->pid);
        if (worker->cancel != NULL)
                worker->cancel_watch = cancel_watch(worker->cancel, on_cancel, worker_ref(worker));
}

// ---- starting and sending

static bool start_program(struct worker *worker, const struct worker_options *options, int control_fd, GError **error)
{
        static const char *const empty[] = {NULL};
        g_autofree struct spawn_fd *fds = g_new(struct spawn_fd, options->n_fds + 1);
        for (size_t i = 0; i < options->n_fds; i++)
                fds[i] = options->fds[i];
        fds[options->n_fds] = (struct spawn_fd){control_fd, WORKER_CONTROL_FD};
        struct spawn_options spawned = {
                .path = options->program,
                .argv = options->argv,
                .environ = options->environ != NULL ? options->environ : empty,
                .fds = fds,
                .n_fds = options->n_fds + 1,
                .clone_flags = options->clone_flags,
        };
        if (!spawn(&spawned, &worker->child, error))
                return false;
        worker->pid = worker->child.pid;
        return true;
}

struct worker *worker_start(
        const struct worker_options *options, const struct worker_handler *handler, void *data, GError **error)
{
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
                error_fail_errno(error, errno, "make a control socket");
                return NULL;
        }
        fd_auto int theirs = pair[1];
        struct worker *worker = g_new0(struct worker, 1);
        worker->references = 2; // the caller's and the loop's
        worker->loop = options->loop;
        worker->handler = *handler;
        worker->data = data;
        worker->timeout_ms = options->timeout_ms;
        size_t max_bytes = options->max_record_bytes > 0 ? options->max_record_bytes : MAX_RECORD_BYTES;
        worker->records = records_new(pair[0], max_bytes);
        if (!start_program(worker, options, theirs, error)) {
                records_free(worker->records);
                g_free(worker);
                return NULL;
        }
        worker->name = g_strdup(options->argv[1] != NULL ? options->argv[1] : options->argv[0]);
        worker->strand =
                options->strand != NULL ? strand_ref(options->strand) : strand_new(options->lanes, options->lane);
        worker->cancel = options->cancel != NULL ? cancel_ref(options->cancel) : NULL;
        loop_post(worker->loop, start_on_loop, worker);
        return worker;
}

static void send_on_loop(void *data)
{
        struct delivery *delivery = data;
        struct worker *worker = delivery->worker;
        if (worker->records != NULL && !worker->half_close_wanted) {
                size_t n_bytes;
                const void *bytes = g_bytes_get_data(delivery->bytes, &n_bytes);
                records_send(worker->records, bytes, n_bytes, fd_take(&delivery->fd));
                flush(worker);
                update_watch(worker);
        }
        fd_close(&delivery->fd);
        g_bytes_unref(delivery->bytes);
        g_free(delivery);
        worker_unref(worker);
}

void worker_send_with(struct worker *worker, const ProtobufCMessage *message, int fd)
{
        size_t n_bytes = protobuf_c_message_get_packed_size(message);
        uint8_t *bytes = g_malloc(n_bytes + 1);
        protobuf_c_message_pack(message, bytes);
        struct delivery *delivery = g_new(struct delivery, 1);
        *delivery =
                (struct delivery){.worker = worker_ref(worker), .bytes = g_bytes_new_take(bytes, n_bytes), .fd = fd};
        loop_post(worker->loop, send_on_loop, delivery);
}

void worker_send(struct worker *worker, const ProtobufCMessage *message)
{
        worker_send_with(worker, message, -1);
}

static void half_close_on_loop(void *data)
{
        struct worker *worker = data;
        worker->half_close_wanted = true;
        if (worker->records != NULL)
                flush(worker);
        worker_unref(worker);
}

void worker_half_close(struct worker *worker)
{
        loop_post(worker->loop, half_close_on_loop, worker_ref(worker));
}
