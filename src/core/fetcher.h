// SPDX-License-Identifier: Apache-2.0
//
// The daemon's side of skiff-fetch: one process that talks to one registry for one pull. Everything is asynchronous;
// results come once, later, on the strand. Threads: the strand that it was made with.
#pragma once

#include "base/auto.h"
#include "base/error.h"

#include "skiff/fetch.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

struct cancel;
struct fetcher;
struct lanes;
struct loop;
struct strand;

struct fetcher_handler {
        // The registry wants a login: fetcher_credentials answers, once per host. NULL: nobody can be asked.
        void (*on_credentials)(void *data, const char *host, const char *const *challenges);
        // Last callback: the process has ended; every call has been answered.
        void (*on_end)(void *data);
};

struct fetcher_options {
        struct loop *loop;
        struct lanes *lanes;
        struct strand *strand;
        const char *program;       // full path of skiff-fetch (plugin_host_program)
        uint32_t worker_uid;       // 0: the user _skiff, else 64000
        const Fetch__Setup *setup; // ask_credentials is filled in
        const struct fetcher_handler *handler;
        void *data;
};

// NULL: it could not be started.
struct fetcher *fetcher_start(const struct fetcher_options *options, GError **error);
// Ends the process: calls under way fail with reason (NULL: CANCELED), then on_end comes.
void fetcher_stop(struct fetcher *fetcher, const GError *reason);
// After on_end.
void fetcher_free(struct fetcher *fetcher);

// All of them checked: a digest that is one, a size that is not negative, texts within limits. Errors: as skiff-fetch
// says (NOT_FOUND, UNAUTHENTICATED, …), UNAVAILABLE if it died.
typedef void (*fetcher_resolved_fn)(void *data, const Fetch__Resolved *resolved, const GError *error);
void fetcher_resolve(struct fetcher *fetcher, fetcher_resolved_fn done, void *data);

// The body goes to fd (taken), from offset on; done comes after fd was closed at the other end.
typedef void (*fetcher_done_fn)(void *data, const Fetch__Done *result, const GError *error);
void fetcher_get(struct fetcher *fetcher, const Fetch__Get *get, int fd, fetcher_done_fn done, void *data);

void fetcher_credentials(struct fetcher *fetcher, const Fetch__Credentials *credentials);
