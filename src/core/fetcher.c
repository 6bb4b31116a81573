// SPDX-License-Identifier: Apache-2.0
//
// Calls wait in a table by the id of their command. What the process answers is not to be trusted: a reply must name a
// call that is under way and be of its kind, its digest must be one and its texts short; anything else ends the
// process, and with it every call.
#include "core/fetcher.h"

#include "base/digest.h"
#include "base/message.h"
#include "core/worker.h"

#include <string.h>

enum { MAX_RECORD_BYTES = 256 * 1024, MAX_MEDIA_TYPE_BYTES = 256, MAX_CHALLENGES = 16, MAX_QUESTIONS = 64 };

struct fetcher {
        struct worker *worker;
        struct fetcher_handler handler;
        void *data;
        GHashTable *calls; // id → struct call *
        uint64_t last_id;
        unsigned n_questions; // for credentials, not answered yet
        GError *setup_error;  // what made the first command fail: the reason for all that follows
};

struct call {
        uint64_t id;
        fetcher_resolved_fn resolved;
        fetcher_done_fn done;
        void *data;
};

static void call_fail(struct fetcher *fetcher, struct call *call, const GError *error)
{
        const GError *reason = fetcher->setup_error != NULL ? fetcher->setup_error : error;
        if (call->resolved != NULL)
                call->resolved(call->data, NULL, reason);
        else if (call->done != NULL)
                call->done(call->data, NULL, reason);
        else if (fetcher->setup_error == NULL)
                fetcher->setup_error = g_error_copy(error);
}

static bool malformed(GError **error)
{
        return error_fail(error, ERROR_INTERNAL, "skiff-fetch sent a malformed reply");
}

static bool check_resolved(const Fetch__Resolved *resolved, GError **error)
{
        bool good = digest_parse(resolved->digest, NULL, NULL) && resolved->size >= 0 &&
                    strlen(resolved->media_type) <= MAX_MEDIA_TYPE_BYTES;
        return good || malformed(error);
}

static bool ask_credentials(struct fetcher *fetcher, const Fetch__CredentialsRequest *request, GError **error)
{
        if (fetcher->handler.on_credentials == NULL || fetcher->n_questions == MAX_QUESTIONS ||
                request->n_www_authenticate > MAX_CHALLENGES)
                return malformed(error);
        g_autoptr(GPtrArray) challenges = g_ptr_array_new();
        for (size_t i = 0; i < request->n_www_authenticate; i++)
                g_ptr_array_add(challenges, request->www_authenticate[i]);
        g_ptr_array_add(challenges, NULL);
        fetcher->n_questions++;
        fetcher->handler.on_credentials(fetcher->data, request->host, (const char *const *)challenges->pdata);
        return true;
}

static bool take_reply(struct fetcher *fetcher, const Fetch__Reply *reply, GError **error)
{
        if (reply->credentials != NULL)
                return ask_credentials(fetcher, reply->credentials, error);
        struct call *call = g_hash_table_lookup(fetcher->calls, &reply->id);
        if (call == NULL)
                return malformed(error);
        bool wants_resolved = call->resolved != NULL;
        if (reply->error == NULL && (wants_resolved ? reply->resolved == NULL : reply->done == NULL))
                return malformed(error);
        if (wants_resolved && reply->resolved != NULL && !check_resolved(reply->resolved, error))
                return false;
        g_hash_table_steal(fetcher->calls, &reply->id);
        if (reply->error != NULL) {
                g_autoptr(GError) failure = NULL;
                int code = reply->error->code;
                bool known = code >= ERROR_CANCELED && code <= ERROR_UNAUTHENTICATED;
                error_fail(&failure, known ? (enum error_code)code : ERROR_UNKNOWN, "%s", reply->error->message);
                call_fail(fetcher, call, failure);
        } else if (wants_resolved) {
                call->resolved(call->data, reply->resolved, NULL);
        } else if (call->done != NULL) {
                call->done(call->data, reply->done, NULL);
        }
        g_free(call);
        return true;
}

static bool on_record(void *data, const uint8_t *bytes, size_t n_bytes, GError **error)
{
        struct fetcher *fetcher = data;
        AUTO(arena) arena = arena_new();
        const Fetch__Reply *reply =
                (const Fetch__Reply *)message_decode(&fetch__reply__descriptor, bytes, n_bytes, arena, NULL);
        return reply != NULL ? take_reply(fetcher, reply, error) : malformed(error);
}

