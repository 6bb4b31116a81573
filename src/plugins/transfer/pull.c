// SPDX-License-Identifier: Apache-2.0
//
// A pull: resolve the name, walk what it stands for, store the names. The fetcher's process lives as long as the pull;
// its end is waited for, so that nothing is left running when the client is answered. Credentials are asked from the
// client, one question after the other, over the stream that it opened for them.
#include "base/reference.h"
#include "core/fetcher.h"
#include "plugins/transfer/hosts.h"
#include "plugins/transfer/kinds.h"
#include "plugins/transfer/progress.h"
#include "plugins/transfer/walk.h"

#include <string.h>

struct pull {
        struct operation *operation;
        const TransferTypes__OCIRegistry *source;
        struct reference reference;
        struct fetcher *fetcher;
        struct walk *walk;
        struct node root;
        struct stream *auth;
        GQueue questions; // of host names; the first one has been asked
        bool ended, closing;
        struct cancel_note note; // while the fetcher runs
};

static void pull_free(void *data)
{
        struct pull *pull = data;
        if (pull->walk != NULL)
                walk_free(pull->walk);
        if (pull->fetcher != NULL)
                fetcher_free(pull->fetcher);
        reference_done(&pull->reference);
        g_queue_clear_full(&pull->questions, g_free);
        g_free(pull);
}

static void announce(struct pull *pull, const char *what)
{
        g_autofree char *text = g_strdup_printf("%s from OCI Registry (%s)", what, pull->source->reference);
        progress_event(pull->operation->progress, text, NULL, NULL);
}

static void on_fail(struct operation *operation)
{
        struct pull *pull = operation->state;
        if (pull->fetcher != NULL && !pull->ended)
                fetcher_stop(pull->fetcher, operation->error);
        if (pull->walk != NULL)
                walk_stop(pull->walk);
}

// ---- credentials

struct answer {
        struct pull *pull;
        TransferTypes__AuthResponse *response; // NULL: there is no answer
};

static void ask_next(struct pull *pull)
{
        TransferTypes__AuthRequest request = TRANSFER_TYPES__AUTH_REQUEST__INIT;
        request.host = g_queue_peek_head(&pull->questions);
        request.reference = pull->source->reference;
        if (request.host != NULL)
                stream_send(pull->auth, &request.base);
}

static void take_answer(struct pull *pull, const TransferTypes__AuthResponse *response)
{
        g_autofree char *host = g_queue_pop_head(&pull->questions);
        if (host == NULL || pull->ended)
                return;
        Fetch__Credentials credentials = FETCH__CREDENTIALS__INIT;
        credentials.host = host;
        if (response == NULL)
                credentials.error = (char *)"the client gives no credentials";
        else if (response->authtype == TRANSFER_TYPES__AUTH_TYPE__HEADER)
                credentials.header = response->secret;
        else if (response->authtype != TRANSFER_TYPES__AUTH_TYPE__NONE)
                credentials.secret = response->secret;
        if (response != NULL && response->authtype == TRANSFER_TYPES__AUTH_TYPE__CREDENTIALS)
                credentials.username = response->username;
        fetcher_credentials(pull->fetcher, &credentials);
        ask_next(pull);
}

static void on_answer_here(void *data)
{
        struct answer *answer = data;
        struct pull *pull = answer->pull;
        if (answer->response != NULL) {
                take_answer(pull, answer->response);
                transfer_types__auth_response__free_unpacked(answer->response, NULL);
        } else {
                while (pull->questions.length > 0)
                        take_answer(pull, NULL);
        }
        operation_unref(pull->operation);
        g_free(answer);
}

static void submit_answer(struct pull *pull, TransferTypes__AuthResponse *response)
{
        struct answer *answer = g_new(struct answer, 1);
        *answer = (struct answer){pull, response};
        operation_ref(pull->operation);
        operation_submit(pull->operation, on_answer_here, answer);
}

static void on_auth_message(void *data, const char *type_url, const void *value, size_t n_value)
{
        TransferTypes__AuthResponse *response = transfer_types__auth_response__unpack(NULL, n_value, value);
        if (response != NULL)
                submit_answer(data, response);
}

static void on_auth_end(void *data)
{
        submit_answer(data, NULL);
}

static void on_auth_free(void *data)
{
        operation_unref(((struct pull *)data)->operation);
}

static void on_credentials(void *data, const char *host, const char *const *challenges)
{
        struct pull *pull = data;
        g_queue_push_tail(&pull->questions, g_strdup(host));
        if (stream_is_ended(pull->auth))
                take_answer(pull, NULL);
        else if (pull->questions.length == 1)
                ask_next(pull);
}

// ---- the steps

static void on_fetcher_end(void *data)
{
        struct pull *pull = data;
        struct operation *operation = pull->operation;
        pull->ended = true;
        cancel_note_clear(&pull->note);
        if (pull->closing) {
                operation_release(operation);
        } else if (!operation_failed(operation)) {
                GError *error = NULL;
                error_fail(&error, ERROR_UNAVAILABLE, "skiff-fetch has ended");
                operation_fail(operation, error);
        }
}

