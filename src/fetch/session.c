// SPDX-License-Identifier: Apache-2.0
//
// Each command becomes a job of src/remote under its id; its end is one Reply with that id. The daemon is trusted, but
// a command out of order is answered with an error and not obeyed. A request for credentials waits in a table by host
// until the daemon answers it; two requests for one host are one question.
#include "fetch/session.h"

#include "base/digest.h"
#include "base/fd.h"
#include "remote/registry.h"
#include "skiff/fetch.pb-c.h"
#include "sys/records.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define MAX_COMMAND_BYTES (16 * 1024 * 1024)
#define MAX_MESSAGE_BYTES 8192

struct session {
        struct reactor *reactor;
        struct records *control;
        struct reactor_watch *watch;
        struct registry *registry;
        char *scratch_dir;
        unsigned n_files;
        GHashTable *commands;  // id → struct command *
        GHashTable *questions; // host → GArray of struct question
};

struct command {
        struct session *session;
        uint64_t id;
        struct registry_job *job;
};

struct question {
        auth_credentials_fn answer;
        void *data;
};

// ---- replies

static void send_reply(struct session *session, const Fetch__Reply *reply)
{
        g_autofree uint8_t *bytes = g_malloc(fetch__reply__get_packed_size(reply));
        size_t n_bytes = fetch__reply__pack(reply, bytes);
        records_send(session->control, bytes, n_bytes, -1);
        if (!records_flush(session->control, NULL))
                reactor_stop(session->reactor);
        reactor_watch_change(
                session->watch, CURL_WAIT_POLLIN | (records_has_unsent(session->control) ? CURL_WAIT_POLLOUT : 0));
}

static void reply_error(struct session *session, uint64_t id, const GError *error)
{
        g_autofree char *text =
                g_utf8_make_valid(error->message, (gssize)MIN(strlen(error->message), MAX_MESSAGE_BYTES));
        Fetch__Error record = FETCH__ERROR__INIT;
        Fetch__Reply reply = FETCH__REPLY__INIT;
        record.code = error_class(error);
        record.message = text;
        reply.id = id;
        reply.error = &record;
        send_reply(session, &reply);
}

static void refuse(struct session *session, uint64_t id, const char *reason)
{
        g_autoptr(GError) error = NULL;
        error_fail(&error, ERROR_FAILED_PRECONDITION, "%s", reason);
        reply_error(session, id, error);
}

// ---- jobs

static struct command *command_new(struct session *session, uint64_t id)
{
        struct command *command = g_new0(struct command, 1);
        command->session = session;
        command->id = id;
        g_hash_table_insert(session->commands, &command->id, command);
        return command;
}

static void command_free(void *data)
{
        struct command *command = data;
        if (command->job != NULL)
                registry_job_cancel(command->job);
        g_free(command);
}

static void command_end(struct command *command)
{
        command->job = NULL;
        g_hash_table_remove(command->session->commands, &command->id);
}

static void on_resolved(void *data, const struct descriptor *descriptor, const GError *error)
{
        struct command *command = data;
        if (error != NULL) {
                reply_error(command->session, command->id, error);
        } else {
                g_autofree char *media_type = g_utf8_make_valid(descriptor->media_type, -1);
                Fetch__Resolved resolved = FETCH__RESOLVED__INIT;
                Fetch__Reply reply = FETCH__REPLY__INIT;
                resolved.media_type = media_type;
                resolved.digest = (char *)descriptor->digest;
                resolved.size = descriptor->size;
                reply.id = command->id;
                reply.resolved = &resolved;
                send_reply(command->session, &reply);
        }
        command_end(command);
}

static void on_moved(void *data, int64_t n_bytes, bool existed, const GError *error)
{
        struct command *command = data;
        if (error != NULL) {
                reply_error(command->session, command->id, error);
        } else {
                Fetch__Done done = FETCH__DONE__INIT;
                Fetch__Reply reply = FETCH__REPLY__INIT;
                done.n_bytes = n_bytes;
                done.existed = existed;
                reply.id = command->id;
                reply.done = &done;
                send_reply(command->session, &reply);
        }
        command_end(command);
}

static void start_get(struct session *session, uint64_t id, const Fetch__Get *get, int fd)
{
        g_autoptr(GError) error = NULL;
        if (fd < 0)
                error_fail(&error, ERROR_INVALID_ARGUMENT, "no descriptor to write to");
        else if (get->size < 0 || get->offset < 0 || get->offset > get->size)
                error_fail(&error, ERROR_INVALID_ARGUMENT, "size and offset do not match");
        else if (digest_parse(get->digest, NULL, &error))
                fcntl(fd, F_SETFL, O_NONBLOCK);
        if (error != NULL) {
                reply_error(session, id, error);
                fd_close(&fd);
                return;
        }
        struct command *command = command_new(session, id);
        struct descriptor descriptor = {get->media_type, get->digest, get->size};
        command->job = registry_get(session->registry, &descriptor, get->offset, fd, on_moved, command);
}

// ---- credentials

