// SPDX-License-Identifier: Apache-2.0
//
// Per host there is at most one handler: made from the first challenge that we understand, with credentials that are
// asked once. A bearer handler keeps its tokens by scope; while one is being fetched, later callers queue behind it, so
// that ten layers at once ask for one token. A token is dropped when it expires or when a request that carried it was
// answered with 401. Realm URLs come from the registry, as the protocol wants it: credentials go where it points.
#include "remote/auth.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/words.h"
#include "remote/challenge.h"

#include <jansson.h>
#include <string.h>

#define MAX_TOKEN_ANSWER_BYTES (1024 * 1024)
#define MAX_TOKEN_BYTES (64 * 1024)
#define EXPIRY_MARGIN_NS (5 * NS_PER_SECOND)

struct waiting {
        auth_header_fn done;
        void *data;
};

struct token {
        struct handler *handler;
        char *scopes; // sorted, with blanks
        char *header; // "Bearer …"; NULL: being fetched
        int64_t expires_ns;
        GArray *waiting;
        struct http_request *request;
        struct http_tls tls; // strings are the hosts', which live as long as the process
        bool tried_post;
};

struct handler {
        struct auth *auth;
        enum challenge_scheme scheme;
        char *realm, *service, *scope;
        char *username, *secret, *header;
        GHashTable *tokens; // scopes → struct token *
};

struct auth {
        struct reactor *reactor;
        char *user_agent;
        struct auth_asker asker;
        GHashTable *handlers; // host → struct handler *
};

static void token_free(void *data)
{
        struct token *token = data;
        if (token->request != NULL)
                http_request_cancel(token->request);
        g_array_unref(token->waiting);
        g_free(token->scopes);
        g_free(token->header);
        g_free(token);
}

static void handler_free(void *data)
{
        struct handler *handler = data;
        g_hash_table_unref(handler->tokens);
        g_free(handler->realm);
        g_free(handler->service);
        g_free(handler->scope);
        g_free(handler->username);
        g_free(handler->secret);
        g_free(handler->header);
        g_free(handler);
}

struct auth *auth_new(struct reactor *reactor, const char *user_agent, const struct auth_asker *asker)
{
        struct auth *auth = g_new0(struct auth, 1);
        auth->reactor = reactor;
        auth->user_agent = g_strdup(user_agent);
        auth->asker = *asker;
        auth->handlers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, handler_free);
        return auth;
}

void auth_free(struct auth *auth)
{
        g_hash_table_unref(auth->handlers);
        g_free(auth->user_agent);
        g_free(auth);
}

// ---- tokens

// Takes the token out of the table on failure, so that the next caller tries again, and answers all that wait.
static void token_finish(struct token *token, const GError *error)
{
        g_autoptr(GArray) waiting = g_steal_pointer(&token->waiting);
        token->waiting = g_array_new(FALSE, FALSE, sizeof(struct waiting));
        g_autofree char *header = g_strdup(token->header);
        token->request = NULL;
        if (error != NULL)
                g_hash_table_remove(token->handler->tokens, token->scopes);
        for (size_t i = 0; i < waiting->len; i++) {
                struct waiting one = g_array_index(waiting, struct waiting, i);
                one.done(one.data, error == NULL ? header : NULL, error);
        }
}

static bool token_read(struct token *token, const GByteArray *body, GError **error)
{
        json_error_t problem;
        json_t *root = json_loadb((const char *)body->data, body->len, 0, &problem);
        if (root == NULL)
                return error_fail(error, ERROR_UNAVAILABLE, "unable to decode token response: %s", problem.text);
        const char *text = json_string_value(json_object_get(root, "access_token"));
        if (text == NULL || text[0] == '\0')
                text = json_string_value(json_object_get(root, "token"));
        json_int_t lifetime_s = json_integer_value(json_object_get(root, "expires_in"));
        bool good = text != NULL && text[0] != '\0' && strlen(text) <= MAX_TOKEN_BYTES && strpbrk(text, "\r\n") == NULL;
        if (good) {
                token->header = g_strconcat("Bearer ", text, NULL);
                token->expires_ns = INT64_MAX;
                if (lifetime_s > 0 && lifetime_s < 10 * 365 * 86400)
                        token->expires_ns = clock_monotonic_ns() + MAX(lifetime_s * NS_PER_SECOND - EXPIRY_MARGIN_NS,
                                                                           lifetime_s * NS_PER_SECOND / 2);
        }
        json_decref(root);
        return good ||
               error_fail(error, ERROR_UNAUTHENTICATED, "authorization server did not include a token in the response");
}

