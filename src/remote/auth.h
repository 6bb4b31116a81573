// SPDX-License-Identifier: Apache-2.0
//
// Authorization at registries: bearer tokens (the distribution project's token and OAuth2 flows) and basic. What works
// for a host is kept: its challenge, its credentials and a token per scope. Threads: one.
#pragma once

#include "remote/http.h"

struct auth;
struct auth_credentials {
        const char *username; // "" with a secret: that is a refresh token
        const char *secret;
        const char *header; // a whole Authorization header, or ""
};

typedef void (*auth_credentials_fn)(void *data, const struct auth_credentials *credentials, const GError *error);
struct auth_asker {
        // Asks for the credentials of a host; answer comes once, later. NULL: there is nobody to ask.
        void (*ask)(void *data, const char *host, const char *const *challenges, auth_credentials_fn answer,
                void *answer_data);
        void *data;
};

struct auth *auth_new(struct reactor *reactor, const char *user_agent, const struct auth_asker *asker);
void auth_free(struct auth *auth);
DEFINE_AUTO(auth, auth_free)

// What a request to host needs; tls and headers are those of the host's requests.
struct auth_target {
        const char *host;  // HOST[:PORT]
        const char *scope; // "repository:library/alpine:pull"
        struct http_tls tls;
        const char *const *headers;
};

// header: the value for Authorization, NULL: none is needed as far as we know. Called once, maybe within the call.
typedef void (*auth_header_fn)(void *data, const char *header, const GError *error);
void auth_authorize(struct auth *auth, const struct auth_target *target, auth_header_fn done, void *data);

// A request was answered with 401 and these challenges. sent: it had carried our header, which is thus worth nothing.
// retry: another try may do better. error: it will not (UNAUTHENTICATED). Neither: we know no such scheme.
typedef void (*auth_challenged_fn)(void *data, bool retry, const GError *error);
void auth_challenged(struct auth *auth, const struct auth_target *target, const struct http_response *response,
        bool sent, auth_challenged_fn done, void *data);