static void ask(
        void *data, const char *host, const char *const *challenges, auth_credentials_fn answer, void *answer_data)
{
        struct session *session = data;
        GArray *questions = g_hash_table_lookup(session->questions, host);
        bool first = questions == NULL;
        if (first) {
                questions = g_array_new(FALSE, FALSE, sizeof(struct question));
                g_hash_table_insert(session->questions, g_strdup(host), questions);
        }
        struct question question = {answer, answer_data};
        g_array_append_val(questions, question);
        if (!first)
                return;
        g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free); // headers may hold any bytes
        for (; *challenges != NULL; challenges++)
                g_ptr_array_add(texts, g_utf8_make_valid(*challenges, -1));
        Fetch__CredentialsRequest request = FETCH__CREDENTIALS_REQUEST__INIT;
        Fetch__Reply reply = FETCH__REPLY__INIT;
        request.host = (char *)host;
        request.www_authenticate = (char **)texts->pdata;
        request.n_www_authenticate = texts->len;
        reply.credentials = &request;
        send_reply(session, &reply);
}

static void take_credentials(struct session *session, const Fetch__Credentials *credentials)
{
        g_autofree char *key = NULL;
        g_autoptr(GArray) questions = NULL;
        if (!g_hash_table_steal_extended(
                    session->questions, credentials->host, (gpointer *)&key, (gpointer *)&questions))
                return;
        g_autoptr(GError) error = NULL;
        if (credentials->error[0] != '\0')
                error_fail(&error, ERROR_UNAUTHENTICATED, "%s", credentials->error);
        struct auth_credentials answer = {credentials->username, credentials->secret, credentials->header};
        for (size_t i = 0; i < questions->len; i++) {
                struct question question = g_array_index(questions, struct question, i);
                question.answer(question.data, error == NULL ? &answer : NULL, error);
        }
}

// ---- setup

static char *write_file(struct session *session, const char *content, size_t n_bytes, GError **error)
{
        char *path = g_strdup_printf("%s/%u.pem", session->scratch_dir, session->n_files++);
        fd_auto int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        size_t n_written = 0;
        while (fd >= 0 && n_written < n_bytes) {
                ssize_t n = write(fd, content + n_written, n_bytes - n_written);
                if (n < 0)
                        break;
                n_written += (size_t)n;
        }
        if (fd >= 0 && n_written == n_bytes)
                return path;
        error_fail_errno(error, errno, "write certificate %s", path);
        g_free(path);
        return NULL;
}

// curl takes one file: the system's certificates and the host's own are put together.
static char *write_ca(struct session *session, const ProtobufCBinaryData *ca, GError **error)
{
        g_autoptr(GString) all = g_string_new(NULL);
        const char *system = curl_version_info(CURLVERSION_NOW)->cainfo;
        g_autofree char *content = NULL;
        gsize n_content = 0;
        if (system != NULL && g_file_get_contents(system, &content, &n_content, NULL))
                g_string_append_len(all, content, (gssize)n_content);
        g_string_append_c(all, '\n');
        g_string_append_len(all, (const char *)ca->data, (gssize)ca->len);
        return write_file(session, all->str, all->len, error);
}

static char **header_lines(Fetch__Header *const *headers, size_t n, GError **error)
{
        g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
        for (size_t i = 0; i < n; i++) {
                if (headers[i]->name[0] == '\0' || strpbrk(headers[i]->name, "\r\n: ") != NULL ||
                        strpbrk(headers[i]->value, "\r\n") != NULL) {
                        error_fail(error, ERROR_INVALID_ARGUMENT, "invalid header \"%s\"", headers[i]->name);
                        return NULL;
                }
                g_ptr_array_add(lines, g_strconcat(headers[i]->name, ": ", headers[i]->value, NULL));
        }
        g_ptr_array_add(lines, NULL);
        char **array = (char **)lines->pdata;
        g_ptr_array_free(g_steal_pointer(&lines), FALSE);
        return array;
}

static struct registry_host *make_host(struct session *session, const Fetch__Host *record, GError **error)
{
        struct registry_host *host = g_new0(struct registry_host, 1);
        host->scheme = g_strdup(record->scheme);
        host->host = g_strdup(record->host);
        host->path = g_strdup(record->path);
        host->pull = record->pull;
        host->resolve = record->resolve;
        host->push = record->push;
        host->skip_verify = record->skip_verify;
        host->http_fallback = record->http_fallback;
        host->connect_timeout_ms = record->connect_timeout_ms;
        host->headers = header_lines(record->headers, record->n_headers, error);
        bool good = host->headers != NULL;
        if (good && strcmp(host->scheme, "http") != 0 && strcmp(host->scheme, "https") != 0)
                good = error_fail(error, ERROR_INVALID_ARGUMENT, "unsupported scheme \"%s\"", host->scheme);
        if (good && record->ca.len > 0)
                good = (host->ca_file = write_ca(session, &record->ca, error)) != NULL;
        if (good && record->client_certificate.len > 0) {
                const ProtobufCBinaryData *certificate = &record->client_certificate, *key = &record->client_key;
                host->certificate_file = write_file(session, (char *)certificate->data, certificate->len, error);
                if (host->certificate_file != NULL)
                        host->key_file = key->len > 0 ? write_file(session, (char *)key->data, key->len, error)
                                                      : g_strdup(host->certificate_file);
                good = host->key_file != NULL;
        }
        if (good)
                return host;
        registry_host_free(host);
        return NULL;
}