static void token_fetch(struct token *token, bool post);

static void on_token_answer(
        void *data, const struct http_response *response, enum http_failure failure, const GError *reason)
{
        struct token *token = data;
        struct handler *handler = token->handler;
        bool has_secret = handler->secret[0] != '\0';
        g_autoptr(GError) error = NULL;
        if (failure != HTTP_NO_FAILURE) {
                error = g_error_copy(reason);
        } else if (response->status >= 200 && response->status < 400) {
                token_read(token, response->body, &error);
        } else if (token->tried_post &&
                   ((response->status == 405 && handler->username[0] != '\0') || response->status == 404 ||
                           response->status == 401 || response->status == 400)) {
                // Token servers without the OAuth2 flow answer its POST in one of these ways.
                token_fetch(token, false);
                return;
        } else {
                g_autofree char *status = http_status_text(response->status);
                error_fail(&error, response->status == 401 ? ERROR_UNAUTHENTICATED : ERROR_UNKNOWN,
                        "unexpected status from %s request to %s: %s", token->tried_post ? "POST" : "GET",
                        response->url, status);
        }
        if (error != NULL)
                g_prefix_error(
                        &error, has_secret ? "failed to fetch oauth token: " : "failed to fetch anonymous token: ");
        token_finish(token, error);
}

static void append_parameter(GString *text, const char *name, const char *value)
{
        char *escaped = curl_easy_escape(NULL, value, 0);
        g_string_append_printf(text, "%s%s=%s", text->len > 0 ? "&" : "", name, escaped);
        curl_free(escaped);
}

static char *token_form(const struct handler *handler, const char *scopes)
{
        g_autoptr(GString) form = g_string_new(NULL);
        bool password = handler->username[0] != '\0';
        append_parameter(form, "grant_type", password ? "password" : "refresh_token");
        append_parameter(form, "service", handler->service);
        append_parameter(form, "client_id", "containerd-client");
        if (scopes[0] != '\0')
                append_parameter(form, "scope", scopes);
        if (password) {
                append_parameter(form, "username", handler->username);
                append_parameter(form, "password", handler->secret);
        } else {
                append_parameter(form, "refresh_token", handler->secret);
        }
        return g_string_free(g_steal_pointer(&form), FALSE);
}

static char *token_url(const struct handler *handler, const char *scopes)
{
        g_autoptr(GString) query = g_string_new(NULL);
        if (handler->service[0] != '\0')
                append_parameter(query, "service", handler->service);
        g_auto(GStrv) parts = g_strsplit(scopes, " ", -1);
        for (size_t i = 0; parts[i] != NULL; i++)
                if (parts[i][0] != '\0')
                        append_parameter(query, "scope", parts[i]);
        return g_strdup_printf("%s%s%s", handler->realm, strchr(handler->realm, '?') != NULL ? "&" : "?", query->str);
}

static char *basic_header(const char *username, const char *secret)
{
        g_autofree char *pair = g_strconcat(username, ":", secret, NULL);
        g_autofree char *encoded = g_base64_encode((const guchar *)pair, strlen(pair));
        return g_strconcat("Basic ", encoded, NULL);
}

