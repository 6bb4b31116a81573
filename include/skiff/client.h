// SPDX-License-Identifier: Apache-2.0
//
// A connection to skiffd (or containerd, whose API it is), in one namespace. All calls block until the daemon has
// answered; several threads may call at once. A thread of the client's own does the input and output.
//
// Ownership: handles and lists that a function returns are the caller's and go with their _free; the client must
// outlive the handles that were made with it. Strings that are passed in are copied; strings in a list live as long as
// the list. Threads: any, except where said. No function reads the environment, changes signal dispositions or prints.
#pragma once

#include <skiff/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct skiff_client;

// NULL: not set, as in every options struct; a struct of zeros is all defaults.
struct skiff_client_options {
        const char *address;         // socket: a path, or unix://PATH; default /run/skiff/skiff.sock
        const char *name_space;      // default "default"
        unsigned connect_timeout_ms; // 0: 10 s
};

#define SKIFF_DEFAULT_ADDRESS "/run/skiff/skiff.sock"
#define SKIFF_DEFAULT_NAMESPACE "default"

// options may be NULL. UNAVAILABLE: nobody listens there; PERMISSION_DENIED; NOT_FOUND: no such socket.
struct skiff_client *skiff_client_connect(const struct skiff_client_options *options, struct skiff_error **error);
// NULL is fine. Not while another thread is in a call.
void skiff_client_free(struct skiff_client *client);
// Breaks off: every call that waits, in whichever thread, and every later one fails with CANCELED. For a client that is
// about to be freed; the daemon may or may not have done what was asked.
void skiff_client_interrupt(struct skiff_client *client);
const char *skiff_client_namespace(const struct skiff_client *client);
const char *skiff_client_address(const struct skiff_client *client);

// This library's version, "MAJOR.MINOR.PATCH".
const char *skiff_version(void);

struct skiff_daemon_version {
        char version[64], revision[64];
};
bool skiff_daemon_version(
        struct skiff_client *client, struct skiff_daemon_version *ret_version, struct skiff_error **error);

// A key and a value, as in labels.
struct skiff_pair {
        const char *key, *value;
};

// ---- namespaces: names under which everything else lives, one tenant not seeing another's

struct skiff_namespaces;
// All of them, sorted by name.
struct skiff_namespaces *skiff_namespaces_list(struct skiff_client *client, struct skiff_error **error);
size_t skiff_namespaces_count(const struct skiff_namespaces *list);
const char *skiff_namespaces_name(const struct skiff_namespaces *list, size_t index);
void skiff_namespaces_free(struct skiff_namespaces *list);
// ALREADY_EXISTS; INVALID_ARGUMENT: not an identifier.
bool skiff_namespace_create(struct skiff_client *client, const char *name, struct skiff_error **error);
// FAILED_PRECONDITION: still in use; NOT_FOUND.
bool skiff_namespace_remove(struct skiff_client *client, const char *name, struct skiff_error **error);

#ifdef __cplusplus
}
#endif