static void close_fetcher(struct operation *operation)
{
        struct pull *pull = operation->state;
        pull->closing = true;
        if (pull->fetcher == NULL || pull->ended)
                operation_release(operation);
        else
                fetcher_stop(pull->fetcher, NULL); // on_fetcher_end gives the hold back
}

static void finish(struct operation *operation)
{
        struct pull *pull = operation->state;
        GError *error = NULL;
        if (!names_store(operation, operation->request->destination.store, &pull->root, false, &error))
                operation_fail(operation, error);
        else
                announce(pull, "Completed pull");
}

// Without the port; what stands in brackets is an IPv6 address.
static int host_name_length(const char *host)
{
        return (int)(host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":"));
}

static void on_resolved(void *data, const Fetch__Resolved *resolved, const GError *reason)
{
        struct pull *pull = data;
        struct operation *operation = pull->operation;
        if (reason != NULL && !operation_failed(operation)) {
                GError *error = g_error_copy(reason);
                g_prefix_error(&error, "failed to resolve image: ");
                operation_fail(operation, error);
        }
        if (operation_failed(operation)) {
                operation_release(operation);
                return;
        }
        struct arena *arena = operation->arena;
        pull->root = (struct node){
                .media_type = arena_strdup(arena, resolved->media_type),
                .digest = arena_strdup(arena, resolved->digest),
                .size = resolved->size,
                .os_version = "",
                .artifact_type = "",
        };
        announce(pull, "Pulling");
        progress_event(operation->progress, "fetching image content", pull->source->reference, &pull->root);
        pull->walk = walk_new(&(struct walk_options){
                .operation = operation,
                .fetcher = pull->fetcher,
                .store = operation->request->destination.store,
                .root_name = pull->source->reference,
                .source_host =
                        arena_printf(arena, "%.*s", host_name_length(pull->reference.host), pull->reference.host),
                .source_repository = pull->reference.repository,
        });
        walk_start(pull->walk, &pull->root);
        operation_release(operation);
}

static bool start_fetcher(struct pull *pull, GError **error)
{
        static const struct fetcher_handler with_credentials = {on_credentials, on_fetcher_end};
        static const struct fetcher_handler without_credentials = {NULL, on_fetcher_end};
        struct operation *operation = pull->operation;
        const TransferTypes__RegistryResolver *resolver = pull->source->resolver;
        Fetch__Setup setup = FETCH__SETUP__INIT;
        setup.reference = pull->source->reference;
        setup.user_agent = (char *)"skiff/" SKIFF_VERSION;
        const struct hosts_request request = {
                .host = pull->reference.host,
                .directory = resolver != NULL && resolver->host_dir[0] != '\0' ? resolver->host_dir
                                                                               : operation->service->config_path,
                .default_scheme = resolver != NULL ? resolver->default_scheme : "",
        };
        if (!hosts_configure(&request, &setup, operation->arena, error))
                return false;
        size_t n = resolver != NULL ? resolver->n_headers : 0;
        setup.headers = arena_array(operation->arena, Fetch__Header *, n + 1);
        for (size_t i = 0; i < n; i++) {
                Fetch__Header *header = arena_new0(operation->arena, Fetch__Header);
                fetch__header__init(header);
                header->name = resolver->headers[i]->key;
                header->value = resolver->headers[i]->value;
                setup.headers[setup.n_headers++] = header;
        }
        pull->fetcher = fetcher_start(
                &(struct fetcher_options){
                        .loop = operation->service->loop,
                        .lanes = operation->service->lanes,
                        .strand = operation->strand,
                        .program = operation->service->fetch_program,
                        .worker_uid = unpacker_worker_uid(operation->service->differ->unpacker),
                        .setup = &setup,
                        .handler = pull->auth != NULL ? &with_credentials : &without_credentials,
                        .data = pull,
                },
                error);
        if (pull->fetcher != NULL)
                cancel_note_set(&pull->note, operation->stop, "skiff-fetch for %s", pull->source->reference);
        return pull->fetcher != NULL;
}

void pull_begin(struct operation *operation)
{
        static const struct stream_reader auth_reader = {
                .on_message = on_auth_message, .on_end = on_auth_end, .on_free = on_auth_free};
        struct pull *pull = g_new0(struct pull, 1);
        pull->operation = operation;
        pull->source = operation->request->source.registry;
        pull->auth = operation->request->source.stream;
        operation->state = pull;
        operation->state_free = pull_free;
        operation->on_fail = on_fail;
        operation->on_close = close_fetcher;
        operation->next = finish;
        announce(pull, "Resolving");
        GError *error = NULL;
        if (!reference_parse(pull->source->reference, &pull->reference, &error)) {
                g_prefix_error(&error, "failed to resolve image: ");
                operation_fail(operation, error);
                return;
        }
        if (!start_fetcher(pull, &error)) {
                operation_fail(operation, error);
                return;
        }
        operation_hold(operation); // on_resolved gives it back
        if (pull->auth != NULL)
                stream_attach(pull->auth, &auth_reader, pull);
        if (pull->auth != NULL)
                operation_ref(operation); // on_auth_free gives it back
        fetcher_resolve(pull->fetcher, on_resolved, pull);
}