static void token_fetch(struct token *token, bool post)
{
        static const struct http_handler on_answer = {.on_done = on_token_answer};
        struct handler *handler = token->handler;
        g_autofree char *form = post ? token_form(handler, token->scopes) : NULL;
        g_autofree char *url = post ? g_strdup(handler->realm) : token_url(handler, token->scopes);
        g_autofree char *agent = g_strconcat("User-Agent: ", handler->auth->user_agent, NULL);
        g_autofree char *basic = basic_header(handler->username, handler->secret);
        g_autofree char *authorization = g_strconcat("Authorization: ", basic, NULL);
        bool with_basic = !post && handler->secret[0] != '\0';
        const char *headers[] = {agent, with_basic ? authorization : NULL, NULL};
        token->tried_post = post;
        token->request = http_request_start(handler->auth->reactor, &(struct http_options){
                                                                            .method = post ? "POST" : "GET",
                                                                            .url = url,
                                                                            .headers = headers,
                                                                            .form = form,
                                                                            .body_fd = -1,
                                                                            .tls = token->tls,
                                                                            .max_body_bytes = MAX_TOKEN_ANSWER_BYTES,
                                                                            .handler = &on_answer,
                                                                            .data = token,
                                                                    });
}

static void bearer_authorize(struct handler *handler, const struct auth_target *target, auth_header_fn done, void *data)
{
        g_autofree char *scopes = words_merge(" ", target->scope, handler->scope);
        struct token *token = g_hash_table_lookup(handler->tokens, scopes);
        if (token != NULL && token->header != NULL) {
                if (clock_monotonic_ns() < token->expires_ns) {
                        done(data, token->header, NULL);
                        return;
                }
                g_hash_table_remove(handler->tokens, scopes);
                token = NULL;
        }
        bool fresh = token == NULL;
        if (fresh) {
                token = g_new0(struct token, 1);
                token->handler = handler;
                token->scopes = g_strdup(scopes);
                token->waiting = g_array_new(FALSE, FALSE, sizeof(struct waiting));
                token->tls = target->tls;
                g_hash_table_insert(handler->tokens, token->scopes, token);
        }
        struct waiting one = {done, data};
        g_array_append_val(token->waiting, one);
        if (fresh)
                token_fetch(token, handler->secret[0] != '\0');
}

void auth_authorize(struct auth *auth, const struct auth_target *target, auth_header_fn done, void *data)
{
        struct handler *handler = g_hash_table_lookup(auth->handlers, target->host);
        if (handler == NULL) {
                done(data, NULL, NULL);
        } else if (handler->header[0] != '\0') {
                done(data, handler->header, NULL);
        } else if (handler->scheme == CHALLENGE_BASIC) {
                g_autofree char *header = basic_header(handler->username, handler->secret);
                done(data, header, NULL);
        } else {
                bearer_authorize(handler, target, done, data);
        }
}

// ---- challenges

struct challenged {
        struct auth *auth;
        char *host;
        struct challenge challenge;
        auth_challenged_fn done;
        void *data;
};

static void challenged_free(struct challenged *challenged)
{
        challenge_done(&challenged->challenge);
        g_free(challenged->host);
        g_free(challenged);
}

static char *parameter_or_empty(const struct challenge *challenge, const char *name)
{
        const char *value = challenge_parameter(challenge, name);
        return g_strdup(value != NULL ? value : "");
}

static bool realm_valid(const char *realm, GError **error)
{
        if (realm == NULL)
                return error_fail(error, ERROR_UNAUTHENTICATED, "no realm specified for token auth challenge");
        if (!g_str_has_prefix(realm, "http://") && !g_str_has_prefix(realm, "https://"))
                return error_fail(error, ERROR_UNAUTHENTICATED, "invalid token auth challenge realm: \"%s\"", realm);
        return true;
}