static void on_end(void *data, const GError *reason)
{
        struct fetcher *fetcher = data;
        g_autoptr(GError) error = NULL;
        if (reason != NULL)
                error = g_error_copy(reason);
        else
                error_fail(&error, ERROR_UNAVAILABLE, "skiff-fetch has ended");
        g_autoptr(GHashTable) calls = g_steal_pointer(&fetcher->calls);
        fetcher->calls = g_hash_table_new(g_int64_hash, g_int64_equal);
        GHashTableIter iter;
        gpointer call;
        g_hash_table_iter_init(&iter, calls);
        while (g_hash_table_iter_next(&iter, NULL, &call)) {
                call_fail(fetcher, call, error);
                g_free(call);
        }
        fetcher->handler.on_end(fetcher->data);
}

static struct call *call_new(struct fetcher *fetcher, fetcher_resolved_fn resolved, fetcher_done_fn done, void *data)
{
        struct call *call = g_new0(struct call, 1);
        *call = (struct call){++fetcher->last_id, resolved, done, data};
        g_hash_table_insert(fetcher->calls, &call->id, call);
        return call;
}

struct fetcher *fetcher_start(const struct fetcher_options *options, GError **error)
{
        static const struct worker_handler worker_handler = {on_record, on_end};
        struct fetcher *fetcher = g_new0(struct fetcher, 1);
        fetcher->handler = *options->handler;
        fetcher->data = options->data;
        fetcher->calls = g_hash_table_new(g_int64_hash, g_int64_equal);
        g_autofree char *uid = g_strdup_printf("%u", worker_user(options->worker_uid));
        const char *argv[] = {"skiff-fetch", uid, NULL};
        static const char *const no_environment[] = {NULL};
        fetcher->worker = worker_start(
                &(struct worker_options){
                        .loop = options->loop,
                        .lanes = options->lanes,
                        .strand = options->strand,
                        .lane = LANE_SLOW,
                        .program = options->program,
                        .argv = argv,
                        .environ = no_environment,
                        .max_record_bytes = MAX_RECORD_BYTES,
                },
                &worker_handler, fetcher, error);
        if (fetcher->worker == NULL) {
                g_hash_table_unref(fetcher->calls);
                g_free(fetcher);
                return NULL;
        }
        Fetch__Setup setup = *options->setup;
        Fetch__Command command = FETCH__COMMAND__INIT;
        setup.ask_credentials = options->handler->on_credentials != NULL;
        command.id = call_new(fetcher, NULL, NULL, NULL)->id;
        command.setup = &setup;
        worker_send(fetcher->worker, &command.base);
        return fetcher;
}

void fetcher_stop(struct fetcher *fetcher, const GError *reason)
{
        worker_kill(fetcher->worker, reason);
}

void fetcher_free(struct fetcher *fetcher)
{
        worker_unref(fetcher->worker);
        g_hash_table_unref(fetcher->calls);
        g_clear_error(&fetcher->setup_error);
        g_free(fetcher);
}

void fetcher_resolve(struct fetcher *fetcher, fetcher_resolved_fn done, void *data)
{
        Fetch__Resolve resolve = FETCH__RESOLVE__INIT;
        Fetch__Command command = FETCH__COMMAND__INIT;
        command.id = call_new(fetcher, done, NULL, data)->id;
        command.resolve = &resolve;
        worker_send(fetcher->worker, &command.base);
}

void fetcher_get(struct fetcher *fetcher, const Fetch__Get *get, int fd, fetcher_done_fn done, void *data)
{
        Fetch__Command command = FETCH__COMMAND__INIT;
        command.id = call_new(fetcher, NULL, done, data)->id;
        command.get = (Fetch__Get *)get;
        worker_send_with(fetcher->worker, &command.base, fd);
}

void fetcher_credentials(struct fetcher *fetcher, const Fetch__Credentials *credentials)
{
        Fetch__Command command = FETCH__COMMAND__INIT;
        fetcher->n_questions--;
        command.id = ++fetcher->last_id;
        command.credentials = (Fetch__Credentials *)credentials;
        worker_send(fetcher->worker, &command.base);
}