static bool apply_setup(struct session *session, const Fetch__Setup *setup, GError **error)
{
        g_autoptr(GPtrArray) hosts = g_ptr_array_new_with_free_func((GDestroyNotify)registry_host_free);
        for (size_t i = 0; i < setup->n_hosts; i++) {
                struct registry_host *host = make_host(session, setup->hosts[i], error);
                if (host == NULL)
                        return false;
                g_ptr_array_add(hosts, host);
        }
        g_auto(GStrv) headers = header_lines(setup->headers, setup->n_headers, error);
        if (headers == NULL)
                return false;
        struct auth_asker asker = {setup->ask_credentials ? ask : NULL, session};
        struct registry *registry = registry_new(
                session->reactor, setup->reference, g_steal_pointer(&hosts), setup->user_agent, &asker, error);
        if (registry == NULL)
                return false;
        // A client's own Accept takes the place of ours when resolving, and only there.
        for (size_t i = 0; headers[i] != NULL; i++) {
                if (g_ascii_strncasecmp(headers[i], "accept: ", 8) != 0)
                        continue;
                registry->accept = g_strdup(headers[i] + 8);
                g_free(headers[i]);
                memmove(&headers[i], &headers[i + 1], (g_strv_length(&headers[i + 1]) + 1) * sizeof(char *));
                break;
        }
        registry->headers = g_steal_pointer(&headers);
        session->registry = registry;
        return true;
}

static void start_setup(struct session *session, uint64_t id, const Fetch__Setup *setup)
{
        g_autoptr(GError) error = NULL;
        if (session->registry != NULL) {
                refuse(session, id, "the session is set up already");
        } else if (!apply_setup(session, setup, &error)) {
                reply_error(session, id, error);
        } else {
                Fetch__Done done = FETCH__DONE__INIT;
                Fetch__Reply reply = FETCH__REPLY__INIT;
                reply.id = id;
                reply.done = &done;
                send_reply(session, &reply);
        }
}

// ---- commands

static void cancel_command(struct session *session, uint64_t id)
{
        if (g_hash_table_remove(session->commands, &id)) {
                g_autoptr(GError) error = NULL;
                error_fail(&error, ERROR_CANCELED, "canceled");
                reply_error(session, id, error);
        }
}

static void obey(struct session *session, const Fetch__Command *command, int *fd)
{
        if (command->setup != NULL) {
                start_setup(session, command->id, command->setup);
        } else if (command->credentials != NULL) {
                take_credentials(session, command->credentials);
        } else if (command->cancel != NULL) {
                cancel_command(session, command->cancel->id);
        } else if (session->registry == NULL) {
                refuse(session, command->id, "the session is not set up");
        } else if (g_hash_table_contains(session->commands, &command->id)) {
                refuse(session, command->id, "the id is in use");
        } else if (command->resolve != NULL) {
                struct command *started = command_new(session, command->id);
                started->job = registry_resolve(session->registry, on_resolved, started);
        } else if (command->get != NULL) {
                start_get(session, command->id, command->get, fd_take(fd));
        } else {
                refuse(session, command->id, "unknown command");
        }
}

static void on_control(void *data)
{
        struct session *session = data;
        for (;;) {
                const uint8_t *bytes;
                size_t n_bytes;
                fd_auto int fd = -1;
                enum records_result result = records_receive(session->control, &bytes, &n_bytes, &fd, NULL);
                if (result == RECORDS_AGAIN)
                        break;
                Fetch__Command *command = result == RECORDS_GOT ? fetch__command__unpack(NULL, n_bytes, bytes) : NULL;
                if (command == NULL) {
                        reactor_stop(session->reactor);
                        return;
                }
                obey(session, command, &fd);
                fetch__command__free_unpacked(command, NULL);
        }
        if (!records_flush(session->control, NULL))
                reactor_stop(session->reactor);
        reactor_watch_change(
                session->watch, CURL_WAIT_POLLIN | (records_has_unsent(session->control) ? CURL_WAIT_POLLOUT : 0));
}

struct session *session_new(struct reactor *reactor, int control_fd, const char *scratch_dir)
{
        struct session *session = g_new0(struct session, 1);
        session->reactor = reactor;
        session->control = records_new(control_fd, MAX_COMMAND_BYTES);
        session->watch = reactor_watch_start(reactor, control_fd, CURL_WAIT_POLLIN, on_control, session);
        session->scratch_dir = g_strdup(scratch_dir);
        session->commands = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, command_free);
        session->questions = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_array_unref);
        return session;
}

void session_free(struct session *session)
{
        g_hash_table_unref(session->commands);
        if (session->registry != NULL)
                registry_free(session->registry);
        g_hash_table_unref(session->questions);
        reactor_watch_stop(session->watch);
        records_free(session->control);
        g_free(session->scratch_dir);
        g_free(session);
}