static bool handler_add(struct challenged *challenged, const struct auth_credentials *credentials, GError **error)
{
        const struct challenge *challenge = &challenged->challenge;
        bool basic = challenge->scheme == CHALLENGE_BASIC, raw = credentials->header[0] != '\0';
        if (basic && !raw && (credentials->username[0] == '\0' || credentials->secret[0] == '\0'))
                return error_fail(error, ERROR_UNAUTHENTICATED, "authorization failed: no basic auth credentials");
        if (!basic && !realm_valid(challenge_parameter(challenge, "realm"), error))
                return false;
        if (strpbrk(credentials->header, "\r\n") != NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "authorization header holds a line break");
        struct handler *handler = g_new0(struct handler, 1);
        handler->auth = challenged->auth;
        handler->scheme = challenge->scheme;
        handler->realm = parameter_or_empty(challenge, "realm");
        handler->service = parameter_or_empty(challenge, "service");
        handler->scope = parameter_or_empty(challenge, "scope");
        handler->username = g_strdup(credentials->username);
        handler->secret = g_strdup(credentials->secret);
        handler->header = g_strdup(credentials->header);
        handler->tokens = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, token_free);
        g_hash_table_replace(challenged->auth->handlers, g_strdup(challenged->host), handler);
        return true;
}

static void on_credentials(void *data, const struct auth_credentials *credentials, const GError *reason)
{
        struct challenged *challenged = data;
        g_autoptr(GError) error = reason != NULL ? g_error_copy(reason) : NULL;
        // Two requests may have been challenged at the same time: the first answer stays.
        bool known = g_hash_table_contains(challenged->auth->handlers, challenged->host);
        bool ready = error == NULL && (known || handler_add(challenged, credentials, &error));
        challenged->done(challenged->data, ready, error);
        challenged_free(challenged);
}

// The best of the challenges that we can answer. Basic is of no use without somebody to ask.
static bool choose(const struct auth *auth, const struct http_response *response, struct challenge *ret_challenge)
{
        bool found = false;
        const char *header;
        for (size_t i = 0; (header = http_response_header(response, "www-authenticate", i)) != NULL; i++) {
                struct challenge challenge;
                if (!challenge_parse(header, &challenge))
                        continue;
                bool usable = challenge.scheme == CHALLENGE_BEARER ||
                              (challenge.scheme == CHALLENGE_BASIC && auth->asker.ask != NULL);
                if (!usable || (found && ret_challenge->scheme <= challenge.scheme)) {
                        challenge_done(&challenge);
                        continue;
                }
                if (found)
                        challenge_done(ret_challenge);
                *ret_challenge = challenge;
                found = true;
        }
        return found;
}

void auth_challenged(struct auth *auth, const struct auth_target *target, const struct http_response *response,
        bool sent, auth_challenged_fn done, void *data)
{
        struct challenge challenge;
        if (!choose(auth, response, &challenge)) {
                done(data, false, NULL);
                return;
        }
        struct handler *handler = g_hash_table_lookup(auth->handlers, target->host);
        if (handler != NULL && !sent) {
                challenge_done(&challenge); // somebody else was faster
                done(data, true, NULL);
                return;
        }
        if (handler != NULL && handler->scheme == CHALLENGE_BEARER && challenge.scheme == CHALLENGE_BEARER) {
                g_autofree char *scopes = words_merge(" ", target->scope, handler->scope);
                struct token *token = g_hash_table_lookup(handler->tokens, scopes);
                if (token != NULL && token->header != NULL)
                        g_hash_table_remove(handler->tokens, scopes);
                challenge_done(&challenge);
                done(data, true, NULL);
                return;
        }
        if (handler != NULL) {
                challenge_done(&challenge);
                done(data, false, NULL); // the credentials are wrong
                return;
        }
        struct challenged *challenged = g_new0(struct challenged, 1);
        *challenged = (struct challenged){auth, g_strdup(target->host), challenge, done, data};
        if (auth->asker.ask == NULL) {
                on_credentials(challenged, &(struct auth_credentials){"", "", ""}, NULL);
                return;
        }
        g_autoptr(GPtrArray) challenges = g_ptr_array_new();
        const char *header;
        for (size_t i = 0; (header = http_response_header(response, "www-authenticate", i)) != NULL; i++)
                g_ptr_array_add(challenges, (char *)header);
        g_ptr_array_add(challenges, NULL);
        auth->asker.ask(
                auth->asker.data, target->host, (const char *const *)challenges->pdata, on_credentials, challenged);
}
